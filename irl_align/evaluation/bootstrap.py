"""Percentile bootstrap intervals (Efron 1979) for means, paired differences and win rates.

Every function takes either one value per item, shape [n], or several values per prompt, shape
[n_prompts, k] (k completions of the same prompt). Completions of one prompt are not independent
draws: an interval that resampled them one by one would be too narrow by up to sqrt(k). The unit
that is resampled is therefore always the prompt (a clustered bootstrap), and its statistic is
the mean over its own completions. NaN marks a completion that is missing (k may differ between
prompts); a prompt without any value is an error.

All intervals are deterministic given `seed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Resampled indices are drawn in blocks of about this many, so that 2,000 resamples of 100,000
# items take tens of megabytes, not gigabytes.
_BLOCK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its bootstrap interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"mean": self.mean, "low": self.low, "high": self.high}

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside the closed interval ("clear of `value`")."""
        return not self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def pad_ragged(values: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Lists of unequal length -> [n_prompts, k_max], the gaps filled with NaN."""
    width = max((len(row) for row in values), default=0)
    padded = np.full((len(values), width), np.nan)
    for index, row in enumerate(values):
        padded[index, : len(row)] = row
    return padded


def bootstrap_mean(
    values: ArrayLike, *, seed: int = 0, samples: int = 2000, level: float = 0.95
) -> Interval:
    """Mean of `values` ([n], or [n_prompts, k] clustered by prompt) with its interval.

    Each prompt has the same weight. Raises ValueError when there is nothing to average, or `level`
    is not inside (0, 1).
    """
    per_prompt = _per_prompt_means(values)  # [n]
    return _resample(per_prompt, np.ones_like(per_prompt), seed, samples, level)


def bootstrap_pooled(
    groups: Sequence[Sequence[float]], *, seed: int = 0, samples: int = 2000, level: float = 0.95
) -> Interval:
    """Mean over all values, each value with the same weight, resampling whole groups.

    For items that share a prompt unevenly, as pairs of a preference file do: the mean stays the
    plain share of the file, and the interval still knows that pairs of one prompt are alike.
    """
    return _resample(*_sums(groups), seed, samples, level)


def bootstrap_stratified(
    strata: Sequence[Sequence[Sequence[float]]],
    weights: Sequence[float],
    *,
    seed: int = 0,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Weighted mean of the strata's means; each stratum resamples its own groups.

    For benchmarks made of subsets with fixed weights: `strata[s]` holds the groups (values of one
    prompt) of subset s, `weights[s]` its weight, which need not sum to 1. Raises ValueError when a
    stratum is empty, a weight is not positive, or the two do not match.
    """
    if len(strata) != len(weights) or not strata:
        raise ValueError(f"{len(strata)} strata for {len(weights)} weights")
    if min(weights) <= 0:
        raise ValueError("weights must be above 0")
    whole = sum(weights)
    mean, means = 0.0, np.zeros(samples)
    for index, (groups, weight) in enumerate(zip(strata, weights, strict=True)):
        sums, counts = _sums(groups)
        mean += weight / whole * float(sums.sum() / counts.sum())
        means += weight / whole * _resampled_means(sums, counts, [seed, index], samples)
    return _percentiles(mean, means, level)


def bootstrap_difference(
    treatment: ArrayLike,
    control: ArrayLike,
    *,
    seed: int = 0,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of mean(treatment) - mean(control), paired by prompt.

    Row i of both arrays is the same prompt, so prompts that are easy for both cancel. The number
    of completions a prompt may differ between the two.
    """
    first, second = _per_prompt_means(treatment), _per_prompt_means(control)
    _check_paired(first.shape[0], second.shape[0])
    return bootstrap_mean(first - second, seed=seed, samples=samples, level=level)


def bootstrap_win_rate(
    treatment: ArrayLike,
    control: ArrayLike,
    *,
    seed: int = 0,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """P(treatment beats control on the same prompt), a tie counted as half a win.

    Within a prompt every completion of one side meets every completion of the other (k x k'
    comparisons); the prompt is what is resampled.
    """
    first, second = _as_matrix(treatment), _as_matrix(control)  # [n, k], [n, k']
    _check_paired(first.shape[0], second.shape[0])
    left, right = first[:, :, None], second[:, None, :]
    wins = (left > right) + 0.5 * (left == right)  # [n, k, k']
    present = ~(np.isnan(left) | np.isnan(right))
    outcome = np.where(present, wins, np.nan).reshape(first.shape[0], -1)
    return bootstrap_mean(outcome, seed=seed, samples=samples, level=level)


def _sums(groups: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values of each group that has any, [n] each."""
    kept = [group for group in groups if len(group)]
    if not kept:
        raise ValueError("there are no values to average")
    sums = np.array([sum(group) for group in kept], dtype=np.float64)
    if not np.isfinite(sums).all():
        raise ValueError("a value is not finite")
    return sums, np.array([len(group) for group in kept], dtype=np.float64)


def _resample(
    sums: NDArray[np.float64], counts: NDArray[np.float64], seed: int, samples: int, level: float
) -> Interval:
    """Interval of sum(sums) / sum(counts) over resampled rows; sums and counts are [n]."""
    means = _resampled_means(sums, counts, seed, samples)
    return _percentiles(float(sums.sum() / counts.sum()), means, level)


def _resampled_means(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    seed: int | Sequence[int],
    samples: int,
) -> NDArray[np.float64]:
    """[samples] ratios sum(sums) / sum(counts), each over n rows drawn with replacement."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    size = sums.shape[0]
    generator = np.random.default_rng(seed)
    means = np.empty(samples)
    block = max(1, _BLOCK // size)
    for start in range(0, samples, block):
        stop = min(start + block, samples)
        picks = generator.integers(0, size, size=(stop - start, size))
        means[start:stop] = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    return means


def _percentiles(mean: float, means: NDArray[np.float64], level: float) -> Interval:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return Interval(mean, float(low), float(high))


def _as_matrix(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"values must have shape [n] or [n_prompts, k], not {array.shape}")
    return array


def _per_prompt_means(values: ArrayLike) -> NDArray[np.float64]:
    array = _as_matrix(values)
    present = ~np.isnan(array)
    counts = present.sum(axis=1)
    if array.shape[0] == 0:
        raise ValueError("there are no values to average")
    if (counts == 0).any():
        raise ValueError(f"row {int(np.argmin(counts))} has no value (all missing or NaN)")
    means: NDArray[np.float64] = np.where(present, array, 0.0).sum(axis=1) / counts
    return means


def _check_paired(first: int, second: int) -> None:
    if first != second:
        raise ValueError(f"paired by prompt: {first} prompts against {second}")
