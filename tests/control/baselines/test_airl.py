from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.baselines.airl import (
    AdversarialSource,
    AIRLConfig,
    AIRLRewardConfig,
    PolicyDensity,
    ShapedReward,
)
from irl_align.control.baselines.discriminator import ClassifierConfig, fit_discriminator
from irl_align.control.buffers import Batch, ReplayBuffer
from irl_align.control.config import DemonstrationConfig, SACConfig
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.sac.learner import Learner
from irl_align.control.spaces import Spaces
from irl_align.core.config import load_config
from irl_align.core.errors import UserError


def configured(alpha=None, hidden=(8,), gamma=0.9, **reward) -> AIRLConfig:
    return AIRLConfig(
        demonstrations=DemonstrationConfig(path="x"),
        sac=SACConfig(gamma=gamma, hidden=[8], alpha=alpha, compile="never", capacity=500),
        reward=AIRLRewardConfig(**reward),
        discriminator=ClassifierConfig(
            hidden=list(hidden), bound=None, gradient_penalty=0.0, batch_size=512
        ),
    )


def batch(count=6, dims=(4, 2)) -> Batch:
    torch.manual_seed(3)
    ends = (torch.arange(count) % 3 == 0).float()
    return Batch(torch.randn(count, 4), torch.rand(count, 2), torch.randn(count, 4), ends)


def test_f_is_g_and_the_shaping_of_h(spaces):
    steps = batch()
    for inputs in ("state", "state_action"):
        reward = ShapedReward(spaces, configured(inputs=inputs))
        g, h = reward.nets["reward"], reward.nets["potential"]
        expected = torch.stack(
            [
                g(s, a) + 0.9 * (0.0 if d else h(after, a)) - h(s, a)
                for s, a, after, d in zip(*steps, strict=True)
            ]
        )
        torch.testing.assert_close(reward.f(steps), expected)
    reward = ShapedReward(spaces, configured(shaping=False, inputs="state_action"))
    torch.testing.assert_close(reward.f(steps), reward.net(steps.observations, steps.actions))


def test_g_of_states_and_h_ignore_actions(spaces):
    reward, steps = ShapedReward(spaces, configured()), batch()
    other = steps._replace(actions=steps.actions.flip(0) + 1)
    assert torch.equal(reward.f(steps), reward.f(other))
    assert torch.equal(
        reward.net(steps.observations, steps.actions), reward.net(other[0], other[1])
    )


def test_densities_are_the_actor_s_inside_and_finite_at_the_bounds(spaces):
    actor = SquashedGaussianActor(spaces, [8])
    config = AIRLRewardConfig(action_edge=0.9, log_prob_bound=50.0)
    density = PolicyDensity(actor, config, absorbing=False)
    seen = torch.randn(7, 4)
    inside = torch.from_numpy(np.random.default_rng(0).uniform([-1.5, 0.5], [1.5, 4.5], (7, 2)))
    inside = inside.float()
    torch.testing.assert_close(density(seen, inside), actor.log_prob(seen, inside))
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 5.0])
    middle, half = (low + high) / 2, (high - low) / 2
    for bound, sign in ((low, -1), (high, 1)):
        at_edge = actor.log_prob(seen, (middle + sign * 0.9 * half).expand(7, 2))
        torch.testing.assert_close(density(seen, bound.expand(7, 2)), at_edge)


def test_densities_are_clamped_and_nothing_in_absorbing_states(spaces):
    actor = SquashedGaussianActor(spaces, [8])
    with torch.no_grad():
        actor.layers[-1].bias[2:] = -6.0  # nearly no noise: densities of e^10 and of e^-10000
    config = AIRLRewardConfig(log_prob_bound=5.0)
    seen, done = torch.randn(200, 4), torch.rand(200, 2)
    seen[:, -1] = 0.0
    found = PolicyDensity(actor, config, absorbing=False)(seen, done)
    assert found.abs().max() == 5.0
    seen[::2, -1] = 1.0
    over = PolicyDensity(actor, config, absorbing=True)(seen, done)
    assert not over[::2].any() and over[1::2].all()


@pytest.mark.parametrize(("form", "alpha"), [("log_odds", None), ("soft", 0.3)])
def test_the_policy_s_reward_is_that_of_the_moment(spaces, form, alpha):
    scale = 1.0 if form == "soft" else 0.2
    config = configured(alpha, policy_reward=form, scale=scale)
    learner = Learner(spaces, config.sac, seed=0)
    reward = ShapedReward(spaces, config)
    steps = batch(50)
    learner.buffer.extend_packed(torch.cat([*steps[:3], steps[3][:, None]], dim=1))
    source = AdversarialSource(learner, reward, config)
    for _ in range(2):
        rows, rewards = source.draw(3, 5)
        assert rows.shape == (3, 5, learner.buffer.layout.width) and rewards.shape == (3, 5)
        found = learner.buffer.layout.unpack(rows.flatten(0, 1))
        if form == "soft":
            expected = 0.3 * reward.f(found)
        else:
            density = PolicyDensity(learner.agent.actor, config.reward, absorbing=False)
            expected = 0.2 * (reward.f(found) - density(found.observations, found.actions))
        torch.testing.assert_close(rewards.flatten(), expected.detach())
        with torch.no_grad():  # both may have moved since
            next(reward.net.parameters()).add_(0.5)
            next(learner.agent.actor.parameters()).add_(0.5)


