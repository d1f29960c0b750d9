"""What every reader hands to the check: trajectories as the file has them, and where they stood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]


@dataclass
class RawTrajectory:
    """Unchecked arrays of one trajectory.

    Attributes:
        observations: [T + 1, O], or [T, O] when the file does not say where the last step led to.
        actions: [T, A], or [T] for one number a step.
        rewards: [T], or None.
        first_rows: "observations" and "actions" -> the row of the file's array where step 0 stands.
        member: the first index of padded arrays; None for others.
        last_place: where the last observation stands when it is in an array of its own:
            "final_obs[3".
    """

    observations: AnyArray
    actions: AnyArray
    rewards: AnyArray | None
    terminated: bool
    truncated: bool
    first_rows: Mapping[str, int] = field(default_factory=dict)
    member: int | None = None
    last_place: str = ""


@dataclass
class RawFile:
    """All trajectories of a source, with what there is to say about it as a whole.

    Attributes:
        keys: our name ("observations", "actions", ...) -> the key under which the file has it.
        unused: keys of the file that were not read.
        metadata: what the file says about itself; {} when it says nothing.
    """

    trajectories: list[RawTrajectory]
    keys: dict[str, str]
    unused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def as_array(value: Any) -> AnyArray:
    """As numpy; ragged or foreign content becomes an object array, which the check refuses."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.asarray(value, dtype=object)
