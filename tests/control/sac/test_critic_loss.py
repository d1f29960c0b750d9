"""The critics' loss as an argument: SAC's own by default, any other in its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.config import SACConfig
from irl_align.control.sac.agent import SAC
from irl_align.control.sac.compiling import threads_for, why_not
from irl_align.control.sac.step import CriticLoss, temporal_difference, update
from irl_align.control.spaces import Spaces


def towards(goal: torch.Tensor, draws: int) -> CriticLoss:
    """Q_i(s, a) towards `goal` + the mean of the first draws: a loss with a constant of its own."""

    def loss(parts, settings, batch, rewards, noise, alpha):
        wanted = goal + noise[:draws].mean()
        return (parts.critic(batch.observations, batch.actions) - wanted).square().mean()

    return CriticLoss(loss, draws)


def test_without_an_argument_it_is_temporal_differences(agent, duplicate, drawn, same):
    twin = duplicate(agent)
    rows, rewards = drawn(2, 6)
    noise = torch.randn(2, 2, 6, 2)
    shared = (agent.settings, agent.layout, rows, rewards, noise)
    update(agent.parts, *shared)
    update(twin.parts, *shared, temporal_difference)
    assert same(agent.state_dict(), twin.state_dict())


def test_another_loss_moves_the_critics_and_takes_its_noise(spaces, config, drawn):
    config.learning_rate = 0.01
    agent = SAC(spaces, config, seed=1, critics=towards(torch.tensor(3.0), 4))
    rows, rewards = drawn(20, 6)
    noise = torch.Generator().manual_seed(1)  # the agent's own
    for _ in range(20):
        losses = agent.update(rows, rewards)
        expected = torch.randn(20, 5, 6, 2, generator=noise)
    assert agent.state_dict()["noise"].equal(noise.get_state())
    batch = agent.layout.unpack(rows[-1])
    found = agent.parts.critic(batch.observations, batch.actions).mean().item()
    assert found == pytest.approx(3 + expected[:, :4].mean().item(), abs=0.3)
    assert losses[0] < 0.5


def test_the_last_draw_is_the_actor_s(spaces, config, drawn):
    """Draws before it are the critics' alone: the actor's loss does not see them."""
    rows, rewards = drawn(1, 6)
    noise = torch.randn(1, 4, 6, 2)
    losses = []
    for changed in (0, 2, 3):
        agent = SAC(spaces, config, seed=1)
        other = noise.clone()
        other[0, changed] += 1.0
        found = update(
            agent.parts, agent.settings, agent.layout, rows, rewards, other, takes_no_noise
        )
        losses.append(found[1].item())
    assert losses[0] == losses[1] != losses[2]


def takes_no_noise(parts, settings, batch, rewards, noise, alpha):
    return parts.critic(batch.observations, batch.actions).square().mean()


def test_the_actor_has_a_learning_rate_of_its_own(spaces, config, drawn):
    rows, rewards = drawn(1, 6)
    moved = {}
    for rate in (None, 1e-3, 1e-5):
        config.actor_learning_rate = rate
        agent = SAC(spaces, config, seed=1)
        before = [p.detach().clone() for p in agent.actor.parameters()]
        critic = [p.detach().clone() for p in agent.parts.critic.parameters()]
        agent.update(rows, rewards)
        moved[rate] = [
            max((a - b).abs().max().item() for a, b in zip(old, new.parameters(), strict=True))
            for old, new in ((before, agent.actor), (critic, agent.parts.critic))
        ]
    assert moved[None] == moved[1e-3] == pytest.approx([1e-3, 1e-3], rel=0.01)
    assert moved[1e-5] == pytest.approx([1e-5, 1e-3], rel=0.05)


# As `test_compiled` has it, so that what the losses share is compiled alike.
CONFIG = {"hidden": [64, 64], "batch_size": 100, "update_every": 1}


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_compiled_with_another_loss_gives_the_same_numbers():
    box = np.full(1, 2.0, np.float32)
    for goal in (1.0, -2.0):  # a constant of the same function: no stale machine code
        agents = [
            SAC(
                Spaces("Test", 3, -box, box),
                SACConfig(**CONFIG, compile=compile),
                seed=0,
                critics=towards(torch.tensor(goal), 2),
            )
            for compile in ("never", "always")
        ]
        torch.manual_seed(0)
        with threads_for(CONFIG["hidden"]):
            for _ in range(5):
                rows, rewards = torch.randn(1, 100, 8), torch.randn(1, 100)
                eager, compiled = (agent.update(rows, rewards) for agent in agents)
                torch.testing.assert_close(eager, compiled, atol=1e-5, rtol=1e-5)
