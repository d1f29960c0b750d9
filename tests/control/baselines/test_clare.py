"""CLARE on a model that is written down: a point that its action moves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from irl_align.control.baselines.clare import (
    CLAREConfig,
    Counted,
    Imagination,
    InTheModel,
    clare,
)
from irl_align.control.baselines.clare_objective import (
    ConservativeReward,
    clare_loss,
    clare_weights,
)
from irl_align.control.config import (
    DemonstrationConfig,
    EnvironmentConfig,
    EvaluationConfig,
    RewardConfig,
    SACConfig,
)
from irl_align.control.sac.learner import Learner
from irl_align.control.transitions import Transitions
from irl_align.control.world_model.config import WorldModelConfig
from irl_align.control.world_model.model import WorldModel
from irl_align.core.errors import UserError

pytestmark = pytest.mark.usefixtures("registered")


class Step(NamedTuple):
    next_observations: torch.Tensor
    terminated: torch.Tensor
    penalties: torch.Tensor


class Point:
    """s' = s + a / 10 in every number; it ends beyond 3; unsure as |s| says."""

    def __init__(self, ends: float = 3.0, scale: float = 1.0) -> None:
        self.ends, self.scale, self.asked = ends, scale, []

    def step(self, observations, actions, generator, penalty):
        self.asked.append(penalty)
        following = observations + 0.1 * actions[:, :1]
        unsure = self.scale * observations[:, 0].abs() if penalty else torch.zeros(len(actions))
        return Step(following, following[:, 0].abs() > self.ends, unsure)


def test_weights_by_hand():
    """Two demonstrated pairs of six, one of them too far; three pairs are near."""
    unsure = torch.tensor([0.9, 0.1, 0.2, 0.3, 0.8, 0.5])
    shown = torch.tensor([True, True, False, False, False, False])
    beta, z = clare_weights(unsure, shown, 0.5)
    torch.testing.assert_close(beta, torch.tensor([-3.0, 1, 1, 1, 0, 0]))
    assert z == pytest.approx(1)
    near, z = clare_weights(unsure * 0.5, shown, 0.5)
    assert not near.any() and z == 1
    alone, z = clare_weights(torch.ones(6), shown, 0.5)
    torch.testing.assert_close(alone, torch.tensor([-3.0, -3, 0, 0, 0, 0]))
    assert z == pytest.approx(0)


def test_weights_take_the_demonstrator_s_mass_to_where_the_model_is_sure():
    """E_E[r] + E_all[beta r] is an expectation of r over a distribution, whatever r."""
    rng = np.random.default_rng(0)
    unsure = torch.from_numpy(rng.random(200)).float()
    shown = torch.arange(200) < 50
    beta, z = clare_weights(unsure, shown, 0.6)
    mass = shown.float() / 50 + beta / 200
    assert z == pytest.approx(1, abs=1e-5)
    assert mass.min() > -1e-6 and mass.sum() == pytest.approx(1, abs=1e-5)
    assert mass[unsure > 0.6].abs().max() < 1e-6
    assert (mass[(unsure < 0.6) & ~shown] > 0).all()


def test_the_loss_and_its_minimum():
    """With r a number for each of three pairs: r = (demonstrator's mass - model's) / (2 l2 w)."""
    model, everything = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2])
    demonstrated = torch.tensor([1, 2])
    beta = torch.tensor([0.5, -1.0, 0.0, 0.5])
    r = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([r], max_iter=100)

    def closure():
        optimiser.zero_grad()
        loss = clare_loss(r[model], r[everything], beta, r[demonstrated], 1.0, 0.7)
        loss.backward()
        return loss

    optimiser.step(closure)
    share = torch.tensor([2, 1, 1]) / 4
    wanted = torch.tensor([0.5, -1.0, 0.5]) / 4 + torch.tensor([0, 1, 1]) / 2 - share
    where = 0.5 * (share + torch.tensor([1, 2, 1]) / 4)
    torch.testing.assert_close(r.detach(), (wanted / (2 * 0.7 * where)).double())


def tiny(path, run_dir="unused", **changes) -> CLAREConfig:
    sections = {
        "environment": EnvironmentConfig(name="Pendulum", max_episode_steps=12),
        "demonstrations": DemonstrationConfig(path=path),
        "evaluation": EvaluationConfig(every=2, episodes=2),
        "sac": SACConfig(hidden=[8], batch_size=6, capacity=200, update_every=2, compile="never"),
        "reward": RewardConfig(inputs="state_action", hidden=[8], steps=2, l2=1.0),
        "rounds": 4,
        "save_every": 1,
        "batch_size": 10,
        "starts": 7,
        "horizon": 3,
        "epochs": 2,
        "updates": 4,
    }
    return CLAREConfig(run_dir=str(run_dir), **{**sections, **changes})


