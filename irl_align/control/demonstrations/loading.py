"""The one way in for demonstrations: read, check, choose, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from irl_align.control.demonstrations.checking import (
    BadTrajectory,
    actions_outside,
    check_trajectory,
    repeated,
)
from irl_align.control.demonstrations.episodes import split_episodes
from irl_align.control.demonstrations.files import read_source
from irl_align.control.demonstrations.raw import RawFile
from irl_align.control.demonstrations.report import SHOWN_PROBLEMS, DemonstrationReport
from irl_align.control.environments.ant_model import motor_order
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.control.true_rewards import TrueRewards
from irl_align.core.errors import UserError
from irl_align.core.files import sha256_file

OnBad = Literal["error", "drop"]


@dataclass(frozen=True)
class Demonstrations:
    """What was loaded; learners get `trajectories`, and nothing else of it.

    Attributes:
        trajectories: the chosen ones; they hold no rewards.
        report: what was found, returns included.
        true_rewards: of the chosen ones, for measuring how a learned reward relates to the true
            one; None when the file has none.
    """

    trajectories: Trajectories
    report: DemonstrationReport
    true_rewards: TrueRewards | None


def load_demonstrations(
    source: str | Path | Iterable[Any],
    *,
    environment: Spaces | None = None,
    count: int | None = None,
    seed: int | None = None,
    on_bad: OnBad = "error",
) -> Demonstrations:
    """Load and check demonstrations.

    Args:
        source: a path, `minari:NAME`, or the episodes themselves (see `episodes`).
        environment: check the dimensions against it, and warn of actions that it would clip.
            Where the file says that it was recorded in the other one of the two ants, actions are
            put into the order of this one's motors (`environments.ant_model`).
        count: how many trajectories; None takes all.
        seed: None takes the first `count`; a number takes `count` at random, in the file's order.
        on_bad: every trajectory is looked at; with "error" one `UserError` names the first five
            that cannot be used, with "drop" they are left out and counted.

    Rewards never enter the trajectories, and no value of them (NaN included) changes what is loaded
    beside them. Raises UserError naming file, trajectory, step and key, and the mend.
    """
    if on_bad not in ("error", "drop"):
        raise UserError(f"on_bad={on_bad!r}: accepted are error and drop")
    if isinstance(source, str | Path):
        name, file = str(source), read_source(str(source))
    else:
        name = "the episodes given"
        file = split_episodes(source, name)
    if count is not None and count < 1:
        raise UserError(f"{name}: count={count} asks for no trajectories; give 1 or more, or null")
    report = DemonstrationReport(
        name,
        found=len(file.trajectories),
        keys=file.keys,
        unused_keys=file.unused,
        warnings=list(file.warnings),
        metadata=dict(file.metadata),
        sha256=_sha256(source),
    )
    good = _checked(file, report, environment, on_bad)
    chosen = _choose(len(good), count, seed, name)
    trajectories = [good[index][1] for index in chosen]
    report.chosen = [good[index][0] for index in chosen]
    cut = [good[index][2] for index in chosen]
    _describe(report, trajectories, cut, environment)
    rewards = _true_rewards(file, report)
    return Demonstrations(_in_motor_order(trajectories, report, environment), report, rewards)


def _checked(
    file: RawFile, report: DemonstrationReport, environment: Spaces | None, on_bad: OnBad
) -> list[tuple[int, Trajectory, bool]]:
    """(number in the file, trajectory, whether its last step was cut) of every usable one."""
    good: list[tuple[int, Trajectory, bool]] = []
    reasons: Counter[str] = Counter()
    shape: tuple[int, int] | None = None
    for number, raw in enumerate(file.trajectories):
        try:
            trajectory, cut = check_trajectory(raw, number, file, environment)
            dims = trajectory.observations.shape[1], trajectory.actions.shape[1]
            shape = shape or dims
            if dims != shape:
                raise BadTrajectory(
                    "wrong dimension",
                    f"trajectory {number}: rows of {dims[0]} and {dims[1]} numbers, but "
                    f"trajectory {good[0][0]} has {shape[0]} and {shape[1]}; they must be alike",
                )
        except BadTrajectory as error:
            reasons[error.reason] += 1
            if len(report.problems) < SHOWN_PROBLEMS:
                report.problems.append(str(error))
            continue
        good.append((number, trajectory, cut))
    report.usable, report.dropped = len(good), dict(reasons)
    bad = sum(reasons.values())
    if bad and (on_bad == "error" or not good):
        raise UserError(_refusal(report, bad))
    if not good:
        raise UserError(f"{report.source}: no trajectories in it")
    return good


def _refusal(report: DemonstrationReport, bad: int) -> str:
    lines = [f"{report.source}: {bad} of {report.found} trajectories cannot be used:"]
    lines += [f"  {problem}" for problem in report.problems]
    if bad > SHOWN_PROBLEMS:
        counts = ", ".join(f"{reason} {n}" for reason, n in sorted(report.dropped.items()))
        lines.append(f"  and {bad - SHOWN_PROBLEMS} more (in all: {counts})")
    if report.usable:
        lines.append("mend these, or set on_bad=drop to leave them out and count them")
    return "\n".join(lines)


def _choose(usable: int, count: int | None, seed: int | None, name: str) -> list[int]:
    if count is None:
        return list(range(usable))
    if count > usable:
        raise UserError(
            f"{name}: count={count} trajectories asked for, {usable} usable ones in it; lower "
            "count, or add data"
        )
    if seed is None:
        return list(range(count))
    picked = np.random.default_rng(seed).choice(usable, size=count, replace=False)
    return sorted(int(index) for index in picked)


def _describe(
    report: DemonstrationReport,
    trajectories: list[Trajectory],
    cut: list[bool],
    environment: Spaces | None,
) -> None:
    report.lengths = [len(t) for t in trajectories]
    report.steps = sum(report.lengths)
    report.observation_dim = trajectories[0].observations.shape[1]
    report.action_dim = trajectories[0].actions.shape[1]
    report.terminated = sum(t.terminated for t in trajectories)
    report.last_steps_dropped = sum(cut)
    if any(cut):
        report.warnings.append(
            f"{sum(cut)} trajectories lost their last step, and how they ended: the file does not "
            "say where it led to ('next_observations' or 'final_observations')"
        )
    if copies := repeated(trajectories):
        report.warnings.append(f"{copies} trajectories repeat an earlier one to the bit (kept)")
    if environment is None:
        return
    if outside := actions_outside(trajectories, environment):
        report.warnings.append(outside)
    limit = environment.max_episode_steps
    longer = sum(length > limit for length in report.lengths) if limit is not None else 0
    if longer:
        report.warnings.append(
            f"{longer} trajectories are longer than {environment.environment}'s limit of {limit}"
        )
    recorded = report.metadata.get("environment")
    if recorded is not None and recorded != environment.environment:
        report.warnings.append(f"recorded in {recorded}, to be used with {environment.environment}")


def _in_motor_order(
    trajectories: list[Trajectory], report: DemonstrationReport, environment: Spaces | None
) -> Trajectories:
    found = Trajectories(trajectories)
    recorded = report.metadata.get("environment")
    if environment is None or not isinstance(recorded, str):
        return found
    order = motor_order(environment.environment, recorded)
    if order is None:
        return found
    report.warnings.append(f"actions were put into the order of its motors: {order.tolist()}")
    return found.mapped_actions(order)


def _true_rewards(file: RawFile, report: DemonstrationReport) -> TrueRewards | None:
    """One reward a step of the chosen trajectories. Returns count a step that had to go, too."""
    raw = [file.trajectories[number].rewards for number in report.chosen]
    rewards = [
        np.asarray(row, dtype=np.float64)
        for row, length in zip(raw, report.lengths, strict=True)
        if row is not None
        and row.ndim == 1
        and len(row) >= length
        and row.dtype.kind in "fiub"
        and np.isfinite(row).all()
    ]
    if len(rewards) < len(raw):
        if any(row is not None for row in raw):
            report.warnings.append(
                "the file's rewards are not one finite number a step; no returns are reported"
            )
        return None
    report.returns = [float(row.sum()) for row in rewards]
    return TrueRewards([row[:t] for row, t in zip(rewards, report.lengths, strict=True)])


def _sha256(source: Any) -> str | None:
    path = Path(source).expanduser() if isinstance(source, str | Path) else None
    return sha256_file(path) if path is not None and path.is_file() else None
