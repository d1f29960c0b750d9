"""What a world model is worth: predicted against real errors, and how well it knows the expert.

Held-out transitions say whether the model's own error bars can be believed. The expert's
transitions are where the surrogate likelihood can differ from the true one at all (Lemma 9):

    |L - L_hat| <= gamma C_v / (1 - gamma) E_{d_E}[|P - P_hat|_1]

|P - P_hat|_1 cannot be measured where P is a density that is only known by samples, or no density
(a simulator without noise). What stands for it is the error on expert pairs, in the same units as
on held-out ones, the share of pairs that the model predicts as well as nearly all data, and the
share of them that it believes to know as well: where the second is the larger, it is too sure.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from irl_align.control.buffers import Batch
from irl_align.control.world_model.fit import CHUNK
from irl_align.control.world_model.model import WorldModel
from irl_align.control.world_model.penalties import PENALTIES, Predicted
from irl_align.core.errors import UserError

# A pair is covered when the model is as sure of it as of this share of held-out data, and predicted
# when its error is as small as that of this share.
COVERED = 0.95
_BINS = 10


@dataclass(frozen=True)
class Errors:
    """Of the elites' mean prediction on M known transitions; lists have one entry a number.

    Attributes:
        rmse: root mean square error of s', in the environment's units.
        rmse_of_staying: the same of predicting s' = s: what the model has to beat.
        within_one, within_two: share of numbers that lie within one and two predicted standard
            deviations of the elites' mixture; .683 and .954 where the error bars are right.
        log_likelihood: mean log density of s' under the elites' mixture.
        error: mean of |s' - prediction|, each number in units of its spread over the data.
        penalty: mean u.
        rank_correlation: Spearman's, of u and that error; None where one of them is constant.
    """

    count: int
    rmse: list[float]
    rmse_of_staying: list[float]
    within_one: float
    within_two: float
    log_likelihood: float
    error: float
    penalty: float
    rank_correlation: float | None


@dataclass(frozen=True)
class Calibration:
    """The report.

    Attributes:
        by_penalty: of held-out transitions in ten bins of rising u, (mean u, mean error).
        expert: the same numbers on expert pairs; None where none were given.
        expert_predicted: share of expert pairs whose error is as small as that of 95% of held-out
            data; None where there are none.
        expert_covered: share of expert pairs that the model is as sure of as of 95% of them.
    """

    penalty: str
    held_out: Errors
    by_penalty: list[tuple[float, float]]
    expert: Errors | None
    expert_predicted: float | None
    expert_covered: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return asdict(self)

    def render(self) -> str:
        """A few lines for a person."""
        lines = [
            f"{'':<12}{'pairs':>9}{'error':>9}{'within 1':>10}{'within 2':>10}"
            f"{'log lik.':>10}{'penalty':>10}{'rank corr.':>11}"
        ]
        for name, found in (("held out", self.held_out), ("expert", self.expert)):
            if found is not None:
                correlation = found.rank_correlation
                said = "-" if correlation is None else f"{correlation:.2f}"
                lines.append(
                    f"{name:<12}{found.count:>9}{found.error:>9.4f}{found.within_one:>10.3f}"
                    f"{found.within_two:>10.3f}{found.log_likelihood:>10.2f}"
                    f"{found.penalty:>10.4f}{said:>11}"
                )
        if self.expert_predicted is not None and self.expert_covered is not None:
            lines.append(
                f"{self.expert_predicted:.1%} of expert pairs are predicted as well as "
                f"{COVERED:.0%} of held-out data; of {self.expert_covered:.1%} the model is as sure"
            )
        return "\n".join(lines)


def calibrate(
    model: WorldModel, held_out: Batch, expert: Batch | None, *, penalty: str, seed: int
) -> Calibration:
    """Measure a model on transitions that it has not learned from.

    `seed` is for the penalties that look at a sampled next state. Raises UserError without rows.
    """
    if not len(held_out.observations):
        raise UserError("no held-out transitions to measure the world model on")
    spread = held_out.next_observations.double().std(dim=0, correction=0)
    unit = torch.where(spread > 0, spread, torch.ones_like(spread))
    known, errors, unsure = _measure(model, held_out, unit, penalty, seed)
    order = unsure.argsort(stable=True)
    bins = [
        (float(unsure[part].mean()), float(errors[part].mean()))
        for part in order.tensor_split(min(_BINS, len(order)))
    ]
    if expert is None:
        return Calibration(penalty, known, bins, None, None, None)
    of_expert, their_errors, of_pairs = _measure(model, expert, unit, penalty, seed)
    return Calibration(
        penalty,
        known,
        bins,
        of_expert,
        expert_predicted=_share_within(their_errors, errors),
        expert_covered=_share_within(of_pairs, unsure),
    )


def _share_within(values: Tensor, data: Tensor) -> float:
    """Share of `values` that are no larger than `COVERED` of `data`."""
    limit = data.sort().values[max(0, math.ceil(COVERED * len(data)) - 1)]
    return float((values <= limit).double().mean())


@torch.no_grad()
def _measure(
    model: WorldModel, data: Batch, unit: Tensor, penalty: str, seed: int
) -> tuple[Errors, Tensor, Tensor]:
    """Errors, and of each row its error and its penalty [M]."""
    generator = torch.Generator().manual_seed(seed)
    parts: list[tuple[Tensor, ...]] = []
    for index in torch.arange(len(data.observations)).split(CHUNK):
        batch = Batch(*(column[index] for column in data))
        means, stds = model.predict(batch.observations, batch.actions)
        count = len(index)
        chosen = model.elites[torch.randint(len(model.elites), (count,), generator=generator)]
        place = chosen, torch.arange(count)
        noise = torch.randn(means.shape[1:], generator=generator)
        sampled = means[place] + stds[place] * noise
        u = PENALTIES[penalty](Predicted(means, stds, chosen, sampled)).double()
        means, stds = means[model.elites].double(), stds[model.elites].double()
        mean = means.mean(dim=0)
        std = (stds.square().mean(dim=0) + means.var(dim=0, correction=0)).sqrt()
        off = batch.next_observations.double() - mean  # [B, O]
        moved = batch.next_observations.double() - batch.observations.double()
        z = (batch.next_observations.double() - means) / stds  # [E, B, O]
        log_density = -(0.5 * z.square() + stds.log() + 0.5 * math.log(2 * math.pi)).sum(dim=-1)
        log_density = log_density.logsumexp(dim=0) - math.log(len(means))
        parts.append((off, off.abs() / std, moved, log_density, u))
    off, ratio, moved, log_density, u = (torch.cat(column) for column in zip(*parts, strict=True))
    error = (off.abs() / unit).mean(dim=-1)
    return (
        Errors(
            count=len(off),
            rmse=off.square().mean(dim=0).sqrt().tolist(),
            rmse_of_staying=moved.square().mean(dim=0).sqrt().tolist(),
            within_one=float((ratio <= 1).double().mean()),
            within_two=float((ratio <= 2).double().mean()),
            log_likelihood=float(log_density.mean()),
            error=float(error.mean()),
            penalty=float(u.mean()),
            rank_correlation=_spearman(u, error),
        ),
        error,
        u,
    )


def _spearman(one: Tensor, other: Tensor) -> float | None:
    """Correlation of ranks, ties by their order; None where a side does not vary."""
    if len(one) < 2 or bool((one == one[0]).all()) or bool((other == other[0]).all()):
        return None
    ranks = torch.stack([values.argsort(stable=True).argsort().double() for values in (one, other)])
    return float(torch.corrcoef(ranks)[0, 1])