def numbers(result):
    agent = result.policy.agent
    modules = [agent.actor, agent.parts.critic, result.reward.net]
    flat = [p.detach().flatten() for module in modules for p in module.parameters()]
    history = [
        {k: v for k, v in row.items() if not k.startswith("time/")} for row in result.history
    ]
    return torch.cat([*flat, result.policy.buffer.all_rows().flatten()]), history


VERBS = {
    "sample": (Imagination, "sample"),
    "reward": (ConservativeReward, "fit"),
    "policy": (InTheModel, "improve"),
    "evaluate": (Counted, "evaluate"),
}


@pytest.mark.parametrize("phase", VERBS)
def test_killed_in_any_phase_ends_as_an_unbroken_run(demonstrations, killed, tmp_path, phase):
    whole, history = numbers(clare(tiny(demonstrations), model=Point(), keep=False))
    config = tiny(demonstrations, tmp_path / "run")
    killed(lambda: clare(config, model=Point()), [VERBS[phase]], round=1)
    again, rows = numbers(clare(config, model=Point()))
    assert torch.equal(again, whole) and rows == history
    assert [row["steps/updates"] for row in rows] == [8, 16, 24, 32]


def test_the_actor_clones_demonstrations_by_the_way(demonstrations, spaces):
    """They say 0.5 in every state; the reward is the same everywhere and says nothing."""
    shown = Transitions.from_arrays(
        np.random.default_rng(0).normal(size=(40, 4)),
        np.full((40, 2), 0.5),
        np.zeros((40, 4)),
        np.zeros(40),
    )
    likely = {}
    for cloning in (0.0, 0.25):
        config = tiny(
            demonstrations,
            sac=SACConfig(hidden=[8], batch_size=20, capacity=500, alpha=0.01, compile="never"),
            epochs=100,
            cloning=cloning,
        )
        learner = Learner(spaces, config.sac, seed=0, cloning=cloning)
        verb = InTheModel(Imagination(Point(), shown, config), config)
        reward = type("Reward", (), {"net": lambda self, o, a: torch.zeros(len(o))})()
        learner, _ = verb.improve(learner, reward, None, type("Context", (), {"seed": 0})())
        found = learner.agent.actor.log_prob(shown.batch.observations, shown.batch.actions)
        likely[cloning] = found.mean().item()
    assert likely[0.25] > likely[0.0] + 1.0


def test_an_averaged_actor_follows(demonstrations):
    config = tiny(demonstrations)
    config.sac.average_over = 1
    learner = clare(config, model=Point(), keep=False).policy
    assert learner.average is not None
    for slow, fast in zip(
        learner.average.parameters(), learner.agent.actor.parameters(), strict=True
    ):
        torch.testing.assert_close(slow, fast.detach(), atol=0.02, rtol=0)
    untaught = Learner(learner.spaces, config.sac, seed=config.seed).agent.actor
    moved = [
        (slow - first.detach()).abs().max().item()
        for slow, first in zip(learner.average.parameters(), untaught.parameters(), strict=True)
    ]
    assert max(moved) > 0.02


def test_the_true_reward_is_read_by_reports_only(demonstrations):
    plain = numbers(clare(tiny(demonstrations), model=Point(), keep=False))[0]
    poisoned = EnvironmentConfig(name="tests/Poisoned-v0")
    other = clare(tiny(demonstrations, environment=poisoned), model=Point(), keep=False)
    assert torch.equal(plain, numbers(other)[0]) and np.isnan(other.history[-1]["eval/return"])


def test_imagined_steps_go_on_from_where_they_led(demonstrations, spaces):
    data = Transitions.from_arrays(
        np.zeros((3, 4)), np.zeros((3, 2)), np.zeros((3, 4)), np.zeros(3)
    )
    learner = Learner(spaces, SACConfig(hidden=[8], compile="never"), seed=0)
    imagination = Imagination(Point(ends=0.15), data, tiny(demonstrations, starts=200, horizon=4))
    rows = imagination.rows(learner, torch.Generator().manual_seed(0))
    batch = data.layout.unpack(rows)
    torch.testing.assert_close(
        batch.next_observations, batch.observations + 0.1 * batch.actions[:, :1]
    )
    ended = batch.next_observations[:, 0].abs() > 0.15
    assert torch.equal(batch.terminated.bool(), ended) and ended.any()
    # The second step of those that did not end, in their order.
    torch.testing.assert_close(
        batch.observations[200 : 200 + int((~ended[:200]).sum())],
        batch.next_observations[:200][~ended[:200]],
    )
    assert len(rows) < 800


