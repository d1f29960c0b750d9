"""Both reward families: values by hand, gradients by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from irl_align.core.errors import UserError
from irl_align.tabular import neural
from irl_align.tabular.garnet import garnet
from irl_align.tabular.neural import NeuralReward
from irl_align.tabular.rewards import LinearReward, one_hot

S, A, D = 7, 3, 4


@pytest.fixture(scope="module")
def mdp():
    return garnet(S, A, 3, gamma=0.9, seed=0)


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(S, A, D))


def families(mdp, features):
    over_states = features[:, 0]
    return {
        "linear": LinearReward(mdp, features),
        "linear, sparse": LinearReward(mdp, csr_array(features.reshape(-1, D))),
        "linear, states": LinearReward(mdp, over_states),
        "linear, sparse, states": LinearReward(mdp, csr_array(over_states)),
        "tanh": NeuralReward(mdp, features, (5, 6)),
        "relu": NeuralReward(mdp, features, (5, 6), activation="relu", bound=None),
        "bound": NeuralReward(mdp, features, (5,), bound=0.1),
        "net, states": NeuralReward(mdp, over_states, (5, 6)),
        "no hidden layer": NeuralReward(mdp, features, (), bound=None),
    }


NAMES = list(families(garnet(S, A, 3, gamma=0.9, seed=0), np.zeros((S, A, D))))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_against_finite_differences(mdp, features, name):
    family = families(mdp, features)[name]
    rng = np.random.default_rng(1)
    theta, weights = rng.normal(size=family.size), rng.normal(size=(S, A))
    values = family.values(theta)
    assert values.shape == (S, A) and values.dtype == np.float64
    found = family.gradient(theta, weights)
    step = 1e-6
    expected = [
        ((family.values(theta + step * e) - family.values(theta - step * e)) * weights).sum()
        / (2 * step)
        for e in np.eye(family.size)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert np.abs(found).max() > 1e-3


@pytest.mark.parametrize("name", ["linear, states", "linear, sparse, states", "net, states"])
def test_state_only_rewards_see_no_action(mdp, features, name):
    family = families(mdp, features)[name]
    rng = np.random.default_rng(2)
    theta, weights = rng.normal(size=family.size), rng.normal(size=(S, A))
    assert np.ptp(family.values(theta), axis=1).max() == 0
    shuffled = weights[:, [2, 0, 1]]
    np.testing.assert_allclose(
        family.gradient(theta, shuffled), family.gradient(theta, weights), rtol=1e-12
    )


def test_linear_values_and_constants(mdp, features):
    theta = np.array([1.0, -2.0, 0.5, 3.0])
    family = LinearReward(mdp, features)
    np.testing.assert_allclose(family.values(theta), features @ theta)
    assert family.lipschitz == pytest.approx(np.linalg.norm(features, axis=2).max())
    assert LinearReward(mdp, csr_array(features.reshape(-1, D))).lipschitz == family.lipschitz
    assert not family.initial().any()
    visits = np.ones((S, A))
    np.testing.assert_allclose(family.expectation(visits), features.sum((0, 1)))


def test_one_hot_is_every_table(mdp):
    table = np.arange(S * A, dtype=float)
    np.testing.assert_array_equal(one_hot(mdp).values(table), table.reshape(S, A))
    over_states = one_hot(mdp, state_only=True)
    assert over_states.size == S and over_states.state_only
    np.testing.assert_array_equal(over_states.values(table[:S])[:, 1], table[:S])


def test_the_net_is_the_net(mdp, features):
    """Against the layers written out."""
    family = NeuralReward(mdp, features, (5, 6), bound=2.0)
    theta = family.initial(3)
    parts = np.split(theta, np.cumsum([5 * D, 5, 6 * 5, 6, 6]))
    x = np.tanh(features @ parts[0].reshape(5, D).T + parts[1])
    x = np.tanh(x @ parts[2].reshape(6, 5).T + parts[3])
    out = x @ parts[4] + parts[5]
    np.testing.assert_allclose(family.values(theta), 2 * np.tanh(out / 2), rtol=1e-12)
    assert np.abs(family.values(1e3 * theta)).max() <= 2


def test_chunks_change_nothing(mdp, features, monkeypatch):
    family = NeuralReward(mdp, features, (5,))
    theta, weights = family.initial(0), np.random.default_rng(0).normal(size=(S, A))
    whole = family.values(theta), family.gradient(theta, weights)
    monkeypatch.setattr(neural, "CHUNK", 4)
    np.testing.assert_allclose(family.values(theta), whole[0], rtol=1e-14)
    np.testing.assert_allclose(family.gradient(theta, weights), whole[1], rtol=1e-12, atol=1e-15)


def test_initial_is_a_function_of_its_seed_alone(mdp, features):
    family = NeuralReward(mdp, features, (5,))
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = family.initial(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first, family.initial(1))
    assert not np.array_equal(first, family.initial(2))
    assert len(first) == family.size


def test_errors(mdp, features):
    for wrong in (features[:5], features[..., 0].T, np.zeros(S)):
        with pytest.raises(UserError, match=r"\[S, A, d\]"):
            LinearReward(mdp, wrong)
        with pytest.raises(UserError, match=r"\[S, A, d\]"):
            NeuralReward(mdp, wrong)
    with pytest.raises(UserError, match=r"\[S\*A, d\]"):
        LinearReward(mdp, csr_array(np.ones((5, 2))))
    with pytest.raises(UserError, match="must be finite"):
        LinearReward(mdp, features * np.nan)
    with pytest.raises(UserError, match=r"theta must have shape \[4\]"):
        LinearReward(mdp, features).values(np.zeros(5))
    with pytest.raises(UserError, match="bound"):
        NeuralReward(mdp, features, bound=0)
    with pytest.raises(UserError, match="widths"):
        NeuralReward(mdp, features, (4, 0))
    with pytest.raises(UserError, match="activation"):
        NeuralReward(mdp, features, activation="gelu")
