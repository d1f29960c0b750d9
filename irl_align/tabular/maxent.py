"""Maximum-entropy IRL with linear rewards, through its Lagrangian dual (thesis Theorem 1).

    max_pi H(pi)  s.t.  E_pi[sum_t gamma^t phi] = E_E[sum_t gamma^t phi]

The Lagrangian H(pi) + <theta, Phi(pi) - Phi_E> is maximal at the soft-optimal policy of r = phi^T
theta, where it is E_{s0}[V_theta] - <theta, Phi_E> = -L(theta). So the dual is maximum likelihood,
it is concave in theta, its gradient is Phi_E - Phi(pi_theta), and at the optimum

    L(theta*) = -H(pi*)        (thesis Theorem 1 prints it without the minus sign)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array, check_finite, check_shape
from irl_align.tabular.mdp import TabularMDP
from irl_align.tabular.occupancy import discounted_entropy, occupancy_unchecked
from irl_align.tabular.planning import SoftSolution, soft_policy_iteration
from irl_align.tabular.rewards import LinearReward

__all__ = ["MaxEntSolution", "maxent_irl"]


@dataclass(frozen=True, eq=False)
class MaxEntSolution:
    """theta [d], the policy it makes, and both sides of the duality.

    Attributes:
        theta: [d].
        solution: Q*, V* and policy under phi^T theta.
        visits: the policy's occupancy [S, A].
        likelihood: L(theta) = <d_E, r_theta> - E_{s0}[V_theta], the dual value.
        entropy: H(pi), the primal value.
        feature_gap: max |Phi_E - Phi(pi)|, 0 at the optimum (and l2 |theta|_inf when penalised).
        evaluations: how often the lower level was solved.
    """

    theta: Array
    solution: SoftSolution
    visits: Array
    likelihood: float
    entropy: float
    feature_gap: float
    evaluations: int

    @property
    def duality_gap(self) -> float:
        """L(theta) + H(pi_theta) = <theta, Phi_E - Phi(pi_theta)>, zero at the optimum."""
        return self.likelihood + self.entropy


def maxent_irl(
    mdp: TabularMDP,
    family: LinearReward,
    expert: Any,
    *,
    l2: float = 0.0,
    theta: Array | None = None,
    tolerance: float = 1e-8,
    max_evaluations: int = 5000,
) -> MaxEntSolution:
    """Maximise L(theta) - l2/2 |theta|^2 by L-BFGS, the lower level solved to 1e-12 each time.

    ``expert`` [S, A] is the expert's occupancy. Stops when no entry of the gradient exceeds
    ``tolerance`` * max(1, |Phi_E|_inf). The maximum of a deterministic expert lies at infinity:
    then the tolerance ends the climb at a large theta, and ``l2`` > 0 keeps it small. Raises
    UserError on wrong shapes, and when ``max_evaluations`` do not suffice.
    """
    visits = check_finite("the expert", check_shape("the expert", expert, mdp.shape))
    if l2 < 0:
        raise UserError(f"l2 must be >= 0, got {l2}")
    wanted = family.expectation(visits)  # Phi_E [d]
    lower = _Lower(mdp, family)

    def gradient(theta: Array) -> Array:
        """Phi_E - Phi(pi_theta) - l2 theta [d]."""
        return wanted - family.expectation(lower.solve(theta)[1]) - l2 * theta

    def loss(theta: Array) -> tuple[float, Array]:
        ascent = gradient(theta)
        likelihood = wanted @ theta - mdp.initial @ lower.solution.values
        return float(0.5 * l2 * theta @ theta - likelihood), -ascent

    start = family.initial() if theta is None else check_shape("theta", theta, (family.size,))
    goal = tolerance * max(1.0, float(np.abs(wanted).max()))
    limits = {"maxiter": max_evaluations, "maxfun": max_evaluations}
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxcor": 30, "gtol": goal, **limits}
    )
    # Its line search ends where the loss no longer changes in float64: about sqrt(eps) too early.
    best = _without_values(gradient, found.x, goal, steps=200)
    left = float(np.abs(gradient(best)).max())
    if not left <= goal:
        raise UserError(
            f"the dual is not at its maximum after {lower.calls} evaluations (gradient {left:.2g}, "
            f"|theta| {np.linalg.norm(best):.3g}); raise max_evaluations or the tolerance, or give "
            "l2 > 0 if theta runs away"
        )
    solution, occupied = lower.solve(best)
    return MaxEntSolution(
        theta=best,
        solution=solution,
        visits=occupied,
        likelihood=float(wanted @ best - mdp.initial @ solution.values),
        entropy=discounted_entropy(occupied),
        feature_gap=float(np.abs(wanted - family.expectation(occupied)).max()),
        evaluations=lower.calls,
    )


class _Lower:
    """Solves the lower level again and again, each time from the last Q."""

    def __init__(self, mdp: TabularMDP, family: LinearReward) -> None:
        self.mdp, self.family = mdp, family
        self.solution: SoftSolution
        self.q: Array | None = None
        self.calls = 0

    def solve(self, theta: Array) -> tuple[SoftSolution, Array]:
        self.calls += 1
        self.solution = soft_policy_iteration(
            self.mdp, self.family.values(theta), q=self.q, tolerance=1e-12
        )
        self.q = self.solution.q
        return self.solution, occupancy_unchecked(self.mdp, self.solution.policy)


def _without_values(
    gradient: Callable[[Array], Array], start: Array, goal: float, steps: int
) -> Array:
    """Barzilai-Borwein ascent: steps from differences of gradients, which keep all their digits."""
    theta, ascent = start, gradient(start)
    best, smallest = theta, float(np.abs(ascent).max())
    move = 1e-4 * ascent / max(float(np.linalg.norm(ascent)), 1e-300)
    for _ in range(steps):
        if smallest <= goal:
            break
        after = gradient(theta + move)
        curvature = float(move @ (ascent - after))
        theta, rate = theta + move, float(move @ move) / curvature if curvature > 0 else 1e-3
        ascent = after
        if np.abs(ascent).max() < smallest:
            best, smallest = theta, float(np.abs(ascent).max())
        move = rate * ascent
    return best
