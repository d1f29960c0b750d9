"""Discounted occupancies d(s,a) = sum_t gamma^t Pr(s_t = s, a_t = a), and what follows from them.

d sums to 1 / (1 - gamma). Everything that the objective asks of a policy is linear in it or an
entropy of it:

* return <d, r>, features <d, phi>, entropy H = -E[sum_t gamma^t log pi];
* likelihood L(theta) = E_E[sum_t gamma^t log pi_theta(a_t|s_t)] = <d_E, log pi_theta>, which for
  an occupancy of these very dynamics equals <d_E, r_theta> - E_{s0}[V_theta(s0)].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array, check_policy, check_shape
from irl_align.tabular.mdp import TabularMDP

__all__ = [
    "conditional_policy",
    "discounted_entropy",
    "flow_residual",
    "log_likelihood",
    "occupancy",
    "surrogate_likelihood",
]


def occupancy(mdp: TabularMDP, policy: Any) -> Array:
    """d [S, A] of ``policy`` [S, A]: solves (I - gamma P_pi^T) mu = eta, then d = mu pi.

    Raises UserError on a policy whose rows are no distributions.
    """
    return occupancy_unchecked(mdp, check_policy(policy, *mdp.shape))


def occupancy_unchecked(mdp: TabularMDP, policy: Array) -> Array:
    """:func:`occupancy` for the inside of loops: a float64 [S, A] policy, no checks."""
    visits = mdp.kernel.solve(policy, mdp.initial, mdp.gamma, transposed=True)  # [S]
    return visits[:, None] * policy


def conditional_policy(visits: Any) -> Array:
    """pi(a|s) = d(s,a) / sum_a d(s,a); uniform where a state is never visited. [S, A]."""
    table = check_shape("the occupancy", visits, (None, None))
    total = table.sum(1, keepdims=True)
    uniform = np.full_like(table, 1 / table.shape[1])
    return np.divide(table, total, out=uniform, where=total > 0)


def discounted_entropy(visits: Any) -> float:
    """H = -sum d(s,a) log pi(a|s) with pi the conditional of ``visits`` [S, A]."""
    table = check_shape("the occupancy", visits, (None, None))
    # sum_s d(s) H(pi(.|s)) with entr(x) = -x log x, so never-taken actions count zero
    return float((table.sum(1) * entr(conditional_policy(table)).sum(1)).sum())


def log_likelihood(visits: Any, log_policy: Any) -> float:
    """<d_E, log pi>: [S, A] each. -inf when the policy excludes what was demonstrated."""
    table = check_shape("the occupancy", visits, (None, None))
    logs = check_shape("log_policy", log_policy, table.shape)
    if logs.max() > 1e-9:
        raise UserError(f"log_policy holds {logs.max():.3g}: give logarithms of probabilities")
    taken = table > 0
    return float((table[taken] * logs[taken]).sum())


def surrogate_likelihood(mdp: TabularMDP, visits: Any, reward: Any, values: Any) -> float:
    """<d_E, r> - sum_s eta(s) V(s), the likelihood when ``visits`` obeys the dynamics.

    ``values`` [S] are the optimal soft values of ``reward`` [S, A]. For the empirical occupancy of
    finitely many rollouts it differs from :func:`log_likelihood`, and it is the one whose
    gradient Lemma 1 writes down.
    """
    table = check_shape("the occupancy", visits, mdp.shape)
    return float((table * mdp.check_reward(reward)).sum() - mdp.initial @ np.asarray(values))


def flow_residual(mdp: TabularMDP, visits: Any) -> float:
    """sum_s' |sum_a d(s',a) - eta(s') - gamma sum_{s,a} d(s,a) P(s'|s,a)|: 0 for an occupancy."""
    table = check_shape("the occupancy", visits, mdp.shape)
    inflow = mdp.initial + mdp.gamma * mdp.kernel.push(table)
    return float(np.abs(table.sum(1) - inflow).sum())
