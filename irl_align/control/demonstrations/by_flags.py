"""Trajectories from one row a step with flags where an episode ends: the form of D4RL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from irl_align.control.demonstrations.raw import AnyArray, RawFile, RawTrajectory
from irl_align.core.errors import UserError

_AMBIGUOUS = ("dones", "done")
# Successor and next row's observation of one episode are the same number, stored twice.
_SAME = {"rtol": 1e-4, "atol": 1e-4}


def split_by_flags(
    file: RawFile, found: dict[str, AnyArray], columns: Mapping[str, Any], source: str
) -> None:
    """Fill `file` from arrays of one row a step, with `terminals` and `timeouts` [M].

    `next_observations` [M, O] gives the last observation of each episode; where it is not the next
    row's observation, an episode ends as well. Raises UserError when it is unclear where they end.
    """
    keys = file.keys
    steps = len(found["actions"])
    if len(found["observations"]) != steps:
        raise UserError(
            f"{source}: {keys['observations']!r} has {len(found['observations'])} rows and "
            f"{keys['actions']!r} {steps}; they must agree, or 'lengths' must say how many steps "
            "each trajectory has"
        )
    if "terminals" not in found and "timeouts" not in found:
        raise UserError(f"{source}: {_no_ends(columns)}")
    none = np.zeros(steps, dtype=bool)
    terminals = np.asarray(found.get("terminals", none)).reshape(steps).astype(bool)
    timeouts = np.asarray(found.get("timeouts", none)).reshape(steps).astype(bool)
    following = found.get("next_observations")
    if following is None and "timeouts" not in found:
        raise UserError(
            f"{source}: {keys['terminals']!r} alone does not say where the time limit cut an "
            "episode; add 'timeouts', 'next_observations' or 'lengths'"
        )
    ends = terminals | timeouts
    if following is not None:
        jumps = np.zeros(steps, dtype=bool)
        jumps[:-1] = ~np.isclose(
            following[:-1], found["observations"][1:], equal_nan=True, **_SAME
        ).all(axis=1)
        unmarked = int((jumps & ~ends).sum())
        if unmarked and "timeouts" in found:
            file.warnings.append(
                f"{unmarked} times the next observation is not the next row's although no episode "
                "ends there; split there"
            )
        ends |= jumps
    ends[-1] = True
    stops = np.nonzero(ends)[0] + 1
    starts = np.concatenate([[0], stops[:-1]])
    for start, stop in zip(starts, stops, strict=True):
        observations, last_place = found["observations"][start:stop], ""
        if following is not None:
            observations = np.concatenate([observations, following[stop - 1 : stop]])
            last_place = f"{keys['next_observations']}[{stop - 1}"
        terminated = bool(terminals[stop - 1])
        file.trajectories.append(
            RawTrajectory(
                observations,
                found["actions"][start:stop],
                found["rewards"][start:stop] if "rewards" in found else None,
                terminated,
                bool(timeouts[stop - 1]) or not terminated,
                first_rows={"observations": int(start), "actions": int(start)},
                last_place=last_place,
            )
        )


def _no_ends(columns: Mapping[str, Any]) -> str:
    done = next((key for key in _AMBIGUOUS if key in columns), None)
    if done is not None:
        return (
            f"{done!r} mixes episodes that terminated with those that a time limit cut, which are "
            "opposite things to learn from; store 'terminals' and 'timeouts', or 'lengths' and "
            "'terminated'"
        )
    return (
        "nothing says where trajectories end; add 'lengths' (and 'terminated'), or 'terminals' "
        f"and 'timeouts' (it has: {', '.join(columns)})"
    )