def test_at_the_optimum_f_is_the_expert_s_log_density():
    """Agent's actions from the policy itself, the expert's from another one, at the same states."""
    spaces = Spaces("Toy", 1, np.array([-2], np.float32), np.array([2], np.float32), 9)
    torch.manual_seed(0)
    actor, expert = (SquashedGaussianActor(spaces, [8]) for _ in range(2))
    with torch.no_grad():
        expert.layers[-1].bias.copy_(torch.tensor([0.5, -0.7]))
    config = configured(shaping=False, inputs="state_action", hidden=(32, 32))
    config.discriminator.learning_rate = 3e-3
    reward = ShapedReward(spaces, config)
    density = PolicyDensity(actor, config.reward, absorbing=False)
    sides = []
    with torch.no_grad():
        for policy in (expert, actor):
            seen = torch.rand(30_000, 1) * 2 - 1
            done, _ = policy.sample(seen, torch.randn(30_000, 1))
            buffer = ReplayBuffer(30_000, 1, 1)
            buffer.extend_packed(torch.cat([seen, done, seen, torch.zeros_like(seen)], dim=1))
            sides.append(buffer)

    def logits(steps: Batch):
        return reward.f(steps) - density(steps.observations, steps.actions)

    fit_discriminator(reward, logits, *sides, 500, seed=0)
    at = sides[0].recent(2000)
    with torch.no_grad():
        error = reward.f(at) - expert.log_prob(at.observations, at.actions)
        naive = reward.f(at) - actor.log_prob(at.observations, at.actions)
    assert error.square().mean().sqrt() < 0.25
    assert naive.square().mean().sqrt() > 0.6  # the two policies do differ


def soft_expert(rewards, follow, gamma):
    """[S, A]: the soft-optimal policy at temperature 1 for r(s) and deterministic dynamics."""
    value = np.zeros(len(rewards))
    for _ in range(2000):
        q = rewards[:, None] + gamma * value[follow]
        value = np.log(np.exp(q).sum(axis=1))
    return np.exp(q - value[:, None])


def test_with_shaping_g_is_the_expert_s_reward_up_to_a_constant():
    """Six states, three actions, deterministic, one-hot observations and linear nets: f can be
    log pi_E exactly, and splits into r and the shaping by V in one way only (Fu et al., sec. 5)."""
    states, moves, gamma, count = 6, 3, 0.8, 30_000
    rng = np.random.default_rng(4)
    true = rng.normal(size=states)
    follow = rng.integers(states, size=(states, moves))
    expert = soft_expert(true, follow, gamma)
    spaces = Spaces("Toy", states, np.array([-1], np.float32), np.array([1], np.float32), 9)
    config = configured(gamma=gamma, hidden=())
    config.discriminator.learning_rate = 3e-2
    reward = ShapedReward(spaces, config)
    one_hot, sides = np.eye(states, dtype=np.float32), []
    for policy in (expert, np.full((states, moves), 1 / moves)):
        at = rng.integers(states, size=count)
        chosen = (rng.random((count, 1)) > policy[at].cumsum(axis=1)).sum(axis=1).clip(0, moves - 1)
        buffer = ReplayBuffer(count, states, 1)
        columns = [one_hot[at], np.zeros((count, 1)), one_hot[follow[at, chosen]]]
        rows = np.concatenate([*columns, np.zeros((count, 1))], axis=1)
        buffer.extend_packed(torch.tensor(rows, dtype=torch.float32))
        sides.append(buffer)

    def logits(steps: Batch):
        return reward.f(steps) + np.log(moves)

    fit_discriminator(reward, logits, *sides, 1500, seed=0)
    every = torch.eye(states)
    with torch.no_grad():
        g = reward.net(every, torch.zeros(states, 1)).numpy()
    np.testing.assert_allclose(g - g.mean(), true - true.mean(), atol=0.15)
    assert true.std() > 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reward.policy_reward=soft", r"set sac\.alpha"),
        ("reward.policy_reward=hard", "log_odds, soft"),
        ("reward.action_edge=1", "action_edge is 1"),
        ("reward.log_prob_bound=0", "log_prob_bound"),
    ],
)
def test_bad_values_are_named_with_their_key(override, message):
    with pytest.raises(UserError, match=message):
        load_config(AIRLConfig, None, ["demonstrations.path=x.npz", override])


def test_the_soft_reward_has_no_scale_but_alpha():
    with pytest.raises(ValueError, match="scale must be 1"):
        AIRLRewardConfig(policy_reward="soft", scale=0.5)
