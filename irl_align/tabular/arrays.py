"""The arrays of a tabular problem: their type, and the checks that everything coming in passes.

Shapes: S states, A actions, d parameters or features, N rollouts, T steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from irl_align.core.errors import UserError

__all__ = [
    "Array",
    "Ints",
    "check_discount",
    "check_distribution",
    "check_finite",
    "check_policy",
    "check_shape",
]

Array: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

# A probability table that was written by hand or normalised in single precision still passes.
PROBABILITY_TOLERANCE = 1e-6


def check_shape(name: str, value: Any, shape: tuple[int | None, ...]) -> Array:
    """``value`` as float64 of ``shape`` (None: any length). UserError when it has another shape."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is no array of numbers: {error}") from None
    fits = len(array.shape) == len(shape) and all(
        wanted is None or wanted == found for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UserError(f"{name} must have shape [{wanted}], got {list(array.shape)}")
    return array


def check_finite(name: str, array: Array) -> Array:
    """UserError naming the first entry that is NaN or infinite."""
    if not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise UserError(f"{name}{place} is {array[tuple(place)]}; all entries must be finite")
    return array


def check_distribution(
    name: str, rows: Array, sums: Array, where: Callable[[int], str] | None = None
) -> None:
    """UserError unless ``rows`` (any shape) is non-negative and every entry of ``sums`` is one.

    ``where`` turns a flat index into ``sums`` into words.
    """
    if rows.size and not rows.min() >= 0:
        raise UserError(f"{name} holds {rows.min()}; probabilities are numbers >= 0")
    wrong = np.flatnonzero(~(np.abs(sums.ravel() - 1) <= PROBABILITY_TOLERANCE))
    if wrong.size:
        first = int(wrong[0])
        place = f" of {where(first)}" if where is not None else ""
        raise UserError(
            f"{name}: the probabilities{place} sum to {sums.ravel()[first]:.8g}, not to one "
            f"({wrong.size} such row{'s' if wrong.size > 1 else ''})"
        )


def check_policy(policy: Any, states: int, actions: int) -> Array:
    """``policy`` as float64 [S, A] whose rows are distributions; UserError otherwise."""
    array = check_shape("the policy", policy, (states, actions))
    check_distribution("the policy", array, array.sum(1), lambda s: f"state {s}")
    return array


def check_discount(gamma: float) -> float:
    """``gamma`` itself when it lies in (0, 1); UserError otherwise."""
    if not 0 < gamma < 1:
        raise UserError(f"gamma must lie strictly between 0 and 1, got {gamma}")
    return float(gamma)