def test_the_reward_prefers_demonstrations_and_what_the_model_knows(demonstrations):
    """A demonstrated pair of which the model is unsure counts as nobody's."""
    states = np.array([[0.1, 0, 0], [2.0, 0, 0]]).repeat(20, 0)
    shown = Transitions.from_arrays(states, np.zeros((40, 1)), states, np.zeros(40))
    model = torch.tensor([[1.0, 0, 0, 0, 0, 0, 0, 0]]).repeat(40, 1)
    config = tiny(
        demonstrations,
        reward=RewardConfig(
            inputs="state", hidden=[32], steps=300, l2=0.5, learning_rate=1e-2, weight_decay=0.0
        ),
        batch_size=64,
    )
    from irl_align.control.reward_fit import LearnedReward

    found = []
    for unsure in (0.0, 1.0):
        beta, z = clare_weights(
            torch.tensor([0.0, unsure]).repeat_interleave(20), torch.ones(40, dtype=torch.bool), 0.5
        )
        reward = LearnedReward(3, 1, config.reward, seed=0)
        verb = ConservativeReward(shown, shown, beta, z, config.reward, config.batch_size)
        ctx = type("Context", (), {"seed": 0})()
        reward, metrics = verb.fit(reward, model, ctx)
        points = torch.tensor([[0.1, 0, 0], [2.0, 0, 0], [1.0, 0, 0]])
        found.append(reward.net(points, torch.zeros(3, 1)).detach())
        assert metrics["reward/demo_score"] > metrics["reward/sample_score"]
    known, imagined = found
    assert known[0] > known[2] + 0.3 and known[1] > known[2] + 0.3
    assert imagined[0] > imagined[1] + 0.3


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Point(scale=float("nan")), "uncertainty must be finite"),
        (Point(scale=-1.0), "uncertainty must be finite numbers >= 0"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused(demonstrations, tmp_path, model, said):
    with pytest.raises(UserError, match=said):
        clare(tiny(demonstrations, tmp_path / "run"), model=model)
    assert not (tmp_path / "run").exists()


def test_the_model_is_asked_how_unsure_it_is_for_the_data_alone(demonstrations):
    model = Point()
    clare(tiny(demonstrations, rounds=1), model=model, keep=False)
    assert model.asked[0] == "mopo_default" and set(model.asked[1:]) == {None}
    with pytest.raises(ValueError, match=r"no multiple of sac\.update_every"):
        tiny(demonstrations, updates=5)


@pytest.mark.parametrize(("model_of", "models"), [("everything", 2), ("dataset", 1)])
def test_a_model_of_the_data_alone_serves_any_demonstrations(
    demonstrations, tmp_path, model_of, models
):
    store = tmp_path / "models"
    for count in (1, 2):
        clare(
            tiny(
                "",
                tmp_path / f"run-{count}",
                rounds=1,
                demonstrations=DemonstrationConfig(path=demonstrations, count=count),
                dataset=DemonstrationConfig(path=demonstrations),
                model_of=model_of,
                world_model=WorldModelConfig(
                    members=2,
                    elites=1,
                    hidden=[8],
                    weight_decay=[0.0],
                    max_epochs=1,
                    store=str(store),
                ),
            )
        )
    assert len([folder for folder in store.iterdir() if folder.is_dir()]) == models


def test_it_fits_the_world_model_of_all_data_itself_and_once(demonstrations, killed, tmp_path):
    small = WorldModelConfig(
        members=2, elites=1, hidden=[8], weight_decay=[0.0], max_epochs=2, compile="never"
    )
    whole = numbers(clare(tiny(demonstrations, world_model=small), keep=False))
    config = tiny(demonstrations, tmp_path / "run", world_model=small)
    killed(lambda: clare(config), [VERBS["policy"]], round=1)
    model = tmp_path / "run" / "setup" / "world_model" / "world_model.pt"
    written = model.stat().st_mtime_ns
    again = numbers(clare(config))
    assert torch.equal(again[0], whole[0]) and again[1] == whole[1]
    assert model.stat().st_mtime_ns == written
    assert WorldModel.load(model).facts["environment"] == "Pendulum-v1"
