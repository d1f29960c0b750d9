from __future__ import annotations

import ast
import json
import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import irl_align.control
from irl_align.control import offline_ml_irl as module
from irl_align.control.assembly import world
from irl_align.control.config import (
    DemonstrationConfig,
    EnvironmentConfig,
    RewardConfig,
    SACConfig,
)
from irl_align.control.evaluating import ReturnEvaluator
from irl_align.control.networks.numpy_actor import load_actor
from irl_align.control.networks.rewards import load_reward
from irl_align.control.offline.comparison import InTheModel
from irl_align.control.offline.config import ComparisonConfig, OfflineMLIRLConfig
from irl_align.control.offline.improvement import ModelBasedSoftActorCritic
from irl_align.control.offline.preparing import _check_ends
from irl_align.control.offline_ml_irl import ConservativeLikelihoodStep, offline_ml_irl
from irl_align.control.spaces import Spaces
from irl_align.control.world_model.config import WorldModelConfig
from irl_align.control.world_model.model import WorldModel
from irl_align.core.config import load_config
from irl_align.core.errors import UserError

pytestmark = pytest.mark.usefixtures("registered")

ROOM = Path(irl_align.control.__file__).parent
TIMES = {"time/sample", "time/reward", "time/policy", "time/evaluate"}


def outcome(result):
    """All that a run ends with, as numbers."""
    learner, reward = result.policy, result.reward
    index = learner.buffer.latest_index(10**6)
    tensors = [
        *learner.agent.actor.parameters(),
        *learner.agent.parts.critic.parameters(),
        *learner.agent.parts.target.parameters(),
        learner.agent.parts.log_alpha,
        *reward.net.parameters(),
        learner.buffer.rows(index),
        learner.buffer.penalties[index],
    ]
    if learner.average is not None:
        tensors += list(learner.average.parameters())
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    history = [{k: v for k, v in row.items() if k not in TIMES} for row in result.history]
    return flat, history


