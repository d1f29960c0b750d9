"""Offline ML-IRL on a tabular MDP (thesis Alg. 3), and how far its objective is from the true one.

    max_theta  L(theta) = E_{(eta, pi_E, P)}[sum_t gamma^t log pi_theta(a_t|s_t)]
    s.t.       pi_theta = argmax_pi E_{(eta, pi, P_hat)}[sum_t gamma^t (r(.;theta) + U + H(pi))]

The policy lives in the model, the expert in the world. What is climbed is the surrogate

    L_hat(theta) = <d_E, r_theta + U> - E_{s0}[V_theta(s0)]

whose gradient is <d_E, grad r> - <d_theta, grad r> with the occupancy d_theta of pi_theta in the
*model* (Lemma 10). So it is Alg. 1 in the conservative MDP (P_hat, r + U), with an expert whose
occupancy does not obey P_hat. Both objectives differ by (Lemma 8; occupancies sum to 1/(1-gamma))

    L - L_hat = gamma <d_E, (P_hat - P) V_theta>,
    |L - L_hat| <= gamma max|V_theta| <d_E, |P_hat - P|_1>                    (Lemma 9)

so that a model must be right where the expert goes, and nowhere else.

L_hat feels shaping that the policy does not: adding gamma P_hat Phi - Phi changes it by <residual
of d_E's flow in the model, Phi>. A family that can take such a shape has no maximum, so bound its
reward, or keep the number of rounds small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from irl_align.core.errors import UserError
from irl_align.core.trainer import Result
from irl_align.tabular.arrays import Array, check_finite, check_shape
from irl_align.tabular.estimated import EstimatedModel
from irl_align.tabular.kernels import DenseKernel, Kernel, SparseKernel
from irl_align.tabular.mdp import TabularMDP
from irl_align.tabular.ml_irl import ml_irl
from irl_align.tabular.rewards import RewardFamily
from irl_align.tabular.rollouts import Rollouts

__all__ = [
    "ConservativeReward",
    "likelihood_gap",
    "likelihood_gap_bound",
    "model_error",
    "offline_ml_irl",
]


class ConservativeReward:
    """The family r(s, a; theta) + U(s, a): what the policy of the conservative MDP is paid.

    U [S, A] does not depend on theta, so gradients are those of ``family``. Raises UserError when
    U has another shape, is not finite, or is positive somewhere.
    """

    def __init__(self, family: RewardFamily, penalty: Any, mdp: TabularMDP) -> None:
        self.family = family
        self.penalty = check_finite("the penalty", check_shape("the penalty", penalty, mdp.shape))
        if self.penalty.max() > 0:
            raise UserError(f"the penalty is {self.penalty.max():.3g} somewhere; it must be <= 0")

    @property
    def size(self) -> int:
        return self.family.size

    def initial(self, seed: int) -> Array:
        return self.family.initial(seed)

    def values(self, theta: Array) -> Array:
        return self.family.values(theta) + self.penalty

    def gradient(self, theta: Array, weights: Array) -> Array:
        return self.family.gradient(theta, weights)


def offline_ml_irl(
    model: EstimatedModel, family: RewardFamily, demonstrations: Array | Rollouts, **options: Any
) -> Result[Array, Array]:
    """Alg. 3 from transitions and demonstrations to (Q_K, theta_K, history).

    Args:
        model: see ``estimated.estimate_model``.
        family: what theta means; the penalty is added to it and is no part of theta.
        demonstrations: the expert's occupancy [S, A] in the world, or Rollouts of it.
        options: those of ``ml_irl.ml_irl``, which says what comes back, too. The history's
            ``eval/likelihood`` is the true L(theta) of the given expert and
            ``eval/gradient_norm_squared`` that of the surrogate (Theorem 4).

    Raises UserError as ``ml_irl`` does.
    """
    conservative = ConservativeReward(family, model.penalty, model.mdp)
    return ml_irl(model.mdp, conservative, demonstrations, **options)


def likelihood_gap(mdp: TabularMDP, model: EstimatedModel, visits: Any, values: Any) -> float:
    """L - L_hat = gamma <d_E, (P_hat - P) V> (Lemma 8).

    Args:
        visits: d_E [S, A], an occupancy of the true dynamics ``mdp``.
        values: V_theta [S], optimal in the model under r_theta + U.
    """
    expert = check_shape("the occupancy", visits, mdp.shape)
    v = check_shape("values", values, (mdp.states,))
    return float(mdp.gamma * (expert * (model.mdp.kernel.expect(v) - mdp.kernel.expect(v))).sum())


def likelihood_gap_bound(mdp: TabularMDP, model: EstimatedModel, visits: Any, values: Any) -> float:
    """gamma max|V| <d_E, |P_hat - P|_1> >= |L - L_hat| (Lemma 9); arguments as above."""
    expert = check_shape("the occupancy", visits, mdp.shape)
    largest = np.abs(check_shape("values", values, (mdp.states,))).max()
    error = model_error(model.mdp.kernel, mdp.kernel)
    return float(mdp.gamma * largest * (expert * error).sum())


def model_error(kernel: Kernel, other: Kernel) -> Array:
    """|P(.|s,a) - P'(.|s,a)|_1, in [0, 2]: [S, A]. UserError unless both have S and A alike."""
    one, two = _matrix(kernel), _matrix(other)
    if (kernel.states, kernel.actions) != (other.states, other.actions):
        raise UserError(
            f"a kernel of {kernel.states} states and {kernel.actions} actions cannot be compared "
            f"with one of {other.states} and {other.actions}"
        )
    distances = np.asarray(abs(one - two).sum(axis=1))
    return distances.reshape(kernel.states, kernel.actions)


def _matrix(kernel: Kernel) -> csr_array:
    """[S*A, S]."""
    if isinstance(kernel, SparseKernel):
        return kernel.matrix
    if isinstance(kernel, DenseKernel):
        return csr_array(kernel.probabilities.reshape(-1, kernel.states))
    raise UserError(f"kernels of kind {type(kernel).__name__} cannot be compared entry by entry")
