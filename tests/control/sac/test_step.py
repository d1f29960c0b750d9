from __future__ import annotations

import copy

import pytest
import torch

from irl_align.control.config import SACConfig
from irl_align.control.sac.agent import SAC, named
from irl_align.control.sac.step import soft_target, update


def by_the_book(agent: SAC, rows, rewards, noise, target_entropy, demonstrated=None, cloning=0.0):
    """A second implementation of one update: modules, autograd and torch.optim."""
    parts, layout = copy.deepcopy(agent.parts), agent.layout
    lr, gamma, tau = agent.config.learning_rate, agent.config.gamma, agent.config.tau
    o, a = layout
    s, u, s2, d = rows[:, :o], rows[:, o : o + a], rows[:, o + a : 2 * o + a], rows[:, -1]
    log_alpha = torch.nn.Parameter(parts.log_alpha.clone())
    alpha = log_alpha.exp().detach()
    optimisers = [
        torch.optim.Adam(parameters, lr=lr)
        for parameters in (parts.critic.parameters(), parts.actor.parameters(), [log_alpha])
    ]
    with torch.no_grad():
        a2, logp2 = parts.actor.sample(s2, noise[0])
        q1, q2 = parts.target(s2, a2)
        y = rewards + gamma * (1 - d) * (torch.minimum(q1, q2) - alpha * logp2)
    q1, q2 = parts.critic(s, u)
    (((q1 - y) ** 2).mean() + ((q2 - y) ** 2).mean()).backward()
    optimisers[0].step()
    new, logp = parts.actor.sample(s, noise[1])
    q1, q2 = parts.critic(s, new)
    optimisers[1].zero_grad()
    (alpha * logp - torch.minimum(q1, q2)).mean().backward()
    if demonstrated is not None:
        mean, log_std = parts.actor(demonstrated[:, :o])
        squashed = torch.distributions.TransformedDistribution(
            torch.distributions.Normal(mean, log_std.exp()), torch.distributions.TanhTransform()
        )
        units = (demonstrated[:, o : o + a] - parts.actor.centre) / parts.actor.half_width
        (-cloning * squashed.log_prob(units).sum(dim=-1).mean()).backward()
    optimisers[1].step()
    if target_entropy is not None:
        (-log_alpha * (logp.detach() + target_entropy)).mean().backward()
        optimisers[2].step()
    with torch.no_grad():
        for slow, fast in zip(parts.target.parameters(), parts.critic.parameters(), strict=True):
            slow.copy_((1 - tau) * slow + tau * fast)
    parts.log_alpha = log_alpha.detach()
    return parts


@pytest.mark.parametrize(("alpha", "cloning"), [(None, 0.0), (0.3, 0.0), (0.3, 0.25)])
def test_one_update_by_a_second_implementation(spaces, config, drawn, alpha, cloning):
    config.alpha = alpha
    agent = SAC(spaces, config, seed=1, cloning=cloning)
    demonstrated = drawn(1, 4, seed=1)[0] if cloning else None
    rows, rewards = drawn(1, 6)
    noise = torch.randn(1, 2, 6, 2)
    entropy = None if alpha is not None else -2.0  # -A
    expected = by_the_book(
        agent,
        rows[0],
        rewards[0],
        noise[0],
        entropy,
        None if demonstrated is None else demonstrated[0],
        cloning,
    )
    update(
        agent.parts, agent.settings, agent.layout, rows, rewards, noise, demonstrated=demonstrated
    )
    for name in ("actor", "critic", "target"):
        for mine, other in zip(
            getattr(agent.parts, name).parameters(),
            getattr(expected, name).parameters(),
            strict=True,
        ):
            torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(agent.parts.log_alpha, expected.log_alpha)
    assert (agent.parts.log_alpha.exp().item() == pytest.approx(0.3)) == (alpha is not None)


def test_k_updates_in_a_call_are_k_calls(agent, duplicate, drawn, same):
    twin = duplicate(agent)
    rows, rewards = drawn(3, 6)
    noise = torch.randn(3, 2, 6, 2)
    together = update(agent.parts, agent.settings, agent.layout, rows, rewards, noise)
    apart = [
        update(
            twin.parts,
            twin.settings,
            twin.layout,
            rows[k : k + 1],
            rewards[k : k + 1],
            noise[k : k + 1],
        )
        for k in range(3)
    ]
    assert same(agent.state_dict(), twin.state_dict())
    torch.testing.assert_close(together, torch.stack(apart).mean(dim=0))
    assert agent.updates == twin.updates == 3


