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
    terminated, truncated = _end_flags(file, found, count, ends, source)
    for number, (start, end) in enumerate(zip(ends - lengths, ends, strict=True)):
        if with_last:
            first = int(start) + number
            observations = found["observations"][first : first + int(end - start) + 1]
        else:
            first = int(start)
            observations = found["observations"][start:end]
            if final is not None:
                observations = np.concatenate([observations, final[number : number + 1]])
            elif "next_observations" in found:
                last = found["next_observations"][end - 1 : end]
                observations = np.concatenate([observations, last])
        file.trajectories.append(
            RawTrajectory(
                observations,
                found["actions"][start:end],
                found["rewards"][start:end] if "rewards" in found else None,
                bool(terminated[number]),
                bool(truncated[number]),
                first_row=int(start),
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
    file: RawFile, found: dict[str, AnyArray], count: int, ends: AnyArray | None, source: str
) -> tuple[AnyArray, AnyArray]:
    """terminated [N] and truncated [N], from flags a trajectory or flags a step."""
    flags: dict[str, AnyArray | None] = {"terminated": None, "truncated": None}
    for name, per_step in (("terminated", "terminals"), ("truncated", "timeouts")):
        if name in found:
            flag = np.atleast_1d(found[name])
            if flag.shape == (count,):
                flags[name] = flag.astype(bool)
            elif ends is not None and flag.shape == (ends[-1],):
                flags[name] = flag[ends - 1].astype(bool)
            else:
                raise UserError(
                    f"{source}: {file.keys[name]!r} has shape {flag.shape}, must be ({count},): "
                    "one flag a trajectory"
                )
        elif per_step in found and ends is not None:
            flags[name] = found[per_step][ends - 1].astype(bool)
    terminated, truncated = flags["terminated"], flags["truncated"]
    if terminated is None:
        terminated = np.zeros(count, dtype=bool)
        if truncated is None or not truncated.all():
            file.warnings.append(
                "nothing says which trajectories terminated (key 'terminated'); all are taken as "
                "cut by a time limit"
            )
    if truncated is None:
        truncated = ~terminated
    return terminated, truncated


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
    terminated, truncated = _end_flags(file, found, count, None, source)
    has_more = observations.shape[1] == width + 1
    rewards = found.get("rewards")
    if rewards is not None and rewards.shape[:2] != (count, width):
        raise UserError(
            f"{source}: {keys['rewards']!r} has shape {rewards.shape}, must be ({count}, {width})"
        )
    for number, length in enumerate(lengths):
        # Behind a shorter trajectory's T-th observation stands padding, unless T + 1 were stored.
        last = length + 1 if has_more else length
        file.trajectories.append(
            RawTrajectory(
                observations[number, :last],
                actions[number, :length],
                None if rewards is None else rewards[number, :length],
                bool(terminated[number]),
                bool(truncated[number]),
                place=f"{keys['observations']}[{number}]",
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
