"""Rewards up to potential shaping: what demonstrations in one MDP can tell, and what they cannot.

r and r + gamma E[Phi(s')] - Phi(s) have the same optimal soft policy for every potential Phi, and
no other reward has it: from log pi = Q - V follows r = log pi + V - gamma P V, so two rewards with
the same pi differ by the shaping with Phi = V - V'. A constant c is the shaping with
Phi = -c / (1 - gamma).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, lsqr

from irl_align.tabular.arrays import Array, check_finite, check_shape
from irl_align.tabular.mdp import TabularMDP

__all__ = ["fit_potential", "level", "shape_reward", "shaping"]


def shaping(mdp: TabularMDP, potential: Any) -> Array:
    """F(s, a) = gamma E[Phi(s') | s, a] - Phi(s): [S, A] from a potential [S]."""
    phi = check_finite("the potential", check_shape("the potential", potential, (mdp.states,)))
    return mdp.gamma * mdp.kernel.expect(phi) - phi[:, None]


def shape_reward(mdp: TabularMDP, reward: Any, potential: Any) -> Array:
    """r + F: another reward [S, A] with the same optimal policies."""
    return mdp.check_reward(reward) + shaping(mdp, potential)


def level(mdp: TabularMDP, reward: Any) -> Array:
    """The representative of a reward's shaping class whose uniform policy is worth zero everywhere.

    r + gamma P V - V with V the value (without entropy) of the uniform policy: "value-adjusted
    levelling" of STARC (Skalse et al., 2024). It is linear in r and forgets exactly the shapings of
    these dynamics. [S, A].
    """
    table = mdp.check_reward(reward)
    uniform = np.full(mdp.shape, 1 / mdp.actions)
    values = mdp.kernel.solve(uniform, table.mean(1), mdp.gamma)
    return shape_reward(mdp, table, values)


def fit_potential(mdp: TabularMDP, difference: Any) -> tuple[Array, float]:
    """The potential [S] whose shaping comes nearest to ``difference`` [S, A] in least squares.

    Also returns what is left, max |difference - F|: zero exactly when the two rewards are the same
    up to shaping. The potential is unique, constants included, for gamma < 1.
    """
    target = mdp.check_reward(difference)

    def adjoint(weights: Array) -> Array:
        table = weights.reshape(mdp.shape)
        return mdp.gamma * mdp.kernel.push(table) - table.sum(1)

    operator = LinearOperator(
        (mdp.states * mdp.actions, mdp.states),
        matvec=lambda phi: shaping(mdp, phi.ravel()).ravel(),
        rmatvec=adjoint,
        dtype=np.float64,
    )
    potential = lsqr(operator, target.ravel(), atol=1e-14, btol=1e-14, iter_lim=20 * mdp.states)[0]
    return potential, float(np.abs(target - shaping(mdp, potential)).max())
