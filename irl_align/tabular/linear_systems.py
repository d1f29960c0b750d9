"""Solving (I - gamma P_pi) x = b, the one linear system behind values and occupancies."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import LinearOperator, bicgstab, splu

from irl_align.tabular.arrays import Array

__all__ = ["Method", "solve_dense", "solve_sparse"]

Method = Literal["auto", "direct", "iterative"]

# Where the fill-in of a factorisation may cost more than iterating (random graphs fill up).
DIRECT_STATES = 1000
# Residual to reach, relative to the right side.
TOLERANCE = 1e-13
# Residual that float64 cannot get below, relative to the solution.
ROUNDING = 16 * float(np.finfo(np.float64).eps)


def solve_dense(under_policy: Array, rhs: Array, gamma: float, transposed: bool) -> Array:
    """x [S] with (I - gamma P) x = b, or its transpose; ``under_policy`` P: [S, S]."""
    system = -gamma * (under_policy.T if transposed else under_policy)
    system.flat[:: len(rhs) + 1] += 1.0
    return np.asarray(np.linalg.solve(system, rhs), dtype=np.float64)


def solve_sparse(
    under_policy: csr_array,
    rhs: Array,
    gamma: float,
    transposed: bool,
    method: Method = "auto",
    guess: Array | None = None,
) -> Array:
    """As :func:`solve_dense` for a sparse P: by a factorisation, or by Krylov steps.

    ``auto`` factorises up to 1000 states. Iterating needs memory for a few vectors only and stops
    at a residual of 1e-13 of ``rhs``, so the error is at most 1e-13 |b| / (1 - gamma), or where
    float64 rounding ends sooner. The norm is the one in which gamma P contracts: the largest entry,
    or for the transpose the sum of absolute entries.
    """
    if method == "direct" or (method == "auto" and len(rhs) <= DIRECT_STATES):
        system = (eye_array(len(rhs), format="csr") - gamma * under_policy).tocsc()
        factors = splu(system)
        return np.asarray(factors.solve(rhs, trans="T" if transposed else "N"))
    matrix = under_policy.T if transposed else under_policy
    return _iterate(matrix, rhs, gamma, transposed, rhs if guess is None else guess)


def _iterate(matrix: Any, rhs: Array, gamma: float, transposed: bool, guess: Array) -> Array:
    def norm(x: Array) -> float:
        return float(np.abs(x).sum() if transposed else np.abs(x).max())

    size = len(rhs)
    scale = norm(rhs)
    if scale == 0:
        return np.zeros(size)
    system = LinearOperator((size, size), matvec=lambda x: x - gamma * (matrix @ x), dtype=float)
    x, _ = bicgstab(system, rhs, x0=guess.copy(), rtol=TOLERANCE, atol=0.0, maxiter=200)
    if not np.isfinite(x).all():  # BiCGSTAB can break down; the steps below cannot
        x = rhs.copy()
    # Fixed-point steps contract by gamma from anywhere: they finish what Krylov steps left, in the
    # norm of the guarantee, and their number is known in advance.
    step = rhs + gamma * (matrix @ x) - x
    left = math.log(max(norm(step) / (TOLERANCE * scale), 1.0)) / -math.log(gamma)
    for _ in range(math.ceil(left)):
        if norm(step) <= max(TOLERANCE * scale, ROUNDING * norm(x)):
            break
        x = x + step
        step = rhs + gamma * (matrix @ x) - x
    return np.asarray(x)
