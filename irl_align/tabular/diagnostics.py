"""What Theorem 2 is about, measured exactly: the lag of the policy and the likelihood gradient."""

from __future__ import annotations

import numpy as np

from irl_align.core.errors import UserError
from irl_align.core.protocols import Metrics, PhaseContext
from irl_align.tabular.arrays import Array
from irl_align.tabular.mdp import TabularMDP
from irl_align.tabular.occupancy import occupancy_unchecked
from irl_align.tabular.planning import log_policy, soft_policy_iteration
from irl_align.tabular.rewards import RewardFamily

__all__ = ["Diagnostics"]


class Diagnostics:
    """Core's Evaluator of the pair (pi_{k+1} = softmax Q_k, theta_k).

    Solves the lower level of theta_k to ``tolerance`` and reports

    * ``eval/policy_gap`` |log pi_{k+1} - log pi_{theta_k}|_inf;
    * ``eval/q_error`` |Q_k - Q*_k|_inf, which bounds half of it;
    * ``eval/gradient_norm_squared`` |grad L(theta_k)|^2, the exact gradient for the given expert;
    * ``eval/likelihood`` L(theta_k) = <d_E, log pi_{theta_k}>.

    It costs a few times what the round costs; ``every`` leaves rounds out (their metrics lack the
    keys).
    """

    def __init__(
        self,
        mdp: TabularMDP,
        family: RewardFamily,
        expert: Array,
        *,
        every: int = 1,
        tolerance: float = 1e-11,
    ) -> None:
        if every < 1:
            raise UserError(f"every must be at least 1, got {every}")
        self.mdp, self.family, self.expert = mdp, family, expert
        self.every, self.tolerance = every, tolerance

    def evaluate(self, policy: Array, reward: Array, ctx: PhaseContext) -> Metrics:
        if ctx.round % self.every:
            return {}
        optimum = soft_policy_iteration(
            self.mdp, self.family.values(reward), q=policy, tolerance=self.tolerance
        )
        optimal = optimum.log_policy
        visits = occupancy_unchecked(self.mdp, np.exp(optimal))
        gradient = self.family.gradient(reward, self.expert - visits)
        return {
            "eval/policy_gap": float(np.abs(log_policy(policy) - optimal).max()),
            "eval/q_error": float(np.abs(policy - optimum.q).max()),
            "eval/gradient_norm_squared": float(gradient @ gradient),
            "eval/likelihood": float((self.expert * optimal).sum()),
        }
