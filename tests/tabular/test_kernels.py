"""Dense and sparse are the same kernel; both against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from irl_align.core.errors import UserError
from irl_align.tabular.kernels import DenseKernel, SparseKernel

GAMMA = 0.9


@pytest.fixture(params=["dense", "direct", "iterative"])
def make(request):
    def build(table):
        if request.param == "dense":
            return DenseKernel(table)
        return SparseKernel(csr_array(table.reshape(-1, table.shape[0])), method=request.param)

    return build


@pytest.mark.parametrize("zeros", [False, True])
def test_expect_and_push_are_the_plain_sums(make, tables, zeros):
    world = tables(0, zeros=zeros)
    kernel = make(world.kernel)
    assert (kernel.states, kernel.actions) == (6, 3)
    values, weights = np.arange(6.0) ** 2, world.policy
    np.testing.assert_allclose(
        kernel.expect(values), np.einsum("sat,t->sa", world.kernel, values), rtol=1e-13
    )
    np.testing.assert_allclose(
        kernel.push(weights), np.einsum("sa,sat->t", weights, world.kernel), rtol=1e-13
    )


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_solve_is_the_neumann_series(make, tables, transposed, deterministic):
    world = tables(1, zeros=True)
    policy = np.eye(3)[[0, 1, 2, 0, 1, 2]] if deterministic else world.policy
    under = np.einsum("sa,sat->st", policy, world.kernel)
    under = under.T if transposed else under
    rhs = np.array([1.0, -2.0, 0.5, 0.0, 3.0, 1.0])
    expected, term = np.zeros(6), rhs
    for _ in range(500):
        expected, term = expected + term, GAMMA * under @ term
    found = make(world.kernel).solve(policy, rhs, GAMMA, transposed=transposed)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_guess_changes_nothing(make, tables):
    world = tables(2)
    kernel = make(world.kernel)
    rhs = world.reward[:, 0]
    plain = kernel.solve(world.policy, rhs, GAMMA)
    guessed = kernel.solve(world.policy, rhs, GAMMA, guess=np.full(6, 1e3))
    np.testing.assert_allclose(guessed, plain, rtol=1e-11)


def test_draws_follow_the_row(make, tables):
    world = tables(3, zeros=True)
    kernel = make(world.kernel)
    count = 20_000
    uniforms = (np.arange(count) + 0.5) / count  # every quantile once: no chance in the test
    for state, action in [(0, 0), (2, 1), (5, 2)]:
        drawn = kernel.draw(np.full(count, state), np.full(count, action), uniforms)
        shares = np.bincount(drawn, minlength=6) / count
        np.testing.assert_allclose(shares, world.kernel[state, action], atol=1.1 / count)


def test_extreme_uniforms_stay_in_the_row_and_on_possible_successors(make, tables):
    world = tables(4, zeros=True)
    kernel = make(world.kernel)
    states, actions = (x.ravel() for x in np.indices((6, 3)))
    for uniform in (0.0, 1e-300, 1 - 2**-53):
        drawn = kernel.draw(states, actions, np.full(18, uniform))
        assert (world.kernel[states, actions, drawn] > 0).all()


class TestErrors:
    def test_a_row_that_does_not_sum_to_one_is_named(self, make, tables):
        table = tables(5).kernel
        table[4, 1] *= 0.9
        with pytest.raises(UserError, match=r"of \(state 4, action 1\) sum to 0\.9"):
            make(table)

    def test_negative_and_missing_numbers(self, make, tables):
        table = tables(5).kernel
        table[0, 0, 0], table[0, 0, 1] = -0.25, 0.25 + table[0, 0, :2].sum()
        with pytest.raises(UserError, match=r"holds -0\.25"):
            make(table)
        table[0, 0, 0] = np.nan
        with pytest.raises(UserError, match="must be finite"):
            make(table)

    @pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (0, 0, 0)])
    def test_dense_shapes(self, shape):
        with pytest.raises(UserError, match="shape"):
            DenseKernel(np.ones(shape))

    def test_sparse_shapes(self):
        with pytest.raises(UserError, match=r"\[S\*A, S\], got \[7, 3\]"):
            SparseKernel(random_array((7, 3)))
        with pytest.raises(UserError, match="got ndarray"):
            SparseKernel(np.eye(3))
        with pytest.raises(UserError, match="method must be"):
            SparseKernel(csr_array(np.eye(3)), method="magic")


def test_sparse_takes_duplicates_and_keeps_narrow_indices():
    entries = ([0.25, 0.75, 0.5, 0.5], [0, 0, 0, 1], [0, 2, 4])
    kernel = SparseKernel(csr_array(entries, shape=(2, 2)))
    assert kernel.matrix.nnz == 3
    assert kernel.matrix.indices.dtype == np.int32
    np.testing.assert_array_equal(kernel.expect(np.array([1.0, 2.0])), [[1.0], [1.5]])
