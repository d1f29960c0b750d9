"""A win rate with the effect of length taken out.

Judges like long answers. With y_i the outcome on prompt i for side A (1 win, 1/2 tie, 0 loss) and
d_i the length of A's answer minus that of B's, in characters, the model

    P(A preferred | d) = sigmoid(b0 + b1 d / s),      s = sqrt(mean d_i^2)

is fitted by maximum likelihood (half a win counts as half an observation of each kind), and the
length-controlled win rate is its value at equal length, sigmoid(b0). A ridge of 1e-3 (b0^2 + b1^2)
/ 2 keeps it finite where one side, or the longer answer, always wins. This is the idea of Dubois
et al. (2024), without their terms for the prompt and the model. It says what a linear effect of
length explains, not that length caused it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from irl_align.evaluation.bootstrap import Interval

__all__ = ["length_controlled_win_rate"]

_RIDGE = 1e-3
_BLOCK = 1_000_000  # resampled values at once: some tens of megabytes
_STEPS = 100

Array = NDArray[np.float64]


def length_controlled_win_rate(
    outcomes: ArrayLike,
    length_differences: ArrayLike,
    *,
    seed: int = 0,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """sigmoid(b0) with its percentile bootstrap interval over prompts.

    `outcomes` [n] in [0, 1]; `length_differences` [n] in characters, A minus B. Raises ValueError
    when there is nothing to fit.
    """
    y = np.asarray(outcomes, dtype=np.float64)
    d = np.asarray(length_differences, dtype=np.float64)
    if y.ndim != 1 or y.shape != d.shape or y.size == 0:
        raise ValueError(f"outcomes {y.shape} and differences {d.shape} must be [n], n > 0")
    size = np.sqrt(np.mean(d**2))
    x = d / size if size > 0 else d
    whole = _at_zero(x, y, np.ones((1, y.size)))[0]
    generator = np.random.default_rng(seed)
    found = np.empty(samples)
    block = max(1, _BLOCK // y.size)
    for start in range(0, samples, block):
        stop = min(start + block, samples)
        picks = generator.integers(0, y.size, size=(stop - start, y.size))
        counts = np.stack([np.bincount(row, minlength=y.size) for row in picks])  # [b, n]
        found[start:stop] = _at_zero(x, y, counts.astype(np.float64))
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(found, [tail, 100.0 - tail])
    return Interval(float(whole), float(low), float(high))


def _at_zero(x: Array, y: Array, weights: Array) -> Array:
    """sigmoid(b0) of one fit for each row of `weights` [b, n]; damped Newton steps, all at once."""
    b0, b1 = np.zeros(len(weights)), np.zeros(len(weights))
    value = _objective(b0, b1, x, y, weights)
    for _ in range(_STEPS):
        p = _sigmoid(b0[:, None] + b1[:, None] * x)
        rest, spread = weights * (y - p), weights * p * (1.0 - p)
        g0, g1 = rest.sum(1) - _RIDGE * b0, rest @ x - _RIDGE * b1
        h00, h01, h11 = spread.sum(1) + _RIDGE, spread @ x, spread @ (x * x) + _RIDGE
        determinant = h00 * h11 - h01 * h01
        s0, s1 = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
        scale = np.ones(len(weights))
        for _ in range(30):  # a full step can overshoot where the classes are nearly separable
            new = _objective(b0 + scale * s0, b1 + scale * s1, x, y, weights)
            worse = new < value - 1e-12
            if not worse.any():
                break
            scale[worse] /= 2.0
        b0, b1, value = b0 + scale * s0, b1 + scale * s1, new
        if max(np.abs(scale * s0).max(), np.abs(scale * s1).max()) < 1e-10:
            break
    return _sigmoid(b0)


def _objective(b0: Array, b1: Array, x: Array, y: Array, weights: Array) -> Array:
    z = b0[:, None] + b1[:, None] * x
    likelihood = weights * (y * z - np.logaddexp(0.0, z))
    total: Array = likelihood.sum(1) - 0.5 * _RIDGE * (b0**2 + b1**2)
    return total


def _sigmoid(z: Array) -> Array:
    result: Array = np.exp(-np.logaddexp(0.0, -z))
    return result
