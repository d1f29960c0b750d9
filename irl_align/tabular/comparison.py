"""How far is a learned reward from the true one, when only policies are identified?

Three answers, from what is done with the reward to what it is:

* ``policy_regret``: what is lost under the true reward by optimising the learned one;
* ``levelled_distance``: Pearson distance of both after the shapings of these dynamics are removed;
* ``epic_distance``: EPIC (Gleave et al., 2021), which knows no dynamics: rewards R(s, a, s') and
  shaping gamma Phi(s') - Phi(s) along every transition, possible or not.

The distances lie in [0, 1] and ignore positive scale, which the soft policy does not. An (s, a)
reward that was learned in one MDP is known up to *expected* shaping: for it use the levelled one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import entr

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import (
    Array,
    check_discount,
    check_distribution,
    check_finite,
    check_shape,
)
from irl_align.tabular.mdp import TabularMDP
from irl_align.tabular.planning import soft_policy_iteration
from irl_align.tabular.shaping import level

__all__ = [
    "epic_canonical",
    "epic_distance",
    "greedy_policy",
    "levelled_distance",
    "pearson_distance",
    "policy_regret",
    "policy_return",
]


def policy_return(mdp: TabularMDP, reward: Any, policy: Array, *, entropy: bool = False) -> float:
    """E_pi[sum_t gamma^t r], plus the discounted entropy when asked for."""
    table = mdp.check_reward(reward)
    immediate = (policy * table).sum(1)
    if entropy:
        immediate = immediate + entr(policy).sum(1)
    return float(mdp.initial @ mdp.kernel.solve(policy, immediate, mdp.gamma))


def greedy_policy(mdp: TabularMDP, reward: Any, *, max_iterations: int = 10_000) -> Array:
    """A deterministic optimal policy [S, A] without entropy, by Howard's policy iteration."""
    table = check_finite("the reward", mdp.check_reward(reward))
    rows = np.arange(mdp.states)
    chosen = table.argmax(1)
    for _ in range(max_iterations):
        policy = np.zeros(mdp.shape)
        policy[rows, chosen] = 1.0
        values = mdp.kernel.solve(policy, table[rows, chosen], mdp.gamma)
        q = table + mdp.gamma * mdp.kernel.expect(values)
        # Only clear gains change an action: rounding must not turn ties back and forth.
        gain = q.max(1) - q[rows, chosen]
        better = gain > 1e-9 * max(1.0, float(np.abs(q).max()))
        if not better.any():
            return policy
        chosen = np.where(better, q.argmax(1), chosen)
    raise UserError(f"policy iteration did not settle in {max_iterations} iterations")


def policy_regret(mdp: TabularMDP, learned: Any, true: Any, *, entropy: bool = True) -> float:
    """J_true(optimal for the true reward) - J_true(optimal for the learned one), at least zero.

    With ``entropy`` both policies are soft-optimal and J counts the entropy (the paper's problem:
    the scale of the reward matters); without, both are greedy and the scale does not matter.
    ``learned`` and ``true`` are [S, A].
    """
    if entropy:
        best, found = (
            soft_policy_iteration(mdp, mdp.check_reward(r)).policy for r in (true, learned)
        )
    else:
        best, found = greedy_policy(mdp, true), greedy_policy(mdp, learned)
    reached = policy_return(mdp, true, found, entropy=entropy)
    return policy_return(mdp, true, best, entropy=entropy) - reached


def pearson_distance(x: Any, y: Any, weights: Any = None) -> float:
    """sqrt((1 - rho) / 2) with rho the weighted correlation of two arrays of one shape; in [0, 1].

    A constant has no correlation: 0 to another constant, sqrt(1/2) to anything else. Raises
    UserError on shapes that differ and weights that are negative or all zero.
    """
    a = check_finite("the first reward", np.asarray(x, dtype=np.float64))
    b = check_finite("the second reward", check_shape("the second reward", y, a.shape))
    w = np.ones(a.shape) if weights is None else check_shape("weights", weights, a.shape)
    if w.min() < 0 or not w.sum() > 0:
        raise UserError("weights must be >= 0 and not all zero")
    w = w / w.sum()
    first, second = _standardised(a, w), _standardised(b, w)
    if first is None or second is None:
        return 0.0 if first is None and second is None else math.sqrt(0.5)
    # 2 - 2 rho = |first - second|^2, which keeps its digits where 1 - rho has lost them.
    return 0.5 * math.sqrt((w * (first - second) ** 2).sum())