EVERYTHING = {
    "sac": SACConfig(
        hidden=[8],
        batch_size=10,
        capacity=100,
        update_every=2,
        compile="never",
        average_over=10,
    ),
    "reward": RewardConfig(
        hidden=[8],
        inputs="state_action",
        gradient_penalty=0.1,
        trust_region=0.5,
        average=0.9,
        anneal=True,
        standardised=True,
        columns=[0, 2],
        discount_in_gradient=True,
    ),
    "comparison": ComparisonConfig(start="anywhere", rollouts=5, horizon=6, replay_share=0.5),
}


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Runs that nothing interrupted."""
    home = tmp_path_factory.mktemp("whole")
    return {
        "plain": outcome(offline_ml_irl(tiny(home / "plain"))),
        "all": outcome(offline_ml_irl(tiny(home / "all", **EVERYTHING))),
        "folder": home,
    }


def test_a_standardised_reward_measures_by_the_demonstrations(tiny):
    config = tiny("unused", **EVERYTHING)
    scale = offline_ml_irl(config, keep=False).reward.net.scale
    with world(config) as here:
        steps = here.demonstrations(config.demonstrations).trajectories.steps()
    shown = np.concatenate([steps.observations[:, [0, 2]], steps.actions], axis=1)
    np.testing.assert_allclose(scale, shown.std(axis=0).clip(0.1), rtol=1e-5)


VERBS = {
    "sample": (InTheModel, "sample"),
    "reward": (ConservativeLikelihoodStep, "fit"),
    "policy": (ModelBasedSoftActorCritic, "improve"),
    "evaluate": (ReturnEvaluator, "evaluate"),
}


@pytest.mark.parametrize("kind", ["plain", "all"])
@pytest.mark.parametrize("phase", VERBS)
def test_killed_in_any_phase_ends_as_an_unbroken_run(tiny, whole, killed, tmp_path, phase, kind):
    config = tiny(tmp_path / "run", **(EVERYTHING if kind == "all" else {}))
    killed(lambda: offline_ml_irl(config), [VERBS[phase]], round=1)
    flat, history = outcome(offline_ml_irl(config))
    assert torch.equal(flat, whole[kind][0])
    assert history == whole[kind][1]


def test_killed_while_the_world_model_is_fitted(tiny, whole, killed, tmp_path, monkeypatch):
    config = tiny(tmp_path / "run")

    class Dies:
        def log(self, step, metrics, kind="round"):
            if kind == "world_model" and step == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    killed(lambda: offline_ml_irl(config, loggers=[Dies()]))
    assert not (tmp_path / "run/setup/world_model").exists()
    flat, history = outcome(offline_ml_irl(config))
    assert torch.equal(flat, whole["plain"][0]) and history == whole["plain"][1]
    # Once committed it is not fitted again.
    monkeypatch.setattr("irl_align.control.offline.preparing.fit_world_model", None)
    offline_ml_irl(config)


def test_more_rounds_go_on(tiny, whole, tmp_path):
    offline_ml_irl(tiny(tmp_path / "run", rounds=2))
    flat, _ = outcome(offline_ml_irl(tiny(tmp_path / "run")))
    assert torch.equal(flat, whole["plain"][0])


def test_everything_is_kept(tiny, whole):
    run = whole["folder"] / "plain"
    setup = run / "setup/world_model"
    model = WorldModel.load(setup)
    assert model.facts["environment"] == "Pendulum-v1" and len(model.facts["data"]) == 64
    said = json.loads((setup / "calibration.json").read_text())
    assert said["held_out"]["count"] == 24 and said["expert"]["count"] == 48
    assert 0 <= said["expert_covered"] <= 1
    assert len(json.loads((setup / "fit.json").read_text())["errors"]) == 3
    last = run / "rounds/0003"
    _, facts = load_reward(last / "reward/reward.pt")
    assert facts["environment"] == "Pendulum-v1" and facts["alpha"] > 0
    load_actor(last / "policy/actor.npz")
    manifest = json.loads((last / "manifest.json").read_text())
    assert len(manifest["dataset"]) == len(manifest["demonstrations"]) == 64
    # Only the last round's imagined transitions are kept: none before it can be taken up again.
    assert [p.parts[-3] for p in sorted(run.glob("rounds/*/policy/replay.pt"))] == ["0003"]


def poisoned(path: str, home: Path, value: float) -> str:
    """The same file with other rewards."""
    with np.load(path) as archive:
        columns = {key: archive[key] for key in archive.files}
    columns["true_rewards"] = np.full_like(columns["true_rewards"], value)
    np.savez(home / "poisoned.npz", **columns)
    return str(home / "poisoned.npz")


@pytest.mark.parametrize("value", [np.nan, 1e6])
def test_rewards_of_the_data_set_change_nothing(tiny, whole, swings, tmp_path, value):
    """To the bit, real rows in every batch included."""
    dataset = DemonstrationConfig(path=poisoned(swings, tmp_path, value))
    flat, history = outcome(offline_ml_irl(tiny(dataset=dataset), keep=False))
    assert torch.equal(flat, whole["plain"][0]) and history == whole["plain"][1]


def test_rewards_of_the_demonstrations_change_nothing(tiny, whole, demonstrations, tmp_path):
    path = poisoned(demonstrations, tmp_path, np.nan)
    flat, _ = outcome(
        offline_ml_irl(tiny(demonstrations=DemonstrationConfig(path=path)), keep=False)
    )
    assert torch.equal(flat, whole["plain"][0])


def test_rewards_of_the_environment_are_read_by_reports_only(tiny, whole):
    environment = EnvironmentConfig(name="tests/Poisoned-v0")
    result = offline_ml_irl(tiny(environment=environment), keep=False)
    assert np.isnan(result.history[-1]["eval/return"])
    assert torch.equal(outcome(result)[0], whole["plain"][0])


def test_no_module_of_offline_learning_knows_true_rewards():
    files = [ROOM / "offline_ml_irl.py", *(ROOM / "world_model").glob("*.py")]
    makers = ("recording.py", "true_reward.py")
    files += [p for p in (ROOM / "offline").glob("*.py") if p.name not in makers]
    wrong = [
        f"{path.name} imports {node.module}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").rpartition(".")[2]
        in ("true_rewards", "true_reward", "expert", "recording", "fixed_reward", "mopo")
    ]
    assert not wrong, wrong


def test_the_demonstrations_matter(tiny, whole, swings):
    other = DemonstrationConfig(path=swings, count=4)
    flat, _ = outcome(offline_ml_irl(tiny(demonstrations=other), keep=False))
    assert not torch.equal(flat, whole["plain"][0])


def test_how_many_demonstrations_are_used_is_an_argument(tiny, demonstrations, monkeypatch):
    seen = []

    def spy(reward, expert, agent, **options):
        seen.append(int(expert.trajectory[-1]) + 1)
        return {}

    monkeypatch.setattr(module, "fit_reward", spy)
    for count in (1, 3):
        wanted = DemonstrationConfig(path=demonstrations, count=count)
        offline_ml_irl(tiny(demonstrations=wanted, rounds=1), keep=False)
    assert seen == [1, 3]


def test_a_saved_world_model_is_taken(tiny, whole, tmp_path):
    folder = whole["folder"] / "plain"
    for path in (folder, folder / "setup/world_model"):
        config = tiny(tmp_path / path.name, world_model=WorldModelConfig(path=str(path)))
        flat, _ = outcome(offline_ml_irl(config))
        assert torch.equal(flat, whole["plain"][0])
        assert (tmp_path / path.name / "setup/world_model/world_model.pt").is_file()


def test_ends_that_are_not_the_environment_s_are_warned_of():
    walker = Spaces("Walker2d-v5", 17, -np.ones(6, np.float32), np.ones(6, np.float32))
    with pytest.warns(UserWarning, match=r"30 of 1000 steps .*fixed_horizon=true"):
        _check_ends({"disagreements": 30}, 1_000, walker)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _check_ends({"disagreements": 1}, 1_000, walker)
        _check_ends({"kind": "never"}, 1_000, walker)


def test_an_annealed_reward_slows_down_with_the_rounds(tiny, monkeypatch):
    rates = []

    def spy(reward, *arguments, **options):
        rates.append(reward.optimiser.param_groups[0]["lr"])
        return {}

    monkeypatch.setattr(module, "fit_reward", spy)
    reward = RewardConfig(hidden=[8], learning_rate=0.5, anneal=True)
    offline_ml_irl(tiny(reward=reward), keep=False)
    np.testing.assert_allclose(rates, [0.5, 0.375, 0.25, 0.125])


def test_scores_join_the_returns(tiny, tmp_path):
    table = tmp_path / "references.json"
    table.write_text('{"Pendulum-v1": {"random": -100, "expert": 0}}')
    last = offline_ml_irl(tiny(scores=str(table)), keep=False).history[-1]
    assert last["eval/score"] == pytest.approx(100 + last["eval/return"])
    assert last["steps/environment"] == 0


def test_bad_input_is_named_before_anything_runs(tiny, build, demonstrations, tmp_path):
    from irl_align.control.demonstrations.saving import save_demonstrations

    wide = tmp_path / "wide.npz"
    save_demonstrations(wide, build.trajectories())
    for changes, said in (
        ({"dataset": DemonstrationConfig(path="nowhere.npz")}, r"nowhere\.npz"),
        ({"dataset": DemonstrationConfig(path=str(wide))}, r"Pendulum-v1 has 3 observation"),
        ({"demonstrations": DemonstrationConfig(path=str(wide))}, r"wide\.npz"),
        ({"scores": "d4rl"}, "D4RL has no reference returns for Pendulum-v1"),
    ):
        with pytest.raises(UserError, match=said):
            offline_ml_irl(tiny(tmp_path / "run", **changes))
        assert not (tmp_path / "run").exists()
    gone = WorldModelConfig(path="gone")
    with pytest.raises(UserError, match=r"world_model\.path=gone: no such file"):
        offline_ml_irl(tiny(tmp_path / "run", world_model=gone))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("imagination.penalty=mopo", "one of mopo_default, ensemble_var"),
        ("imagination.real_share=1", "real_share is 1"),
        ("imagination.continued=1", "continued is 1"),
        ("imagination.updates=1001", "no multiple of sac.update_every"),
        ("comparison.start=here", "expert, anywhere, dataset"),
        ("world_model.elites=9", "elites is 9, but there are 7"),
        ("world_model.weight_decay=[1,2]", "2 numbers for 5 layers"),
        ("world_model.holdout=0", "holdout is 0"),
        ("environment.absorbing=true", "absorbing must be false"),
        ("rounds=0", "rounds is 0"),
        ("world_model.memers=3", "did you mean members"),
    ],
)
def test_bad_values_are_named_with_their_key(override, message):
    with pytest.raises(UserError, match=message):
        load_config(OfflineMLIRLConfig, None, ["demonstrations.path=x", "dataset.path=y", override])
