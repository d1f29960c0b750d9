"""From raw arrays to trajectories that a learner may trust, or words for what is wrong.

Everything is numbered from 0, as arrays are: `obs[2017, 4]` in a message is what one types to look
at the culprit (in a list of episodes: in that episode's arrays).
"""

from __future__ import annotations

from collections import Counter
from typing import NoReturn

import numpy as np

from irl_align.control.demonstrations.raw import AnyArray, RawFile, RawTrajectory
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Trajectory


class BadTrajectory(Exception):
    """A trajectory that cannot be used: `reason` is what is counted, the message the mend."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check_trajectory(
    raw: RawTrajectory, number: int, file: RawFile, environment: Spaces | None
) -> tuple[Trajectory, bool]:
    """The trajectory, and whether its last step had to go because its successor is not known.

    Raises `BadTrajectory` naming trajectory, step and place in the file.
    """
    names = file.keys
    observations = _numbers(raw.observations, 2, number, names["observations"])
    actions = _numbers(raw.actions, 1, number, names["actions"])
    if actions.ndim == 1:
        actions = actions[:, None]
    steps = len(actions)
    if len(observations) not in (steps, steps + 1) or steps == 0:
        raise BadTrajectory(
            "mismatched lengths",
            f"trajectory {number}: {names['observations']!r} has {len(observations)} rows and "
            f"{names['actions']!r} {steps}; need T + 1 observations (or T) for T >= 1 actions",
        )
    _check_width(observations, actions, number, names, environment)
    for what, array in (("observations", observations), ("actions", actions)):
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            _refuse_value(array, bad, raw, number, what, names[what])
    terminated, truncated = raw.terminated, raw.truncated
    cut = len(observations) == steps
    if cut:
        if steps == 1:
            raise BadTrajectory(
                "too short",
                f"trajectory {number}: one step, and the file does not say where it led to; add "
                "the last observation ('final_observations' or 'next_observations')",
            )
        # The step to the last observation is the last that is known; how it ended is not in it.
        actions, terminated, truncated = actions[:-1], False, True
    return Trajectory(observations, actions, terminated, truncated), cut


def _numbers(array: AnyArray, least_ndim: int, number: int, key: str) -> AnyArray:
    """As float32 with 2 dimensions (or 1, where that is enough)."""
    if array.dtype.hasobject or array.dtype.kind not in "fiub":
        raise BadTrajectory(
            "not numbers",
            f"trajectory {number}: {key!r} is {array.dtype}, must be numbers in rows of one length",
        )
    if not least_ndim <= array.ndim <= 2:
        raise BadTrajectory(
            "wrong shape",
            f"trajectory {number}: {key!r} has shape {array.shape}, must be [steps, numbers]; "
            "flatten each row",
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf and is refused
        return array.astype(np.float32)


def _check_width(
    observations: AnyArray,
    actions: AnyArray,
    number: int,
    names: dict[str, str],
    environment: Spaces | None,
) -> None:
    if environment is None:
        return
    for what, array, needed in (
        ("observations", observations, environment.observation_dim),
        ("actions", actions, environment.action_dim),
    ):
        if array.shape[1] != needed:
            raise BadTrajectory(
                "wrong dimension",
                f"trajectory {number}: {names[what]!r} has rows of {array.shape[1]} numbers but "
                f"{environment.environment} has {needed} {what.removesuffix('s')} numbers; give "
                "data of this environment and version, or name the environment that it is from"
                + _hint(what, array.shape[1], environment),
            )


def _hint(what: str, width: int, environment: Spaces) -> str:
    """The usual reasons for a number too many."""
    if what != "observations" or width < environment.observation_dim:
        return ""
    if environment.environment.startswith("Ant-v5") and width in (27, 111):
        return " (27 and 111 numbers are Ant-v2 to v4; v5 has 105)"
    if width == environment.observation_dim + 1:
        return " (one more: an absorbing flag, or the x position, does not belong into the file)"
    return ""


def _refuse_value(
    array: AnyArray, bad: AnyArray, raw: RawTrajectory, number: int, what: str, key: str
) -> NoReturn:
    """Say where the first of the bad values stands; `bad` [n, 2] are their indices in `array`."""
    step, column = (int(index) for index in bad[0])
    if what == "observations" and step == len(raw.actions) and raw.last_place:
        place = raw.last_place
    elif raw.member is not None:
        place = f"{key}[{raw.member}, {step}"
    else:
        place = f"{key}[{raw.first_rows.get(what, 0) + step}"
    value = "NaN" if np.isnan(array[step, column]) else "infinite"
    rest = f", and {len(bad) - 1} more values" if len(bad) > 1 else ""
    raise BadTrajectory(
        "not finite",
        f"trajectory {number}, step {step}: {place}, {column}] is {value}{rest}; mend the value, "
        "or leave the trajectory out",
    )


def actions_outside(trajectories: list[Trajectory], environment: Spaces) -> str | None:
    """A warning about actions beyond the environment's box, which it clips or forbids."""
    if environment.discrete_actions is not None:
        return _bad_indices(trajectories, environment)
    low, high = environment.action_low - 1e-5, environment.action_high + 1e-5
    outside = sum(
        int(((t.actions < low) | (t.actions > high)).any(axis=1).sum()) for t in trajectories
    )
    total = sum(map(len, trajectories))
    if not outside:
        return None
    return (
        f"{outside} of {total} steps have an action outside of {environment.environment}'s box; "
        "the environment clips them, so clip them before you learn the action from them"
    )


def _bad_indices(trajectories: list[Trajectory], environment: Spaces) -> str | None:
    allowed = np.arange(environment.discrete_actions or 0)
    wrong = sum(int((~np.isin(t.actions, allowed)).sum()) for t in trajectories)
    if not wrong:
        return None
    return f"{wrong} actions are none of {environment.environment}'s indices 0 to {allowed[-1]}"


def repeated(trajectories: list[Trajectory]) -> int:
    """How many trajectories repeat an earlier one to the bit: they are not evidence twice."""
    contents = Counter((t.observations.tobytes(), t.actions.tobytes()) for t in trajectories)
    return sum(count - 1 for count in contents.values())
