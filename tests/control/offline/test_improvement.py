from __future__ import annotations

import pytest
import torch

from irl_align.control.buffers import Batch, Layout
from irl_align.control.config import SACConfig
from irl_align.control.demonstrations.report import DemonstrationReport
from irl_align.control.offline.config import ImaginationConfig
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.offline.improvement import ConservativeBatches, ModelBasedSoftActorCritic
from irl_align.control.sac.learner import Learner
from irl_align.control.world_model.model import Imagined
from irl_align.control.world_model.rollouts import PenalisedBuffer
from irl_align.core.protocols import PhaseContext

O, A, N = 4, 2, 30  # noqa: E741


def dataset() -> OfflineDataset:
    """Real rows have negative first numbers."""
    rows = torch.randn(N, 2 * O + A + 1)
    rows[:, 0] = -torch.arange(1.0, N + 1)
    rows[:, -1] = 0
    return OfflineDataset(Layout(O, A), rows, rows[:3, :O], DemonstrationReport("x"))


def imagined(count: int = 50) -> PenalisedBuffer:
    """Row k has k as its first number and a penalty of 10 k."""
    buffer = PenalisedBuffer(80, O, A)
    observations = torch.randn(count, O)
    observations[:, 0] = torch.arange(float(count))
    batch = Batch(observations, torch.randn(count, A), torch.randn(count, O), torch.zeros(count))
    buffer.extend_imagined(batch, 10 * torch.arange(float(count)))
    return buffer


def first(observations, actions):
    assert not torch.is_grad_enabled()
    return 1_000 * actions[..., 0] + observations[..., 0]


@pytest.mark.parametrize(("share", "known"), [(0.0, 0), (0.05, 1), (0.3, 6)])
def test_rewards_are_penalised_and_real_rows_are_not(share, known):
    source = ConservativeBatches(
        imagined(),
        dataset(),
        first,
        penalty_coef=0.5,
        real_share=share,
        generator=torch.Generator().manual_seed(0),
    )
    rows, rewards = source.draw(3, 20)
    assert rows.shape == (3, 20, 2 * O + A + 1) and rewards.shape == (3, 20)
    assert rows.is_contiguous()
    batch = Layout(O, A).unpack(rows)
    number = batch.observations[..., 0]
    assert ((number < 0).sum(dim=1) == known).all()
    penalty = torch.where(number < 0, 0, 10 * number)
    with torch.no_grad():
        torch.testing.assert_close(rewards, first(*batch[:2]) - 0.5 * penalty)


class Model:
    """Notes what it is asked; every step goes on."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str | None]] = []
        self.starts = torch.empty(0, O)

    def step(self, observations, actions, generator, penalty):
        self.asked.append((len(observations), penalty))
        self.starts = torch.cat([self.starts, observations])
        return Imagined(
            observations + 100,
            torch.zeros(len(observations), dtype=torch.bool),
            torch.ones(len(observations)),
        )


def improve(spaces, **changes):
    config = ImaginationConfig(**{"epochs": 3, "starts": 8, "horizon": 2, "updates": 6, **changes})
    sac = SACConfig(hidden=[8], batch_size=5, update_every=2, capacity=40, compile="never")
    buffer = PenalisedBuffer(40, O, A)
    learner = Learner(spaces, sac, seed=0, buffer=buffer)
    model, data = Model(), dataset()
    verb = ModelBasedSoftActorCritic(model, data, config, lambda reward: reward)
    ctx = PhaseContext(0, "policy", 3, None, [])
    learner, metrics = verb.improve(learner, first, None, ctx)
    return learner, metrics, model, data


def test_an_epoch_is_rollouts_from_the_data_and_updates(spaces):
    learner, metrics, model, data = improve(spaces)
    assert model.asked == [(8, "mopo_default")] * 6
    begins = model.starts.view(3, 2, 8, O)[:, 0].reshape(-1, O)
    assert (begins[:, None] == data.batch.observations).all(-1).any(1).all()
    assert learner.agent.updates == metrics["policy/updates"] == 18
    assert metrics["model/steps"] == 16 and metrics["model/length"] == 2
    assert metrics["model/penalty"] == 1 and learner.steps == 0
    assert len(learner.buffer) == 40  # the newest of 48


def test_without_a_weight_nobody_computes_a_penalty(spaces):
    _, _, model, _ = improve(spaces, penalty_coef=0.0)
    assert {penalty for _, penalty in model.asked} == {None}


def test_rollouts_go_on_from_where_the_newest_ones_were(spaces):
    _, _, model, data = improve(spaces, continued=0.75)
    begins = model.starts.view(3, 2, 8, O)[:, 0]
    known = (begins[:, :, None] == data.batch.observations).all(-1).any(-1)
    assert known.sum(dim=1).tolist() == [8, 2, 2]  # there is nothing to go on from at first
    reached = model.starts.view(3, 2, 8, O) + 100
    for epoch in (1, 2):
        before = reached[epoch - 1].reshape(-1, O)
        assert (begins[epoch, :6, None] == before).all(-1).any(-1).all()
    assert begins[2].max() > 250  # beyond the horizon


class Falling(Model):
    """Every step leads far away and is the last."""

    def step(self, observations, actions, generator, penalty):
        ended = torch.ones(len(observations), dtype=torch.bool)
        return Imagined(observations + 100, ended, torch.zeros(len(observations)))


def test_nothing_goes_on_from_an_end(spaces):
    config = ImaginationConfig(epochs=3, starts=8, horizon=2, updates=2, continued=0.75)
    sac = SACConfig(hidden=[8], batch_size=5, update_every=2, capacity=40, compile="never")
    learner = Learner(spaces, sac, seed=0, buffer=PenalisedBuffer(40, O, A))
    data = dataset()
    verb = ModelBasedSoftActorCritic(Falling(), data, config, lambda reward: reward)
    verb.improve(learner, first, None, PhaseContext(0, "policy", 3, None, []))
    assert len(learner.buffer) == 24
    begins = learner.buffer.recent(24).observations
    assert (begins[:, None] == data.batch.observations).all(-1).any(1).all()


class Unsure(Model):
    """Every step is the last, and the model is unsure of what a positive first action does."""

    def step(self, observations, actions, generator, penalty):
        unsure = 5.0 * (actions[:, 0] > 0) * (penalty is not None)
        return Imagined(observations, torch.ones(len(observations), dtype=torch.bool), unsure)


def test_the_policy_avoids_what_the_model_is_unsure_of(spaces):
    """The reward is for the positive side, the penalty is more: what wins depends on lambda."""
    data = dataset()
    chosen = []
    for coef in (1.0, 0.0):
        config = ImaginationConfig(
            epochs=4, starts=100, horizon=3, updates=100, real_share=0.0, penalty_coef=coef
        )
        sac = SACConfig(
            hidden=[16],
            batch_size=32,
            update_every=4,
            capacity=400,
            learning_rate=1e-2,
            alpha=0.05,
            compile="never",
        )
        learner = Learner(spaces, sac, seed=0, buffer=PenalisedBuffer(400, O, A))
        verb = ModelBasedSoftActorCritic(
            Unsure(), data, config, lambda reward: lambda o, a: (a[..., 0] > 0).float()
        )
        verb.improve(learner, None, None, PhaseContext(0, "policy", 3, None, []))
        with torch.no_grad():
            chosen.append(learner.agent.actor.mode(data.batch.observations)[:, 0])
    assert (chosen[0] < 0).float().mean() > 0.9 and (chosen[1] > 0).float().mean() > 0.9
