"""Choosing, reporting and saving; the file formats and bad input have tests of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.control.true_rewards import TrueRewards
from irl_align.core.errors import UserError

LENGTHS, ENDS = (3, 5, 2, 4), (False, True, False, True)


@pytest.fixture
def saved(build, tmp_path):
    trajectories = build.trajectories(LENGTHS, ENDS)
    rewards = TrueRewards([np.arange(n, dtype=float) + n for n in LENGTHS])
    path = tmp_path / "demos.npz"
    save_demonstrations(path, trajectories, rewards, environment="Test-v0", seed=4)
    return path


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.actions, b.actions)
        assert (a.terminated, a.truncated) == (b.terminated, b.truncated)


def test_round_trip(saved, build):
    loaded = load_demonstrations(saved)
    assert_same(loaded.trajectories, build.trajectories(LENGTHS, ENDS))
    report = loaded.report
    assert (report.found, report.usable, report.chosen) == (4, 4, [0, 1, 2, 3])
    assert (report.steps, report.lengths, report.terminated) == (14, list(LENGTHS), 2)
    assert (report.observation_dim, report.action_dim) == (4, 2)
    assert report.returns == [12.0, 35.0, 5.0, 22.0]
    np.testing.assert_allclose(loaded.true_rewards.returns(), report.returns)
    assert report.metadata["environment"] == "Test-v0" and "numpy" in report.metadata["versions"]
    assert not report.warnings and not report.unused_keys and len(report.sha256) == 64
    assert json.loads(json.dumps(report.as_dict()))["lengths"] == list(LENGTHS)


def test_the_same_content_is_the_same_file(saved, build, tmp_path):
    again = tmp_path / "again.npz"
    loaded = load_demonstrations(saved)
    save_demonstrations(
        again, loaded.trajectories, loaded.true_rewards, environment="Test-v0", seed=4
    )
    assert again.read_bytes() == saved.read_bytes()


def test_what_cannot_be_saved(saved, build, tmp_path):
    trajectories = build.trajectories()
    with pytest.raises(UserError, match=r"saved as \.npz"):
        save_demonstrations(tmp_path / "demos.npy", trajectories)
    with pytest.raises(UserError, match="make it first"):
        save_demonstrations(tmp_path / "deep" / "demos.npz", trajectories)
    with pytest.raises(ValueError, match="do not belong"):
        save_demonstrations(tmp_path / "x.npz", trajectories, TrueRewards([[1.0]] * 3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demos.npz"]


def test_the_first_k(saved, build):
    everything = build.trajectories(LENGTHS, ENDS)
    loaded = load_demonstrations(saved, count=2)
    assert_same(loaded.trajectories, everything.select([0, 1]))
    assert loaded.report.returns == [12.0, 35.0] and len(loaded.true_rewards) == 2
    assert loaded.report.found == 4


def test_a_seeded_choice(saved, build):
    everything = build.trajectories(LENGTHS, ENDS)
    chosen = {}
    for seed in range(20):
        loaded = load_demonstrations(saved, count=2, seed=seed)
        chosen[seed] = tuple(loaded.report.chosen)
        assert_same(loaded.trajectories, everything.select(chosen[seed]))
        assert loaded.report.returns == [[12.0, 35.0, 5.0, 22.0][i] for i in chosen[seed]]
    assert len(set(chosen.values())) > 3
    assert all(a < b for a, b in chosen.values())  # in the file's order, without repeats
    assert load_demonstrations(saved, count=2, seed=0).report.chosen == list(chosen[0])


@pytest.mark.parametrize(("count", "message"), [(0, "asks for no"), (5, "4 usable")])
def test_counts_that_cannot_be_met(saved, count, message):
    with pytest.raises(UserError, match=message):
        load_demonstrations(saved, count=count)


def columns_of(path):
    with np.load(path) as archive:
        return dict(archive)


@pytest.mark.parametrize("poison", ["large", "nan", "absent"])
def test_rewards_never_reach_the_trajectories(saved, tmp_path, poison):
    """The leak test: whatever the file says about rewards, learners see the same."""
    columns = columns_of(saved)
    rewards = columns.pop("true_rewards")
    if poison != "absent":
        columns["true_rewards"] = rewards * (1e6 if poison == "large" else np.nan)
    np.savez(tmp_path / "other.npz", **columns)
    clean, poisoned = load_demonstrations(saved), load_demonstrations(tmp_path / "other.npz")
    assert_same(poisoned.trajectories, clean.trajectories)
    assert (poisoned.report.returns is None) == (poison != "large")
    assert (poisoned.true_rewards is None) == (poison != "large")
    assert bool(poisoned.report.warnings) == (poison == "nan")


def environment(**changes) -> Spaces:
    facts = {
        "environment": "Test-v0",
        "observation_dim": 4,
        "action_low": np.full(2, -1, np.float32),
        "action_high": np.full(2, 1, np.float32),
        "max_episode_steps": 5,
    }
    return Spaces(**{**facts, **changes})


def test_a_fitting_environment_is_silent(saved):
    assert not load_demonstrations(saved, environment=environment()).report.warnings


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"max_episode_steps": 4}, "1 trajectories are longer than Test-v0's limit of 4"),
        ({"environment": "Other-v0"}, "recorded in Test-v0, to be used with Other-v0"),
        ({"action_high": np.full(2, 0.1, np.float32)}, "outside of Test-v0's box"),
    ],
)
def test_what_is_odd_for_an_environment_is_said(saved, changes, warning):
    report = load_demonstrations(saved, environment=environment(**changes)).report
    assert len(report.warnings) == 1 and warning in report.warnings[0]
    assert f"warning    {report.warnings[0]}" in report.render()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation_dim": 17}, "rows of 4 numbers but Test-v0 has 17"),
        ({"action_low": np.zeros(3, np.float32)}, "rows of 2 numbers but Test-v0 has 3"),
        ({"observation_dim": 3}, "absorbing flag"),
    ],
)
def test_what_cannot_be_of_this_environment_is_refused(saved, changes, message):
    with pytest.raises(UserError, match=message) as error:
        load_demonstrations(saved, environment=environment(**changes))
    assert "demos.npz" in str(error.value) and "trajectory 0" in str(error.value)


def test_old_ants_get_a_hint():
    old = [{"observations": np.zeros((3, 111)), "actions": np.zeros((2, 8)), "terminated": True}]
    ant = environment(environment="Ant-v5", observation_dim=105,
                      action_low=-np.ones(8, np.float32))  # fmt: skip
    with pytest.raises(UserError, match="v5 has 105"):
        load_demonstrations(old, environment=ant)


def test_repeats_are_said(build):
    trajectory = build.trajectory(3, 0)
    episodes = [trajectory, build.trajectory(3, 1), trajectory]
    report = load_demonstrations(episodes).report
    assert report.warnings == ["1 trajectories repeat an earlier one to the bit (kept)"]


def test_a_trajectory_is_an_episode_too(trajectories):
    loaded = load_demonstrations(trajectories)
    assert_same(loaded.trajectories, trajectories)
    assert loaded.report.source == "the episodes given" and loaded.report.sha256 is None


def test_the_report_for_people(saved):
    text = load_demonstrations(saved, count=3).report.render()
    assert "3 of 4 trajectories, 10 steps" in text
    assert "4 an observation, 2 an action" in text
    assert "rewards (as true_rewards)" in text
    assert "returns    mean 17.3" in text and "for reports only" in text


def test_discrete_indices_are_checked(build):
    cart = Spaces("Cart-v0", 1, np.zeros(1, np.float32), np.ones(1, np.float32), 9, 2)
    trajectory = Trajectory(np.arange(4)[:, None], [[0], [1], [2]], True, False)
    report = load_demonstrations([trajectory], environment=cart).report
    assert report.warnings == ["1 actions are none of Cart-v0's indices 0 to 1"]


def test_the_other_ants_actions_are_put_into_the_order_of_this_ones_motors(tmp_path):
    from irl_align.control.environments.ant_model import actuator_names

    observations = np.zeros((3, 111), np.float32)
    actions = np.tile(np.arange(8, dtype=np.float32) / 10, (2, 1))
    path = tmp_path / "custom.npz"
    recorded = Trajectories([Trajectory(observations, actions, False, True)])
    save_demonstrations(path, recorded, environment="irl_align/CustomAnt-v0")
    box = np.full(8, -1, np.float32), np.full(8, 1, np.float32)

    def loaded(name):
        found = load_demonstrations(path, environment=Spaces(name, 111, *box))
        return found.trajectories[0].actions[0], " ".join(found.report.warnings)

    there, said = loaded("irl_align/DisabledAnt-v0")
    names = actuator_names("CustomAnt")
    for motor, value in zip(actuator_names("DisabledAnt"), there, strict=True):
        assert value == pytest.approx(names.index(motor) / 10)
    assert "recorded in irl_align/CustomAnt-v0" in said
    assert "order of its motors: [2, 3, 4, 5, 6, 7, 0, 1]" in said
    for same in ("irl_align/CustomAnt-v0", "Ant-v5"):
        kept, said = loaded(same)
        np.testing.assert_array_equal(kept, actions[0])
        assert "motors" not in said
