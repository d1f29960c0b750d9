from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from irl_align.control.buffers import ReplayBuffer
from irl_align.control.config import (
    EnvironmentConfig,
    EvaluationConfig,
    ExpertConfig,
    SACConfig,
)
from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.control.offline import recording as module
from irl_align.control.offline.recording import (
    Recorded,
    choose_medium,
    make_datasets,
    record,
    replayed,
    split_rows,
)
from irl_align.control.sac.fixed_reward import train_on_fixed_reward
from irl_align.core.errors import UserError

pytestmark = pytest.mark.usefixtures("registered")


def config(run_dir, **changes) -> ExpertConfig:
    sac = SACConfig(hidden=[8], batch_size=6, capacity=200, update_every=2, compile="never")
    settings = {
        "environment_steps": 70,
        "save_every": 2,
        "environment": EnvironmentConfig(name="tests/Counter-v0"),
        "sac": sac,
        "evaluation": EvaluationConfig(every=0),
    }
    return ExpertConfig(run_dir=str(run_dir), **{**settings, **changes})


@pytest.fixture(scope="module")
def finished(registered, tmp_path_factory):
    """A run on Counter, which pays a_0 + t', and all steps that it took."""
    made = config(tmp_path_factory.mktemp("run") / "run")
    result = train_on_fixed_reward(made)
    return made, result


def test_rows_are_split_where_an_episode_ended(build, trajectories):
    buffer = ReplayBuffer.of(trajectories)
    rows = buffer.all_rows().numpy()
    rewards = np.arange(len(rows), dtype=np.float32)
    found = split_rows(rows, rewards, buffer.layout)
    assert [len(t) for t in found.trajectories] == [3, 5, 2]
    for mine, other in zip(found.trajectories, trajectories, strict=True):
        np.testing.assert_array_equal(mine.observations, other.observations)
        np.testing.assert_array_equal(mine.actions, other.actions)
        assert (mine.terminated, mine.truncated) == (other.terminated, other.truncated)
    np.testing.assert_array_equal(np.concatenate(found.rewards), rewards)


def test_so_many_steps_are_so_many(build, trajectories):
    whole = Recorded(list(trajectories), [np.arange(len(t)) for t in trajectories])
    found = whole.cut(7)
    assert found.steps == 7 and [len(t) for t in found.trajectories] == [3, 4]
    assert not found.trajectories[1].terminated and found.trajectories[1].truncated
    assert [len(paid) for paid in found.rewards] == [3, 4]
    assert whole.cut(3).steps == 3 and len(whole.cut(3).trajectories) == 1
    assert whole.cut(99).steps == 10


def pays(trajectories, rewards) -> None:
    for trajectory, paid in zip(trajectories, rewards, strict=True):
        wanted = trajectory.actions[:, 0] + trajectory.observations[1:, 1]
        np.testing.assert_allclose(paid, wanted, rtol=1e-6)


def test_a_replay_holds_all_that_was_seen_until_then(finished):
    made, result = finished
    found = replayed(made, 3)
    assert found.steps == result.history[3]["steps/environment"] < result.policy.steps
    pays(found.trajectories, found.rewards)
    rows = result.policy.buffer.all_rows()[: found.steps]
    again = ReplayBuffer.of(module.Trajectories(found.trajectories)).all_rows()
    assert torch.equal(again, rows)


def test_a_replay_that_forgot_is_refused(tmp_path):
    sac = SACConfig(hidden=[8], batch_size=6, capacity=30, update_every=2, compile="never")
    made = config(tmp_path / "run", sac=sac)
    train_on_fixed_reward(made)
    with pytest.raises(UserError, match="keeps the last 30 of"):
        replayed(made, 1)


@pytest.mark.parametrize(("share", "wanted"), [(0.2, 1), (0.5, 3), (0.9, 5)])
def test_the_first_policy_that_is_good_enough_is_medium(finished, monkeypatch, share, wanted):
    """Rounds 1, 3, 5, ... are committed; their policies return 3, 6, 9.5, and later ones 10."""
    made, _ = finished
    returns = {"random": 0.0, 1: 3.0, 3: 6.0, 5: 9.5}

    def told(policy, *arguments, **options):
        name = policy if policy in returns else None
        return Recorded([], [np.array([returns.get(name, 10.0)])])

    monkeypatch.setattr(module, "record", told)
    monkeypatch.setattr(module, "_actor", lambda run, round, seed: round)
    monkeypatch.setattr(module, "RandomPolicy", lambda *_: "random")
    found = choose_medium(made, share, episodes=1)
    assert found.round == wanted
    assert (found.random, found.expert) == (0, 10)


def test_data_sets_and_what_they_say_of_themselves(finished, tmp_path):
    made, result = finished
    medium = module.Medium(3, 1.0, 2.0, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "choose_medium", lambda *_, **__: medium)
        written = dict(make_datasets(made, tmp_path / "data", steps=23))
    assert [path.stem for path in written] == ["medium", "medium-replay", "medium-expert"]
    loaded = {path.stem: load_demonstrations(path) for path in written}
    assert loaded["medium"].report.steps == 23
    assert loaded["medium-expert"].report.steps == 46
    assert loaded["medium-replay"].report.steps == result.history[3]["steps/environment"]
    first = loaded["medium"].trajectories[0].observations
    both = loaded["medium-expert"].trajectories
    np.testing.assert_array_equal(both[0].observations, first)
    for found in loaded.values():
        pays(found.trajectories, [found.true_rewards.of(k) for k in range(len(found.trajectories))])
        said = found.report.metadata
        assert said["environment"] == "tests/Counter-v0" and said["rounds"]["medium"] == 3
        assert said["returns"] == {"medium": 1, "expert": 2, "random": 0}
        assert len(said["policies"]["medium"]) == 64 and "numpy" in json.dumps(said["versions"])


def test_recorded_steps_and_their_rewards_belong_together(finished):
    made, _ = finished

    def policy(observations):
        return np.tile(np.float32([0.25, -1]), (len(observations), 1))

    found = record(policy, made, 25, seed=0)
    assert found.steps == 25
    pays(found.trajectories, found.rewards)
    assert len(record(policy, made, 0, seed=0, episodes=3).trajectories) == 3
