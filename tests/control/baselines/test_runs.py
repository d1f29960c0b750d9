"""What holds of every baseline as a run: resumed to the bit, steps counted, no true reward seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.baselines.bc import BCConfig, Cloning, bc
from irl_align.control.baselines.iq_learn import IQLearnConfig, iq_learn
from irl_align.control.baselines.sqil import SQILConfig, sqil
from irl_align.control.config import DemonstrationConfig, EnvironmentConfig
from irl_align.control.evaluating import ReturnEvaluator
from irl_align.control.networks.numpy_actor import load_actor
from irl_align.control.sac.improvement import SoftActorCritic
from irl_align.core.config import load_config
from irl_align.core.errors import UserError

# name -> configuration, function, settings
RUNS = {
    "bc": (BCConfig, bc, {"epochs": 7, "epochs_per_round": 2, "batch_size": 20, "l2": 1e-3}),
    "bc-mse": (BCConfig, bc, {"epochs": 4, "epochs_per_round": 1, "loss": "mse"}),
    "sqil": (SQILConfig, sqil, {}),
    "iq-value": (IQLearnConfig, iq_learn, {}),
    "iq-v0": (IQLearnConfig, iq_learn, {"loss": "v0", "target": True, "squared": "expert"}),
}
ONLINE = ("sqil", "iq-value")


@pytest.fixture(scope="module", params=RUNS)
def method(request):
    return RUNS[request.param]


@pytest.fixture(scope="module")
def whole(method, tiny, demonstrations, outcome, tmp_path_factory):
    """A run that nothing interrupted."""
    kind, run, settings = method
    home = tmp_path_factory.mktemp("whole")
    return outcome(run(tiny(kind, demonstrations, home / "run", **settings)))


VERBS = {
    "policy": [(Cloning, "improve"), (SoftActorCritic, "improve")],
    "evaluate": [(ReturnEvaluator, "evaluate")],
}


@pytest.mark.parametrize("phase", VERBS)
@pytest.mark.parametrize("save_every", [1, 2])
def test_killed_in_any_phase_ends_as_an_unbroken_run(
    method, whole, tiny, demonstrations, outcome, killed, tmp_path, phase, save_every
):
    kind, run, settings = method
    config = tiny(kind, demonstrations, tmp_path / "run", save_every=save_every, **settings)
    killed(lambda: run(config), VERBS[phase], round=2)
    flat, history = outcome(run(config))
    assert torch.equal(flat, whole[0])
    assert history == whole[1]


def test_the_seed_decides(method, whole, tiny, demonstrations, outcome):
    kind, run, settings = method
    same, other = (
        outcome(run(tiny(kind, demonstrations, seed=seed, **settings), keep=False))[0]
        for seed in (0, 1)
    )
    assert torch.equal(same, whole[0]) and not torch.equal(other, whole[0])


def test_the_true_reward_is_read_by_reports_only(
    method, whole, tiny, demonstrations, outcome, registered
):
    kind, run, settings = method
    environment = EnvironmentConfig(name="tests/Poisoned-v0")
    poisoned = run(tiny(kind, demonstrations, environment=environment, **settings), keep=False)
    assert torch.equal(outcome(poisoned)[0], whole[0])
    assert np.isnan(poisoned.history[-1]["eval/return"]) and whole[1][-1]["eval/return"] < 0


def test_the_demonstrations_decide(method, whole, tiny, demonstrations, outcome):
    kind, run, settings = method
    fewer = DemonstrationConfig(path=demonstrations, count=1)
    found = outcome(run(tiny(kind, "", demonstrations=fewer, **settings), keep=False))[0]
    assert not torch.equal(found, whole[0])


def test_the_saved_actor_is_the_policy(method, tiny, demonstrations, tmp_path):
    kind, run, settings = method
    result = run(tiny(kind, demonstrations, tmp_path / "run", **settings))
    last = tmp_path / "run" / "rounds" / f"{len(result.history) - 1:04d}" / "policy" / "actor.npz"
    seen = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    mine = result.policy.agent.acting.deterministic()(seen)
    np.testing.assert_array_equal(load_actor(last).deterministic()(seen), mine)
    assert "eval/return" in result.history[-1]


@pytest.mark.parametrize("name", ONLINE)
@pytest.mark.parametrize("absorbing", [False, True])
def test_every_step_is_counted_once(registered, counted, tiny, name, absorbing):
    registered.clear()
    kind, run, settings = RUNS[name]
    environment = EnvironmentConfig(name="tests/Counter-v0", absorbing=absorbing)
    result = run(tiny(kind, counted, environment=environment, **settings), keep=False)
    learning, *evaluating = [env.taken for env in registered]
    last = result.history[-1]
    assert last["steps/environment"] == learning >= 60
    assert last["steps/evaluation"] == sum(evaluating) > 0
    # What leads to an absorbing state is replayed as that, and never as an end.
    replayed = result.policy.buffer.recent(1000)
    assert replayed.terminated.any() != absorbing
    assert (len(result.policy.buffer) > learning) == absorbing


def test_cloning_takes_no_step_and_ends_with_its_epochs(registered, counted, tiny):
    registered.clear()
    config = tiny(
        BCConfig,
        counted,
        environment=EnvironmentConfig(name="tests/Counter-v0", absorbing=True),
        epochs=7,
        epochs_per_round=2,
    )
    result = bc(config, keep=False)
    learning, *evaluating = [env.taken for env in registered]
    assert learning == 0 and sum(evaluating) == result.history[-1]["steps/evaluation"] > 0
    assert [row["steps/environment"] for row in result.history] == [0] * 4
    assert ["eval/return" in row for row in result.history] == [False, True, False, True]
    # 11 steps in batches of 100: one update an epoch, the seventh in a round of its own.
    assert result.policy.agent.parts.actor_moments.count == 7


def test_the_last_round_is_evaluated_whatever_every_says(tiny, demonstrations):
    config = tiny(BCConfig, demonstrations, epochs=3, epochs_per_round=1)
    history = bc(config, keep=False).history
    assert ["eval/return" in row for row in history] == [False, True, True]


def test_bad_input_is_named_before_anything_runs(method, tiny, counted, tmp_path):
    kind, run, settings = method
    with pytest.raises(UserError, match=r"nowhere\.npz"):
        run(tiny(kind, "nowhere.npz", tmp_path / "run", **settings))
    with pytest.raises(UserError, match=r"Pendulum-v1 has 3 observation"):
        run(tiny(kind, counted, tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "override", "message"),
    [
        (BCConfig, "loss=l1", "loss is 'l1'; it must be one of likelihood, mse"),
        (BCConfig, "epochs=0", "epochs is 0"),
        (BCConfig, "l2=-1", "l2 is -1"),
        (SQILConfig, "sac.batch_size=1", "so 2 or more"),
        (SQILConfig, "episodes=0", "episodes is 0"),
        (SQILConfig, "reward.steps=1", "unknown key reward"),
        (IQLearnConfig, "loss=values", "one of value, value_expert, v0"),
        (IQLearnConfig, "squared=agent", "one of expert, both"),
        (IQLearnConfig, "chi=0", "chi is 0"),
        (IQLearnConfig, "sac.actor_learning_rate=0", "actor_learning_rate is 0"),
    ],
)
def test_bad_values_are_named_with_their_key(kind, override, message):
    with pytest.raises(UserError, match=message):
        load_config(kind, None, ["demonstrations.path=x.npz", override])
