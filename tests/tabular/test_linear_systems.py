"""The iterative solver on systems that are too large to trust by eye."""

from __future__ import annotations

import numpy as np
import pytest

from irl_align.tabular import linear_systems
from irl_align.tabular.garnet import garnet
from irl_align.tabular.linear_systems import solve_sparse


@pytest.fixture(scope="module")
def under_policy():
    """P_pi of a random graph with 400 states, [S, S] sparse, as a single-action Garnet."""
    return garnet(400, 1, 4, gamma=0.9, seed=0, dense=False).kernel.matrix


@pytest.mark.parametrize("gamma", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("transposed", [False, True])
def test_iterative_meets_its_bound(under_policy, gamma, transposed):
    rng = np.random.default_rng(0)
    rhs = rng.exponential(size=400) if transposed else rng.normal(size=400)
    matrix = under_policy.toarray()
    exact = np.linalg.solve(np.eye(400) - gamma * (matrix.T if transposed else matrix), rhs)
    found = solve_sparse(under_policy, rhs, gamma, transposed, "iterative")
    direct = solve_sparse(under_policy, rhs, gamma, transposed, "direct")
    order = 1 if transposed else np.inf
    for x in (found, direct):
        assert np.linalg.norm(x - exact, order) <= 1e-12 * np.linalg.norm(exact, order) / (
            1 - gamma
        )


def test_a_concentrated_right_side(under_policy):
    """An episode that starts in one state: Krylov steps look at another norm than the bound."""
    rhs = np.zeros(400)
    rhs[7] = 1.0
    exact = np.linalg.solve(np.eye(400) - 0.99 * under_policy.toarray().T, rhs)
    found = solve_sparse(under_policy, rhs, 0.99, True, "iterative")
    assert np.abs(found - exact).sum() < 1e-9
    assert found.sum() == pytest.approx(100, rel=1e-11)


def test_a_breakdown_of_the_krylov_method_does_no_harm(under_policy, monkeypatch):
    monkeypatch.setattr(
        linear_systems, "bicgstab", lambda system, rhs, **_: (np.full_like(rhs, np.nan), -10)
    )
    rhs = np.linspace(-1, 1, 400)
    found = solve_sparse(under_policy, rhs, 0.9, False, "iterative")
    np.testing.assert_allclose(found - 0.9 * (under_policy @ found), rhs, atol=1e-12)


@pytest.mark.parametrize("krylov", [True, False])
def test_a_guess_from_far_away(under_policy, monkeypatch, krylov):
    """The number of steps left follows from the residual, however large."""
    if not krylov:
        monkeypatch.setattr(linear_systems, "bicgstab", lambda system, rhs, x0, **_: (x0, 1))
    rhs = np.linspace(-1, 1, 400)
    found = solve_sparse(under_policy, rhs, 0.9, False, "iterative", guess=np.full(400, 1e6))
    np.testing.assert_allclose(found - 0.9 * (under_policy @ found), rhs, atol=1e-12)


def test_zero_in_zero_out(under_policy):
    assert not solve_sparse(under_policy, np.zeros(400), 0.9, False, "iterative").any()
