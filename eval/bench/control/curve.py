"""A learning curve against the clock: returns at a few points, and when a level was reached.

Imports nothing of the project: the peers' environment does not have it.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Point(NamedTuple):
    """What a run had used, evaluations apart, and the mean return of its policy then."""

    steps: float
    cpu: float
    wall: float
    mean_return: float


def reached(curve: list[Point], level: float) -> dict[str, float] | None:
    """Steps and seconds at the first point from which on every return is at least `level`."""
    found = None
    for point in reversed(curve):
        if point.mean_return < level:
            break
        found = point
    if found is None:
        return None
    return {"steps": found.steps, "cpu": found.cpu, "wall": found.wall}


def rates(curve: list[Point]) -> dict[str, Any]:
    """Seconds for 1,000 steps between the first point, behind the compilation, and the last."""
    steps = (curve[-1].steps - curve[0].steps) / 1e3
    return {
        "cpu": (curve[-1].cpu - curve[0].cpu) / steps,
        "wall": (curve[-1].wall - curve[0].wall) / steps,
    }
