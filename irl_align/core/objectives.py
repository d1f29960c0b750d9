"""The outer losses: what makes a reward prefer demonstrations to the policy's samples.

Every loss sees *returns* only, so that one definition serves a tabular occupancy times a reward,
a discounted sum of a reward net over a rollout and a reward model's score of a response. All are
losses (to be minimised) with l(x) = -log sigmoid(x); half precision is computed in float32.

The choice of loss and the choice of the reference policy are one choice. Against samples of
pi_t the logistic optimum is r = beta log(demo / pi_t) + c(x):

* ``contrast`` follows the likelihood gradient. It is unbounded while the policy lags behind, so
  it takes small steps.
* ``pairwise_logistic`` is bounded, but used as an absolute reward with a fixed reference it forgets
  the earlier rounds: round two undoes round one.
* ``residual_logistic`` fits the increment over the frozen r_t, so its optimum accumulates:
  r_{t+1} = r_t + beta log(demo / pi_t) + c(x).
* ``reverse_kl`` and ``chi_square`` judge each answer by itself and are the rewards of imitation by
  divergence: they say where to go from pi_t, so the policy's step is from pi_t (reference
  "previous"), and are 0 where policy and demonstrations are the same.

Left out: damping, centring and regularisation, which need more than returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

DemonstrationObjective = Literal[
    "contrast", "pairwise_logistic", "residual_logistic", "reverse_kl", "chi_square"
]
Reduction = Literal["mean", "none"]


def _full_precision(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _reduce(losses: Tensor, weights: Tensor | None, reduction: Reduction) -> Tensor:
    """Weighted mean (weights need not sum to one), or the losses themselves times the weights."""
    if reduction == "none":
        return losses if weights is None else losses * weights
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.expand_as(losses).sum()


def _check_beta(beta: float) -> None:
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta}")


def contrast(
    demo_returns: Tensor,
    sample_returns: Tensor,
    *,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """mean(sample) - mean(demo): its gradient is minus the likelihood gradient (Lemmas 1, 17).

    demo_returns: [N], sample_returns: [B]; N and B may differ unless ``weights`` [B] (one a pair)
    or ``reduction="none"`` is asked for, which return or average the pairs' differences.
    """
    demo, sample = _full_precision(demo_returns), _full_precision(sample_returns)
    if weights is None and reduction == "mean":
        return sample.mean() - demo.mean()
    return _reduce(sample - demo, weights, reduction)


def pairwise_logistic(
    demo: Tensor,
    sample: Tensor,
    beta: float = 1.0,
    *,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """mean -log sigmoid((demo - sample) / beta), Alg. 12 as printed; all tensors [B]."""
    _check_beta(beta)
    margin = (_full_precision(demo) - _full_precision(sample)) / beta
    return _reduce(-logsigmoid(margin), weights, reduction)


def residual_logistic(
    demo: Tensor,
    sample: Tensor,
    demo_previous: Tensor,
    sample_previous: Tensor,
    beta: float = 1.0,
    *,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """mean -log sigmoid(((r - r_t)(demo) - (r - r_t)(sample)) / beta); all tensors [B].

    ``demo_previous`` and ``sample_previous`` are scores of the frozen r_t on the same items; no
    gradient flows into them. Optimum: r = r_t + beta log(demo / pi_t) + c(x).
    """
    _check_beta(beta)
    demo_gain = _full_precision(demo) - _full_precision(demo_previous).detach()
    sample_gain = _full_precision(sample) - _full_precision(sample_previous).detach()
    return _reduce(-logsigmoid((demo_gain - sample_gain) / beta), weights, reduction)


def reverse_kl(
    demo: Tensor,
    sample: Tensor,
    beta: float = 1.0,
    *,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """mean -log sigmoid(demo / beta) - log sigmoid(-sample / beta); all tensors [B].

    The discriminator D = sigmoid(r / beta) of GAIL (Ho & Ermon 2016). Optimum: r = beta log D /
    (1 - D) = beta log(demo / pi_t), and raising E_pi[r] is descent on beta KL(pi || demo).
    """
    _check_beta(beta)
    demo, sample = _full_precision(demo), _full_precision(sample)
    return _reduce(-logsigmoid(demo / beta) - logsigmoid(-sample / beta), weights, reduction)


def chi_square(
    demo: Tensor,
    sample: Tensor,
    beta: float = 1.0,
    *,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """mean sample - demo + (demo^2 + sample^2) / (4 beta); all tensors [B].

    max_r E_demo[r] - E_pi[r] - E_mix[r^2] / (4 c) with mix = (demo + pi) / 2 and c = beta / 2.
    Optimum: r = beta (demo - pi) / mix, within +-2 beta whatever the policies are, which is
    2 beta chi^2(demo || mix) and near demo = pi the same as beta log(demo / pi).
    """
    _check_beta(beta)
    demo, sample = _full_precision(demo), _full_precision(sample)
    return _reduce(sample - demo + (demo**2 + sample**2) / (4 * beta), weights, reduction)


def bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    *,
    weights: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """mean -log sigmoid(chosen - rejected): human pairs, always on the absolute reward [B]."""
    margin = _full_precision(chosen) - _full_precision(rejected)
    return _reduce(-logsigmoid(margin), weights, reduction)


def joint(
    demo_loss: Tensor | None,
    preference_loss: Tensor | None,
    gamma_demo: float = 1.0,
    alpha_pref: float = 1.0,
) -> Tensor:
    """gamma_demo * demo_loss + alpha_pref * preference_loss (AIHF, eq. 4.23).

    A term that is None or has weight 0 is dropped, not multiplied by zero: it is not in the graph
    and a NaN in it does no harm. gamma_demo = 0 is Bradley-Terry (RLHF), alpha_pref = 0 is
    demonstrations only. Raises ValueError on a negative weight and when nothing is left.
    """
    if gamma_demo < 0 or alpha_pref < 0:
        raise ValueError(f"weights must be >= 0, got {gamma_demo=} and {alpha_pref=}")
    terms = [
        term if weight == 1 else weight * term
        for term, weight in ((demo_loss, gamma_demo), (preference_loss, alpha_pref))
        if term is not None and weight != 0
    ]
    if not terms:
        raise ValueError("no term left: give a demonstration or a preference loss a weight above 0")
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "contrast": contrast,
    "pairwise_logistic": pairwise_logistic,
    "residual_logistic": residual_logistic,
    "reverse_kl": reverse_kl,
    "chi_square": chi_square,
}


def demonstration_loss(
    name: DemonstrationObjective,
    demo: Tensor,
    sample: Tensor,
    demo_previous: Tensor | None = None,
    sample_previous: Tensor | None = None,
    beta: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """The demonstration term under the objective ``name``; arguments as in the losses above.

    Raises ValueError on an unknown name, and when ``residual_logistic`` misses the previous scores.
    """
    if name == "contrast":
        return contrast(demo, sample, weights=weights)
    if name == "pairwise_logistic":
        return pairwise_logistic(demo, sample, beta, weights=weights)
    if name == "reverse_kl":
        return reverse_kl(demo, sample, beta, weights=weights)
    if name == "chi_square":
        return chi_square(demo, sample, beta, weights=weights)
    if name == "residual_logistic":
        if demo_previous is None or sample_previous is None:
            raise ValueError("residual_logistic needs the scores of the previous reward")
        return residual_logistic(
            demo, sample, demo_previous, sample_previous, beta, weights=weights
        )
    known = ", ".join(get_args(DemonstrationObjective))
    raise ValueError(f"unknown objective {name!r}; choose one of {known}")


def pair_metrics(demo: Tensor, sample: Tensor) -> dict[str, float]:
    """Accuracy (strict: a tie is no win), margin and mean scores of pairs, by the house's keys."""
    demo, sample = _full_precision(demo.detach()), _full_precision(sample.detach())
    return {
        "reward/accuracy": (demo > sample).float().mean().item(),
        "reward/margin": (demo - sample).mean().item(),
        "reward/demo_score": demo.mean().item(),
        "reward/sample_score": sample.mean().item(),
    }