def test_the_measured_entropy_is_that_of_the_policy(spaces, config, drawn):
    agent = SAC(spaces, config, seed=1)
    rows, rewards = drawn(1, 6)
    noise = torch.randn(1, 2, 6, 2)
    _, log_probs = agent.actor.sample(rows[0, :, :4], noise[0, 1])
    losses = named(update(agent.parts, agent.settings, agent.layout, rows, rewards, noise))
    assert losses["policy/entropy"] == pytest.approx(-log_probs.mean().item(), rel=1e-4)
    assert losses["policy/alpha"] == pytest.approx(config.initial_alpha)


def test_a_time_limit_bootstraps_and_an_end_does_not(agent, drawn):
    rows, _ = drawn(1, 6)
    rows[0, :, -1] = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    batch = agent.layout.unpack(rows[0])
    noise = torch.randn(6, 2)
    alpha = agent.parts.log_alpha.exp()
    y = soft_target(agent.parts, agent.settings, batch, torch.full((6,), 2.5), noise, alpha)
    assert torch.equal(y == 2.5, batch.terminated == 1)


def absorbing_rows(drawn):
    rows, rewards = drawn(1, 6)
    rows[..., 3] = rows[..., 9] = 0.0  # the flags of s and s'
    rows[..., -1] = 0.0
    rows[0, 1, 6:10] = torch.tensor([0.0, 0.0, 0.0, 1.0])  # falls
    rows[0, 2, :6] = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])  # lies there, and goes on to
    rows[0, 2, 6:10] = rows[0, 2, :4]
    return rows, rewards


def test_an_absorbing_state_has_no_action_and_no_entropy(spaces, config, drawn):
    agent = SAC(spaces, config, seed=1, absorbing=True)
    rows, rewards = absorbing_rows(drawn)
    batch = agent.layout.unpack(rows[0])
    alpha = agent.parts.log_alpha.exp()
    y = [
        soft_target(agent.parts, agent.settings, batch, rewards[0], torch.randn(6, 2), alpha)
        for _ in range(2)
    ]
    fixed = torch.tensor([False, True, True, False, False, False])
    assert torch.equal(y[0] == y[1], fixed)  # no noise where there is no choice
    over = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    value = agent.parts.target.least(over, torch.zeros(1, 2))
    torch.testing.assert_close(y[0][1], rewards[0, 1] + 0.99 * value[0])


def test_the_actor_learns_nothing_from_absorbing_states(spaces, config, drawn):
    """The same update with another absorbing row in place: the actor ends the same."""
    config.learning_rate = 0.01
    ends = []
    for action in (0.0, 1.0):
        agent = SAC(spaces, config, seed=1, absorbing=True)
        rows, rewards = absorbing_rows(drawn)
        # Only the actor's own draw is changed: its noise in the absorbing row.
        noise = torch.zeros(1, 2, 6, 2)
        noise[0, 1, 2] = action
        update(agent.parts, agent.settings, agent.layout, rows, rewards, noise)
        ends.append(torch.cat([p.flatten() for p in agent.actor.parameters()]))
    assert torch.equal(*ends)


def test_the_value_of_being_over_is_its_reward_for_ever(spaces, drawn):
    """Learned from absorbing rows alone: Q -> r / (1 - gamma), whatever alpha is."""
    config = SACConfig(
        hidden=[16], gamma=0.5, tau=0.1, learning_rate=3e-3, batch_size=4, compile="never"
    )
    agent = SAC(spaces, config, seed=0, absorbing=True)
    over = torch.tensor([0.0, 0.0, 0.0, 1.0])
    row = torch.cat([over, torch.zeros(2), over, torch.zeros(1)])
    rows, rewards = row.expand(10, 4, -1).contiguous(), torch.full((10, 4), -1.5)
    for _ in range(60):
        agent.update(rows, rewards)
    q = agent.parts.critic(over[None], torch.zeros(1, 2))
    torch.testing.assert_close(q, torch.full((2, 1), -3.0), atol=0.02, rtol=0)
