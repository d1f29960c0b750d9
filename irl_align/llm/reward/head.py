"""Where the score head of a first reward model starts: a linear probe of the untouched body.

A zero head passes no gradient to the body until it has grown, and with a small step size that is
most of a short fit. So the head is fitted first, on frozen features: the convex problem

    min_w  mean_g w_g mean_j log(1 + exp(-w . (f(best_g) - f(other_gj)) / s)) + l2 |w|^2

with f(.) [H] the body's last hidden state at the text's last token and s its standard deviation
per feature. l2 is chosen by cross-validation over groups, so the start is as bold as the data
allows: with nothing to learn it stays near 0. (Linear probing, then fine-tuning: Kumar et al.
2022, arXiv 2202.10054.)

r_0 is still 0: the residual objective's frozen scores belong to r_0, not to where theta starts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irl_align.llm.reward.learner import read_groups
from irl_align.llm.reward.pairs import PairGroup
from irl_align.llm.reward.scorer import RewardScorer

__all__ = ["fit_linear_head", "group_features", "probe_head"]

L2 = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
FOLDS = 5


def probe_head(scorer: RewardScorer, groups: Sequence[PairGroup], seed: int) -> Tensor:
    """Head weight [1, H] for `scorer`'s body, the same on every process."""
    features = group_features(scorer, groups)
    return fit_linear_head(features, [g.weight for g in groups], seed)


def group_features(
    scorer: RewardScorer, groups: Sequence[PairGroup], *, batch_size: int = 36
) -> list[NDArray[np.float32]]:
    """Last-token features [texts, H] of every group."""
    rows = read_groups(scorer.features_of_tokens, groups, batch_size=batch_size)
    return [np.stack(of_group) for of_group in rows]


def fit_linear_head(
    features: Sequence[NDArray[np.float32]], weights: Sequence[float], seed: int
) -> Tensor:
    """The weight [1, H] of the module's convex problem.

    `features`: per group [1 + others, H], the better text first. `weights`: w_g per group.
    """
    scale = torch.from_numpy(np.concatenate(list(features)).std(axis=0) + 1e-6).double()  # [H]
    gaps = [torch.from_numpy(f[:1] - f[1:]).double() / scale for f in features]  # [pairs, H] each
    order = np.random.default_rng(seed).permutation(len(gaps))
    folds = [order[k::FOLDS] for k in range(min(FOLDS, len(gaps)))]

    def loss_when_left_out(l2: float) -> float:
        total = 0.0
        for fold in folds:
            left_out = set(fold.tolist())
            w = _solve(
                *_stack(gaps, weights, [i for i in range(len(gaps)) if i not in left_out]), l2
            )
            rows, row_weights = _stack(gaps, weights, sorted(left_out))
            total += float(_pair_loss(rows @ w, row_weights) * len(left_out))
        return total

    everything = list(range(len(gaps)))
    l2 = min(L2, key=loss_when_left_out) if len(folds) > 1 else max(L2)
    w = _solve(*_stack(gaps, weights, everything), l2)
    return (w / scale).float().unsqueeze(0)


def _stack(
    gaps: Sequence[Tensor], weights: Sequence[float], chosen: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """All pairs of the chosen groups [P, H] and their weights [P], which sum to mean_g w_g."""
    rows = torch.cat([gaps[i] for i in chosen])
    shares = [
        torch.full((len(gaps[i]),), weights[i] / (len(gaps[i]) * len(chosen))) for i in chosen
    ]
    return rows, torch.cat(shares).double()


def _pair_loss(margins: Tensor, row_weights: Tensor) -> Tensor:
    return (row_weights * torch.nn.functional.softplus(-margins)).sum()


def _solve(rows: Tensor, row_weights: Tensor, l2: float) -> Tensor:
    """argmin_w of the weighted pair loss plus l2 |w|^2; convex, so L-BFGS finds it. [H]"""
    w = torch.zeros(rows.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [w], max_iter=100, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = _pair_loss(rows @ w, row_weights) + l2 * (w**2).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return w.detach()
