from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from irl_align.control.bicql.acting import Resampled, load_q_policy, save_q_policy
from irl_align.control.bicql.config import ActingConfig, CriticConfig
from irl_align.control.bicql.critics import make_critic
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError

ONE = Spaces("One", 2, np.array([-3], np.float32), np.array([5], np.float32))


class Known:
    """Q(s, a) = -(u - s_0)^2 / (2 * .2^2), u the action in [-1, 1]; and a second, larger one."""

    def spread(self, observations, actions):
        u = (actions[..., 0] - 1) / 4
        q = -0.5 * ((u - observations[:, :1]) / 0.2) ** 2
        return torch.stack([q, q + 1])


def test_draws_are_those_of_exp_q():
    policy = Resampled(ONE, Known(), None, ActingConfig(proposals=400)).stochastic(0)
    states = np.tile(np.array([[0.3, 9.0]], np.float32), (2000, 1))
    drawn = (policy(states)[:, 0] - 1) / 4
    wanted = stats.truncnorm(-1.3 / 0.2, 0.7 / 0.2, 0.3, 0.2)
    assert stats.kstest(drawn, wanted.cdf).pvalue > 1e-3
    assert stats.kstest(drawn, stats.truncnorm(-7, 3, 0.4, 0.2).cdf).pvalue < 1e-6


@pytest.mark.parametrize(("refinements", "error"), [(0, 0.05), (2, 0.01)])
def test_without_noise_it_is_the_best_action_and_a_function_of_the_state(refinements, error):
    config = ActingConfig(proposals=64, refinements=refinements)
    act = Resampled(ONE, Known(), None, config).deterministic()
    states = np.random.default_rng(0).uniform(-1, 1, size=(50, 2)).astype(np.float32)
    together = act(states)
    assert together.shape == (50, 1)
    assert np.abs((together[:, 0] - 1) / 4 - states[:, 0]).max() < error
    np.testing.assert_allclose(act(states[7]), together[7], atol=1e-5)
    np.testing.assert_allclose(act(states[20:30]), together[20:30], atol=1e-5)
    if refinements:
        coarse = Resampled(ONE, Known(), None, ActingConfig(refinements=0)).deterministic()
        assert np.abs((coarse(states)[:, 0] - 1) / 4 - states[:, 0]).max() > error


def test_seeds_make_draws(spaces):
    critic = make_critic(spaces, [8], members=2, activation="relu")
    policy = Resampled(spaces, critic, None, ActingConfig())
    state = np.ones(4, np.float32)
    a, b, c = (policy.stochastic(seed)(state) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c) and a.shape == (2,)
    assert (a >= spaces.action_low).all() and (a <= spaces.action_high).all()


def test_indices_are_drawn_as_the_softmax_has_them(indexed):
    critic = make_critic(indexed, [8], members=1, activation="tanh")
    policy = Resampled(indexed, critic, None, ActingConfig())
    states = np.tile(np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32), (6000, 1))
    q = critic.net(torch.from_numpy(states[:1]))[0, 0]
    found = np.bincount(policy.stochastic(0)(states)[:, 0], minlength=3) / 6000
    np.testing.assert_allclose(found, torch.softmax(q, 0).detach(), atol=0.03)
    assert policy.deterministic()(states[0]) == int(q.argmax())


def test_damaged_files_are_named(spaces, tmp_path):
    path = tmp_path / "policy.pt"
    with pytest.raises(UserError, match="no such policy"):
        load_q_policy(path)
    critic = make_critic(spaces, [8], members=2, activation="relu")
    save_q_policy(path, Resampled(spaces, critic, None, ActingConfig()), CriticConfig(hidden=[8]))
    state = np.ones(4, np.float32)
    np.testing.assert_array_equal(
        load_q_policy(path).stochastic(5)(state),
        Resampled(spaces, critic, None, ActingConfig()).stochastic(5)(state),
    )
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="not a policy of Q"):
        load_q_policy(path)
