"""Trajectories from arrays that come with the number of steps of each: flat, or padded."""

from __future__ import annotations

import numpy as np

from irl_align.control.demonstrations.raw import AnyArray, RawFile, RawTrajectory
from irl_align.core.errors import UserError


def split_by_length(file: RawFile, found: dict[str, AnyArray], source: str) -> None:
    """Fill `file` from one row a step and `lengths` [N].

    `observations` has sum(T) rows, with `final_observations` [N, O] or `next_observations` beside
    it, or sum(T + 1) rows. Raises UserError when the numbers of rows do not fit.
    """
    keys = file.keys
    lengths = _lengths(found["lengths"], keys["lengths"], source)
    steps, rows, count = len(found["actions"]), len(found["observations"]), len(lengths)
    if lengths.sum() != steps:
        raise UserError(
            f"{source}: {keys['lengths']!r} adds up to {lengths.sum()} steps but "
            f"{keys['actions']!r} has {steps} rows; they must agree"
        )
    if rows not in (steps, steps + count):
        raise UserError(
            f"{source}: {keys['observations']!r} has {rows} rows for {steps} steps of {count} "
            f"trajectories; need {steps}, or {steps + count} with the last observation of each"
        )
    with_last = rows == steps + count
    final = found.get("final_observations")
    if final is not None and (
        final.ndim != 2 or final.shape != (count, found["observations"].shape[1])
    ):
        raise UserError(
            f"{source}: {keys['final_observations']!r} has shape {final.shape}, must be "
            f"({count}, {found['observations'].shape[1]}): one row a trajectory"
        )
    ends = np.cumsum(lengths)
    terminated, truncated = _end_flags(file, found, count, (steps,), (ends - 1,), source)
    for number, (start, end) in enumerate(zip(ends - lengths, ends, strict=True)):
        first, last_place = int(start), ""
        if with_last:
            first += number
            observations = found["observations"][first : first + int(end - start) + 1]
        else:
            observations = found["observations"][start:end]
            if final is not None:
                last, last_place = final[number], f"{keys['final_observations']}[{number}"
            elif "next_observations" in found:
                last = found["next_observations"][end - 1]
                last_place = f"{keys['next_observations']}[{end - 1}"
            if last_place:
                observations = np.concatenate([observations, last[None]])
        file.trajectories.append(
            RawTrajectory(
                observations,
                found["actions"][start:end],
                found["rewards"][start:end] if "rewards" in found else None,
                bool(terminated[number]),
                bool(truncated[number]),
                first_rows={"observations": first, "actions": int(start)},
                last_place=last_place,
            )
        )


def _lengths(lengths: AnyArray, key: str, source: str) -> AnyArray:
    if lengths.ndim != 1 or not np.issubdtype(lengths.dtype, np.integer) or (lengths < 1).any():
        raise UserError(
            f"{source}: {key!r} must be a list of whole numbers, 1 or more: the steps of each "
            "trajectory"
        )
    return lengths.astype(np.int64)


def _end_flags(
    file: RawFile,
    found: dict[str, AnyArray],
    count: int,
    per_step: tuple[int, ...],
    last: tuple[AnyArray, ...],
    source: str,
) -> tuple[AnyArray, AnyArray]:
    """terminated [N] and truncated [N], from one flag a trajectory or one flag a step.

    Flags a step have the shape `per_step`, and `last` is the index of the N last steps in them.
    """
    flags: dict[str, AnyArray] = {}
    for name, other in (("terminated", "terminals"), ("truncated", "timeouts")):
        key = next((key for key in (name, other) if key in found), None)
        if key is None:
            continue
        flag = np.atleast_1d(found[key])
        if flag.shape == (count,):
            flags[name] = flag.astype(bool)
        elif flag.shape == per_step:
            flags[name] = flag[last].astype(bool)
        else:
            raise UserError(
                f"{source}: {file.keys[key]!r} has shape {flag.shape}, must be ({count},), one "
                f"flag a trajectory, or {per_step}, one a step"
            )
    if "terminated" not in flags and not flags.get("truncated", np.zeros(1)).all():
        file.warnings.append(
            "nothing says which trajectories terminated (key 'terminated'); all are taken as cut "
            "by a time limit"
        )
    terminated = flags.get("terminated", np.zeros(count, dtype=bool))
    # What did not terminate was cut: by a time limit, or by the end of the recording.
    return terminated, flags.get("truncated", ~terminated) | ~terminated


# One padded row a trajectory


def split_padded(file: RawFile, found: dict[str, AnyArray], source: str) -> None:
    """Fill `file` from observations [N, T or T + 1, O] and actions [N, T, A].

    `lengths` [N] or `mask` [N, T] say what is padding; without them nothing is. Raises UserError
    when the shapes do not fit.
    """
    keys = file.keys
    observations, actions = found["observations"], found["actions"]
    if actions.ndim not in (2, 3) or actions.shape[0] != observations.shape[0]:
        raise UserError(
            f"{source}: {keys['observations']!r} has shape {observations.shape} and "
            f"{keys['actions']!r} {actions.shape}; need [trajectories, T, O] and "
            "[trajectories, T, A]"
        )
    count, width = actions.shape[:2]
    if observations.shape[1] not in (width, width + 1) or not count or not width:
        raise UserError(
            f"{source}: {keys['observations']!r} has {observations.shape[1]} steps a trajectory "
            f"and {keys['actions']!r} {width}; need T or T + 1 observations for T actions"
        )
    lengths = _padded_lengths(found, keys, count, width, source)
    last_steps = np.arange(count), np.array(lengths) - 1
    terminated, truncated = _end_flags(file, found, count, (count, width), last_steps, source)
    has_more = observations.shape[1] == width + 1
    rewards = found.get("rewards")
    if rewards is not None and rewards.shape[:2] != (count, width):
        raise UserError(
            f"{source}: {keys['rewards']!r} has shape {rewards.shape}, must be ({count}, {width})"
        )
    for number, length in enumerate(lengths):
        # With T columns only, padding stands behind a shorter trajectory's last observation.
        last = length + 1 if has_more else length
        file.trajectories.append(
            RawTrajectory(
                observations[number, :last],
                actions[number, :length],
                None if rewards is None else rewards[number, :length],
                bool(terminated[number]),
                bool(truncated[number]),
                member=number,
            )
        )


def _padded_lengths(
    found: dict[str, AnyArray], keys: dict[str, str], count: int, width: int, source: str
) -> list[int]:
    if "lengths" in found:
        lengths = _lengths(found["lengths"], keys["lengths"], source)
        if lengths.shape != (count,) or (lengths > width).any():
            raise UserError(
                f"{source}: {keys['lengths']!r} must be {count} numbers of at most {width}"
            )
        return [int(length) for length in lengths]
    if "mask" not in found:
        return [width] * count
    mask = found["mask"].astype(bool)
    if mask.shape != (count, width):
        raise UserError(
            f"{source}: {keys['mask']!r} has shape {mask.shape}, must be ({count}, {width})"
        )
    lengths = mask.sum(axis=1)
    holes = np.nonzero((mask != (np.arange(width) < lengths[:, None])).any(axis=1) | (lengths < 1))
    if len(holes[0]):
        raise UserError(
            f"{source}: {keys['mask']!r}[{holes[0][0]}] must be true from step 0 on and then false "
            "to the end"
        )
    return [int(length) for length in lengths]
