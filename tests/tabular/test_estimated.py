from __future__ import annotations

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.tabular import estimated as module
from irl_align.tabular.estimated import CountedTransitions, draw_transitions, estimate_model
from irl_align.tabular.kernels import DenseKernel, SparseKernel
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.offline import ConservativeReward, model_error
from irl_align.tabular.rewards import one_hot
from irl_align.tabular.rollouts import Rollouts


@pytest.fixture
def mdp(tables):
    world = tables(0, states=4, actions=2)
    return make_mdp(world.kernel, 0.9, world.initial)


def column(*numbers):
    return np.array(numbers)


def test_counting(mdp):
    drawn = CountedTransitions(column(0, 0, 0, 0, 2), column(1, 1, 1, 0, 1), column(3, 3, 1, 2, 0))
    model = estimate_model(drawn, mdp, penalty_coef=2.0)
    table = model.mdp.kernel.probabilities
    np.testing.assert_allclose(table[0, 1], [0, 1 / 3, 0, 2 / 3])
    np.testing.assert_allclose(table[0, 0], [0, 0, 1, 0])
    np.testing.assert_allclose(table[2, 1], [1, 0, 0, 0])
    np.testing.assert_allclose(table[3], np.eye(4)[[3, 3]])  # never tried: stays
    np.testing.assert_array_equal(model.counts, [[1, 3], [0, 0], [0, 1], [0, 0]])
    np.testing.assert_allclose(model.penalty[0], [-2 / np.sqrt(2), -1.0])
    assert (model.penalty[[1, 3]] == -2).all()
    assert model.mdp.gamma == 0.9
    np.testing.assert_array_equal(model.mdp.initial, mdp.initial)


def test_dense_and_sparse_models_are_the_same(mdp, monkeypatch):
    drawn = draw_transitions(mdp, np.ones((4, 2)), 50, np.random.default_rng(0))
    dense = estimate_model(drawn, mdp).mdp.kernel
    monkeypatch.setattr(module, "_DENSE", 0)
    sparse = estimate_model(drawn, mdp).mdp.kernel
    assert isinstance(dense, DenseKernel) and isinstance(sparse, SparseKernel)
    assert model_error(dense, sparse).max() == 0
    values = np.arange(4.0)
    np.testing.assert_allclose(dense.expect(values), sparse.expect(values))


def test_many_draws_find_the_kernel_and_the_pairs(mdp):
    pairs = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 4.0], [1.0, 1.0]])
    drawn = draw_transitions(mdp, pairs, 200_000, np.random.default_rng(1))
    model = estimate_model(drawn, mdp)
    np.testing.assert_allclose(model.counts / len(drawn), pairs / 10, atol=5e-3)
    error = model_error(model.mdp.kernel, mdp.kernel)
    assert error[pairs > 0].max() < 0.03 < 0.5 < error[pairs == 0].min()


def test_steps_of_rollouts():
    rollouts = Rollouts(np.array([[0, 1, 2], [3, 3, 0]]), np.array([[1, 0, 1], [0, 0, 1]]))
    found = CountedTransitions.of(rollouts)
    assert found.states.tolist() == [0, 1, 3, 3]
    assert found.actions.tolist() == [1, 0, 0, 0]
    assert found.successors.tolist() == [1, 2, 3, 0]
    assert len(found.and_also(found)) == 8


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda mdp: CountedTransitions(column(0), column(0), column(0, 1)), "one state, action"),
        (lambda mdp: CountedTransitions(column(0.5), column(0), column(0)), "whole numbers"),
        (
            lambda mdp: estimate_model(CountedTransitions(column(0), column(2), column(0)), mdp),
            "actions from 2 to 2, the MDP has 2",
        ),
        (
            lambda mdp: estimate_model(
                CountedTransitions(column(0), column(0), column(0)), mdp, penalty_coef=-1
            ),
            "penalty_coef must be >= 0",
        ),
        (
            lambda mdp: draw_transitions(mdp, np.zeros((4, 2)), 3, np.random.default_rng(0)),
            "not all 0",
        ),
        (
            lambda mdp: ConservativeReward(one_hot(mdp), np.ones((4, 2)), mdp),
            "the penalty is 1 somewhere",
        ),
        (
            lambda mdp: model_error(mdp.kernel, DenseKernel(np.ones((1, 1, 1)))),
            "cannot be compared",
        ),
    ],
)
def test_mistakes_are_named(mdp, make, said):
    with pytest.raises(UserError, match=said):
        make(mdp)
