"""What holds of every learner from fixed data, and of each yardstick by itself."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from irl_align.control.baselines import cql as cql_module
from irl_align.control.baselines.cql import CQLConfig, cql
from irl_align.control.baselines.value_dice import Compared, Matching, value_dice
from irl_align.control.baselines.value_dice_learner import (
    ACTOR,
    ValueDICE,
    ValueDICEConfig,
    orthogonality,
)
from irl_align.control.bicql.config import CriticConfig, ProposalConfig
from irl_align.control.bicql.judging import Judged
from irl_align.control.config import DemonstrationConfig, EnvironmentConfig, EvaluationConfig
from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.fixed_data import FixedDataConfig
from irl_align.control.methods import FROM_FIXED_DATA, method
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.networks.numpy_actor import load_actor
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.control.transitions import Transitions
from irl_align.control.true_rewards import TransitionRewards, TrueRewards
from irl_align.core.config import load_config
from irl_align.core.errors import UserError

pytestmark = pytest.mark.usefixtures("registered")

OWN = {
    "cql": {
        "critic": CriticConfig(hidden=[8], batch_size=6, steps=3, compile="never"),
        "proposals": ProposalConfig(uniform=3, cloned=2, near=2, clone_hidden=[4], clone_steps=5),
    },
    "value_dice": {"hidden": [8], "batch_size": 6, "steps": 3, "actor_learning_rate": 1e-3},
}
VERBS = {
    "cql": [(cql_module.TrueRewardQ, "improve"), (Judged, "evaluate")],
    "value_dice": [(Matching, "improve"), (Compared, "evaluate")],
}


def tiny(name, path, run_dir="unused", **changes):
    sections = {
        "environment": EnvironmentConfig(name="Pendulum", max_episode_steps=12),
        "demonstrations": DemonstrationConfig(path=path),
        "evaluation": EvaluationConfig(every=2, episodes=2),
        "rounds": 4,
        "save_every": 1,
        **OWN[name],
    }
    return method(name).config(run_dir=str(run_dir), **{**sections, **changes})


def numbers(learner) -> torch.Tensor:
    parts = [learner.actor, learner.nu] if isinstance(learner, ValueDICE) else []
    parts = parts or [learner.parts.critic, learner.parts.target]
    return torch.cat([p.detach().flatten() for part in parts for p in part.parameters()])


def outcome(result):
    history = [
        {k: v for k, v in row.items() if not k.startswith("time/")} for row in result.history
    ]
    return numbers(result.policy), history


@pytest.mark.parametrize("name", FROM_FIXED_DATA)
def test_every_method_has_one_shape(name):
    found = method(name)
    assert issubclass(found.config, FixedDataConfig)
    assert load_config(found.config, None, ["demonstrations.path=x"]).run_dir == f"runs/{name}"
    parameters = dict(inspect.signature(found.run).parameters)
    for of_some in ("true_rewards", "model"):
        parameters.pop(of_some, None)
    assert list(parameters) == ["config", "data", "loggers", "keep", "trainer"]
    assert found.run.__name__ == name and found.run.__doc__


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("name", OWN)
def test_killed_in_any_phase_ends_as_an_unbroken_run(name, demonstrations, killed, tmp_path, phase):
    run = method(name).run
    flat, history = outcome(run(tiny(name, demonstrations), keep=False))
    config = tiny(name, demonstrations, tmp_path / "run")
    killed(lambda: run(config), [VERBS[name][phase]], round=1)
    again, rows = outcome(run(config))
    assert rows == history
    assert torch.equal(again, flat)
    assert {"eval/return", "eval/demo_log_prob", "steps/updates"} <= history[-1].keys()


def with_rewards(path, target, rewards) -> str:
    found = load_demonstrations(path)
    columns = [np.asarray(rewards(t), dtype=float) for t in found.trajectories]
    save_demonstrations(target, found.trajectories, TrueRewards(columns))
    return str(target)


def test_only_cql_looks_at_rewards_and_says_so(demonstrations, tmp_path):
    poison = with_rewards(demonstrations, tmp_path / "p.npz", lambda t: 1e3 * t.actions[:, 0])
    for name in OWN:
        run = method(name).run
        plain, other = (run(tiny(name, p), keep=False) for p in (demonstrations, poison))
        same = torch.equal(numbers(plain.policy), numbers(other.policy))
        assert same == (name != "cql")


def test_cql_needs_rewards(demonstrations, tmp_path):
    bare = tmp_path / "bare.npz"
    save_demonstrations(bare, load_demonstrations(demonstrations).trajectories)
    with pytest.raises(UserError, match=r"bare\.npz: no rewards for every step"):
        cql(tiny("cql", str(bare)), keep=False)
    data = Transitions.of(load_demonstrations(demonstrations).trajectories)
    with pytest.raises(UserError, match="give true_rewards"):
        cql(tiny("cql", demonstrations), data=data, keep=False)
    few = TransitionRewards(np.zeros(3, np.float32))
    with pytest.raises(UserError, match="3 true rewards for 48 transitions"):
        cql(tiny("cql", demonstrations), data=data, true_rewards=few, keep=False)


def test_cql_from_a_file_and_from_memory(demonstrations):
    found = load_demonstrations(demonstrations)
    rewards = TransitionRewards.of(found.true_rewards)
    data = Transitions.of(found.trajectories)
    from_file = cql(tiny("cql", demonstrations), keep=False)
    given = cql(tiny("cql", demonstrations), data=data, true_rewards=rewards, keep=False)
    assert torch.equal(numbers(from_file.policy), numbers(given.policy))


def test_cql_learns_what_is_rewarded(demonstrations, tmp_path):
    """Two runs whose rewards differ in sign: act to the right, act to the left."""
    means = []
    for sign in (1, -1):
        path = with_rewards(
            demonstrations, tmp_path / f"{sign}.npz", lambda t, s=sign: s * t.actions[:, 0]
        )
        config = tiny(
            "cql",
            path,
            critic=CriticConfig(
                hidden=[32],
                batch_size=32,
                steps=100,
                compile="never",
                learning_rate=3e-3,
                gamma=0.5,
            ),
            reward_scale=3.0,
        )
        config.conservative.alpha = 0.1
        result = cql(config, keep=False)
        states = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
        means.append(result.policy.acting.stochastic(0)(states).mean())
    assert means[0] > 0.4 and means[1] < -0.4


def test_value_dice_makes_the_demonstrations_likely(demonstrations, tmp_path):
    """A demonstrator with a rule."""
    rule = Trajectories(
        Trajectory(t.observations, 1.5 * np.tanh(t.observations[:-1, :1]), False, True)
        for t in load_demonstrations(demonstrations).trajectories
    )
    path = str(tmp_path / "rule.npz")
    save_demonstrations(path, rule)
    settings = {"hidden": [32], "batch_size": 48, "steps": 100, "gamma": 0.9}
    early, late = (
        value_dice(tiny("value_dice", path, rounds=rounds, **settings), keep=False)
        for rounds in (1, 8)
    )
    before, after = (r.history[-1]["eval/demo_log_prob"] for r in (early, late))
    assert after > before + 0.5
    states = torch.from_numpy(rule.steps().observations)
    modes = late.policy.acting.deterministic()(states.numpy())
    assert np.corrcoef(modes[:, 0], rule.steps().actions[:, 0])[0, 1] > 0.8


def test_value_dice_acts_on_observations_as_they_are(demonstrations, tmp_path):
    result = value_dice(tiny("value_dice", demonstrations, tmp_path / "run"))
    learner = result.policy
    states = 5 + 3 * np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    scaled = (torch.from_numpy(states) - learner.mean) / learner.spread
    wanted = learner.actor.mode(scaled).detach()
    np.testing.assert_allclose(learner.acting.deterministic()(states), wanted, atol=1e-4)
    saved = load_actor(tmp_path / "run/rounds/0003/policy" / ACTOR)
    np.testing.assert_allclose(saved.deterministic()(states), wanted, atol=1e-4)


def test_value_dice_takes_demonstrations_alone(demonstrations):
    with pytest.raises(ValueError, match="demonstrations alone"):
        tiny("value_dice", demonstrations, dataset=DemonstrationConfig(path="x"))
    data = Transitions.of(load_demonstrations(demonstrations).trajectories)
    with pytest.raises(UserError, match="demonstrations alone"):
        value_dice(tiny("value_dice", demonstrations), data=data, keep=False)


def test_orthogonality_counts_overlaps_of_different_units(spaces):
    actor = SquashedGaussianActor(spaces, [3])
    with torch.no_grad():
        for p in actor.parameters():
            p.zero_()
        first = actor.layers[0].weight  # [3, 4]
        first.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0]]))
    assert orthogonality(actor) == 0
    with torch.no_grad():
        first[1, 0] = 5.0
    assert orthogonality(actor).item() == pytest.approx(2 * 25)


def test_configurations_are_those_of_their_methods():
    assert method("cql").config is CQLConfig
    assert method("value_dice").config is ValueDICEConfig
    with pytest.raises(UserError, match="did you mean value_dice"):
        method("valuedice")
