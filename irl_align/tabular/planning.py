"""Planning with an entropy bonus: pi = argmax E[sum_t gamma^t (r + H(pi(.|s_t)))], temperature 1.

The solution is Q = r + gamma P V, V = LSE_a Q, pi = exp(Q - V) (thesis eq. 2.4, with V(s') in the
backup). Value iteration repeats the backup; policy iteration evaluates exactly and is Newton's
method, so it needs few, dear steps. A temperature beta is a reward divided by beta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array, check_finite, check_policy, check_shape
from irl_align.tabular.mdp import TabularMDP

__all__ = [
    "SoftSolution",
    "log_policy",
    "log_sum_exp",
    "soft_backup",
    "soft_policy_evaluation",
    "soft_policy_iteration",
    "soft_policy_step",
    "soft_value_iteration",
]


@dataclass(frozen=True, eq=False)
class SoftSolution:
    """Q* [S, A] and V* = LSE_a Q* [S]; each entry is within ``error_bound`` of the fixed point."""

    q: Array
    values: Array
    iterations: int
    error_bound: float

    @property
    def log_policy(self) -> Array:
        """log pi(a|s) = Q - V: [S, A]."""
        return self.q - self.values[:, None]

    @property
    def policy(self) -> Array:
        return np.exp(self.log_policy)


def log_sum_exp(q: Array) -> Array:
    """V(s) = log sum_a exp Q(s, a), without overflow: [S, A] -> [S].

    Column by column and by a matrix-vector product: reducing over a short last axis is several
    times slower than the exponential itself.
    """
    top = q[:, 0].copy()
    for action in range(1, q.shape[1]):
        np.maximum(top, q[:, action], out=top)
    shifted = q - top[:, None]
    np.exp(shifted, out=shifted)
    total = shifted @ np.ones(q.shape[1])
    np.log(total, out=total)
    total += top
    return total


def log_policy(q: Array) -> Array:
    """log softmax_a Q(s, a): [S, A]."""
    return q - log_sum_exp(q)[:, None]


def soft_backup(mdp: TabularMDP, reward: Array, values: Array) -> Array:
    """Q = r + gamma E[V(s')]: [S] -> [S, A]. V -> LSE_a of it contracts by gamma in sup norm."""
    q = mdp.kernel.expect(values)
    q *= mdp.gamma
    q += reward
    return q


def soft_value_iteration(
    mdp: TabularMDP,
    reward: Array,
    *,
    values: Array | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 1_000_000,
) -> SoftSolution:
    """Repeat the soft backup until V is within ``tolerance`` * max(1, |V|) of V*.

    ``values`` [S] starts it (zeros). Stops by MacQueen's bounds: the backup is monotone and turns
    a constant c into gamma c, so with d = V_{k+1} - V_k every V* - V_{k+1} lies between
    gamma/(1-gamma) min d and gamma/(1-gamma) max d; the middle is returned and half the width is
    the error bound. On mixing chains the width falls faster than gamma^k.

    Raises UserError on a reward of the wrong shape or not finite, and when ``max_iterations`` are
    not enough.
    """
    reward = check_finite("the reward", mdp.check_reward(reward))
    v = np.zeros(mdp.states) if values is None else check_shape("values", values, (mdp.states,))
    bound = math.inf
    for iteration in range(1, max_iterations + 1):
        after = log_sum_exp(soft_backup(mdp, reward, v))
        middle, bound = _bounds(mdp.gamma, after - v)
        v = after
        if bound <= tolerance * _scale(v):
            return _solution(mdp, reward, v + middle, iteration, bound)
    raise UserError(
        f"soft value iteration is within {bound:.2g} of the fixed point after {max_iterations} "
        "iterations; raise max_iterations or the tolerance"
    )


def soft_policy_evaluation(mdp: TabularMDP, reward: Array, policy: Array) -> tuple[Array, Array]:
    """Q^pi [S, A] and V^pi [S] with the entropy bonus, by one linear solve (Alg. 1, step a).

    V = sum_a pi (r - log pi) + gamma P_pi V and Q = r + gamma P V. The policy may be deterministic.
    Raises UserError on wrong shapes and rows that are no distributions.
    """
    reward = check_finite("the reward", mdp.check_reward(reward))
    return _evaluate(mdp, reward, check_policy(policy, *mdp.shape))


def soft_policy_step(mdp: TabularMDP, reward: Array, q: Array) -> tuple[Array, Array]:
    """Q^pi [S, A] and V^pi [S] of pi = softmax(Q): one step of policy iteration, unchecked."""
    start = log_sum_exp(q)
    return _evaluate(mdp, reward, np.exp(q - start[:, None]), start)


def _evaluate(
    mdp: TabularMDP, reward: Array, policy: Array, guess: Array | None = None
) -> tuple[Array, Array]:
    immediate = (policy * reward + entr(policy)) @ np.ones(mdp.actions)
    values = mdp.kernel.solve(policy, immediate, mdp.gamma, guess=guess)
    return soft_backup(mdp, reward, values), values


def soft_policy_iteration(
    mdp: TabularMDP,
    reward: Array,
    *,
    q: Array | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 1000,
) -> SoftSolution:
    """Evaluate softmax(Q) exactly, take softmax of the new Q, and so on; ``q`` [S, A] starts it.

    Every policy is at least as good as the one before and the error at least shrinks by gamma; near
    the end it squares. Bounds, tolerance and errors as in :func:`soft_value_iteration`.
    """
    reward = check_finite("the reward", mdp.check_reward(reward))
    current = np.zeros(mdp.shape) if q is None else check_shape("q", q, mdp.shape)
    bound = math.inf
    for iteration in range(1, max_iterations + 1):
        current, v = soft_policy_step(mdp, reward, current)
        after = log_sum_exp(current)  # one backup of V^pi
        middle, bound = _bounds(mdp.gamma, after - v)
        if bound <= tolerance * _scale(after):
            return _solution(mdp, reward, after + middle, iteration, bound)
    raise UserError(
        f"soft policy iteration is within {bound:.2g} of the fixed point after {max_iterations} "
        "iterations; raise max_iterations or the tolerance"
    )


def _bounds(gamma: float, difference: Array) -> tuple[float, float]:
    """Middle and half width of the interval that holds V* - V_{k+1}."""
    low, high = float(difference.min()), float(difference.max())
    factor = 0.5 * gamma / (1 - gamma)
    return factor * (low + high), factor * (high - low)


def _scale(values: Array) -> float:
    return max(1.0, float(np.abs(values).max()))


def _solution(
    mdp: TabularMDP, reward: Array, values: Array, iterations: int, bound: float
) -> SoftSolution:
    # One more backup makes Q and V = LSE Q consistent; it only shrinks the error.
    q = soft_backup(mdp, reward, values)
    return SoftSolution(q, log_sum_exp(q), iterations, bound)
