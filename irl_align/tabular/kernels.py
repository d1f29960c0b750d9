"""Transition kernels P(s'|s,a), dense or sparse, behind the five things planning asks of one.

A kernel knows no reward, discount or policy. Dense is the faster choice while most successors are
possible, sparse when few are: 10^5 states with five successors each fit in some tens of MiB.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array, issparse

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array, Ints, check_distribution, check_finite, check_shape
from irl_align.tabular.linear_systems import Method, solve_dense, solve_sparse

__all__ = ["DenseKernel", "Kernel", "SparseKernel"]


class Kernel(Protocol):
    """What a tabular algorithm may ask of the dynamics."""

    @property
    def states(self) -> int: ...

    @property
    def actions(self) -> int: ...

    def expect(self, values: Array) -> Array:
        """E[v(s') | s, a]: [S] -> [S, A]."""
        ...

    def push(self, weights: Array) -> Array:
        """sum_{s,a} w(s,a) P(s'|s,a), the adjoint of :meth:`expect`: [S, A] -> [S]."""
        ...

    def solve(
        self,
        policy: Array,
        rhs: Array,
        gamma: float,
        *,
        transposed: bool = False,
        guess: Array | None = None,
    ) -> Array:
        """x [S] with (I - gamma P_pi) x = rhs, or with its transpose; ``policy`` [S, A].

        ``guess`` [S] is where an iterative solver starts.
        """
        ...

    def draw(self, states: Ints, actions: Ints, uniforms: Array) -> Ints:
        """Successors of N state-action pairs [N], from N uniform numbers in [0, 1)."""
        ...


class DenseKernel:
    """P as an array [S, A, S]. Raises UserError unless every P[s, a] is a distribution."""

    def __init__(self, probabilities: Any) -> None:
        table = check_shape("the kernel", probabilities, (None, None, None))
        if not table.size or table.shape[0] != table.shape[2]:
            raise UserError(f"a dense kernel has shape [S, A, S], got {list(table.shape)}")
        check_finite("the kernel", table)
        check_distribution("the kernel", table, table.sum(2), _pair(table.shape[1]))
        self.probabilities = np.ascontiguousarray(table)  # [S, A, S]
        self._rows = self.probabilities.reshape(-1, table.shape[0])  # [S*A, S]
        self._cumulative: Array | None = None

    @property
    def states(self) -> int:
        return self.probabilities.shape[0]

    @property
    def actions(self) -> int:
        return self.probabilities.shape[1]

    def expect(self, values: Array) -> Array:
        return (self._rows @ values).reshape(self.states, self.actions)

    def push(self, weights: Array) -> Array:
        return weights.reshape(-1) @ self._rows

    def solve(
        self,
        policy: Array,
        rhs: Array,
        gamma: float,
        *,
        transposed: bool = False,
        guess: Array | None = None,
    ) -> Array:
        under_policy = np.matmul(policy[:, None, :], self.probabilities)[:, 0, :]  # [S, S]
        return solve_dense(under_policy, rhs, gamma, transposed)

    def draw(self, states: Ints, actions: Ints, uniforms: Array) -> Ints:
        if self._cumulative is None:
            self._cumulative = np.cumsum(self._rows)
        rows = states * self.actions + actions
        found = _draw(self._cumulative, rows * self.states, (rows + 1) * self.states, uniforms)
        return found % self.states


class SparseKernel:
    """P as a scipy sparse matrix [S*A, S], row s*A + a.

    ``method`` chooses how linear systems are solved (see ``linear_systems.solve_sparse``): direct
    is faster on grids, iterative on random graphs and from 10^5 states on. Raises UserError unless
    every row is a distribution.
    """

    def __init__(self, matrix: Any, method: Method = "auto") -> None:
        if not issparse(matrix):
            raise UserError(
                f"a sparse kernel is a scipy sparse matrix, got {type(matrix).__name__}"
            )
        rows, states = matrix.shape
        if not states or not rows or rows % states:
            raise UserError(f"a sparse kernel has shape [S*A, S], got {[rows, states]}")
        if method not in ("auto", "direct", "iterative"):
            raise UserError(f"method must be auto, direct or iterative, got {method!r}")
        self.matrix = csr_array(matrix, dtype=np.float64)
        self.matrix.sum_duplicates()
        if max(self.matrix.nnz, rows) < 2**31:  # half the traffic of 64-bit indices
            self.matrix.indices = self.matrix.indices.astype(np.int32, copy=False)
            self.matrix.indptr = self.matrix.indptr.astype(np.int32, copy=False)
        self.method: Method = method
        self._states, self._actions = int(states), int(rows // states)
        check_finite("the kernel", self.matrix.data)
        sums = np.asarray(self.matrix.sum(axis=1)).ravel()
        check_distribution("the kernel", self.matrix.data, sums, _pair(self._actions))
        self._cumulative: Array | None = None

    @property
    def states(self) -> int:
        return self._states

    @property
    def actions(self) -> int:
        return self._actions

    def expect(self, values: Array) -> Array:
        return np.asarray(self.matrix @ values).reshape(self._states, self._actions)

    def push(self, weights: Array) -> Array:
        return np.asarray(self.matrix.T @ weights.reshape(-1))

    def solve(
        self,
        policy: Array,
        rhs: Array,
        gamma: float,
        *,
        transposed: bool = False,
        guess: Array | None = None,
    ) -> Array:
        return solve_sparse(self._under(policy), rhs, gamma, transposed, self.method, guess)

    def _under(self, policy: Array) -> csr_array:
        """P_pi [S, S]: the rows of each state mixed by the policy."""
        size = self._states * self._actions
        mixing = csr_array(
            (
                policy.reshape(-1),
                np.arange(size, dtype=self.matrix.indices.dtype),
                np.arange(0, size + 1, self._actions, dtype=self.matrix.indices.dtype),
            ),
            shape=(self._states, size),
        )
        return mixing @ self.matrix

    def draw(self, states: Ints, actions: Ints, uniforms: Array) -> Ints:
        if self._cumulative is None:
            self._cumulative = np.cumsum(self.matrix.data)
        rows = states * self._actions + actions
        starts, ends = self.matrix.indptr[rows], self.matrix.indptr[rows + 1]
        found = _draw(self._cumulative, starts, ends, uniforms)
        return np.asarray(self.matrix.indices[found], dtype=np.int64)


def _draw(cumulative: Array, starts: Ints, ends: Ints, uniforms: Array) -> Ints:
    """Inverse-CDF draws from slices [start, end) of one running sum over all rows.

    One running sum serves every row, so that a draw is one binary search. An entry of probability
    zero is never found: its running sum equals its predecessor's.
    """
    below = np.where(starts > 0, cumulative[starts - 1], 0.0)
    above = cumulative[ends - 1]
    # Rounding must not carry u = 1 - 2^-53 into the next row.
    target = np.minimum(below + uniforms * (above - below), np.nextafter(above, -np.inf))
    return np.searchsorted(cumulative, target, side="right")


def _pair(actions: int) -> Any:
    return lambda row: f"(state {row // actions}, action {row % actions})"