def _standardised(x: Array, w: Array) -> Array | None:
    """x with weighted mean zero and variance one; None when it is constant but for rounding."""
    centred = x - (w * x).sum()
    scale = math.sqrt((w * centred**2).sum())
    return None if scale <= 1e-12 * np.abs(x).max() else centred / scale


def _clean(canonical: Array, gamma: float, original: Any) -> Array:
    """Zeros when only rounding is left of a reward that was nothing but shaping."""
    noise = 1e-12 * float(np.abs(np.asarray(original)).max()) / (1 - gamma)
    return canonical if np.abs(canonical).max() > noise else np.zeros_like(canonical)


def levelled_distance(mdp: TabularMDP, first: Any, second: Any, weights: Any = None) -> float:
    """Pearson distance of the levelled rewards [S, A]: zero for shaped and scaled copies.

    ``weights`` [S, A] say where it counts, for example an occupancy; all pairs by default.
    """
    a, b = (_clean(level(mdp, r), mdp.gamma, r) for r in (first, second))
    return pearson_distance(a, b, weights)


def epic_canonical(
    reward: Any, gamma: float, state_weights: Any = None, action_weights: Any = None
) -> Array:
    """EPIC's canonically shaped reward of R [S, A, S] (or [S, A], for every successor alike).

    C(R)(s, a, s') = R(s, a, s') + E[gamma R(s', A, S') - R(s, A, S') - gamma R(S, A, S')] with S
    and S' drawn from ``state_weights`` [S] and A from ``action_weights`` [A], uniform by default.
    Holds S*A*S numbers. Raises UserError on other shapes and weights that are no distribution.
    """
    gamma = check_discount(gamma)
    table = np.asarray(reward, dtype=np.float64)
    if table.ndim == 2:
        table = np.broadcast_to(table[:, :, None], (*table.shape, table.shape[0]))
    if table.ndim != 3 or table.shape[0] != table.shape[2]:
        raise UserError(f"EPIC takes a reward [S, A, S] or [S, A], got {list(table.shape)}")
    states, actions, _ = table.shape
    over_states = _weights("state_weights", state_weights, states)
    over_actions = _weights("action_weights", action_weights, actions)
    mean = np.einsum("sat,a,t->s", table, over_actions, over_states)  # E R(s, A, S')
    constant = gamma * float(mean @ over_states)
    return table + gamma * mean[None, None, :] - mean[:, None, None] - constant


def epic_distance(
    first: Any,
    second: Any,
    gamma: float,
    state_weights: Any = None,
    action_weights: Any = None,
    coverage: Any = None,
) -> float:
    """Pearson distance of the canonically shaped rewards, over ``coverage`` [S, A, S].

    By default the coverage is the product of the weights. Zero for copies that are scaled by a
    positive number and shaped by gamma Phi(s') - Phi(s). Arguments as :func:`epic_canonical`.
    """
    a, b = (
        _clean(epic_canonical(r, gamma, state_weights, action_weights), gamma, r)
        for r in (first, second)
    )
    if coverage is None:
        over_states = _weights("state_weights", state_weights, a.shape[0])
        over_actions = _weights("action_weights", action_weights, a.shape[1])
        coverage = np.einsum("s,a,t->sat", over_states, over_actions, over_states)
    return pearson_distance(a, b, coverage)


def _weights(name: str, weights: Any, size: int) -> Array:
    if weights is None:
        return np.full(size, 1 / size)
    array = check_shape(name, weights, (size,))
    check_distribution(name, array, array.sum(keepdims=True))
    return array
