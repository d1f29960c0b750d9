"""Normalised scores: 0 is a random policy, 100 an expert (D4RL, Fu et al. 2020).

    score = 100 (R - random) / (expert - random)

The two returns belong to one version of an environment, simulator included. D4RL's own constants
are for its files and the simulators of their time; for the environments here `measure_reference`
makes them (`eval/control_references.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from irl_align.control.environments.making import make
from irl_align.control.policies import Policy, RandomPolicy
from irl_align.control.rollouts import Collector
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.core.provenance import versions

D4RL = "d4rl"


@dataclass(frozen=True)
class Reference:
    """What a score is measured against; undiscounted returns."""

    random: float
    expert: float

    def score(self, mean_return: float) -> float:
        return 100.0 * (mean_return - self.random) / (self.expert - self.random)


# infos.py of D4RL, the same for all of a robot's data sets; keys are ids without their versions.
D4RL_REFERENCES = {
    "HalfCheetah": Reference(-280.178953, 12135.0),
    "Hopper": Reference(-20.272305, 3234.3),
    "Walker2d": Reference(1.629008, 4592.3),
    "Ant": Reference(-325.6, 3879.7),
}


def reference(environment: str, source: str | None) -> Reference | None:
    """The one for a gymnasium id.

    Args:
        source: "d4rl", a file that `save_reference` wrote, or None for none.

    Raises UserError when the source has none for this environment, or is no such file.
    """
    if source is None:
        return None
    if source == D4RL:
        found = D4RL_REFERENCES.get(environment.rpartition("-v")[0])
        if found is None:
            raise UserError(
                f"scores=d4rl: D4RL has no reference returns for {environment} (it has: "
                f"{', '.join(D4RL_REFERENCES)}); measure them with eval/control_references.py, or "
                "set scores=null"
            )
        return found
    table = _read(Path(source))
    if environment not in table:
        raise UserError(
            f"{source}: no reference returns for {environment} (it has: {', '.join(table)}); "
            "measure them with eval/control_references.py"
        )
    try:
        entry = table[environment]
        found = Reference(float(entry["random"]), float(entry["expert"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{source}: {environment} needs the numbers 'random' and 'expert': {error}"
        ) from None
    if not found.expert > found.random:
        raise UserError(
            f"{source}: {environment}: the expert's return {found.expert} is not above the random "
            f"policy's {found.random}"
        )
    return found


def measure_reference(
    name: str, expert: Policy | float, *, episodes: int, seed: int
) -> tuple[str, Reference]:
    """The gymnasium id of an environment and its reference, from `episodes` random episodes and as
    many of `expert`, or the expert's mean return as it is known.

    Raises UserError when the expert is no better than chance.
    """
    environment = make(name)
    try:
        collector = Collector(environment)
        spaces: Spaces = collector.spaces
        by_chance = collector.collect(RandomPolicy(spaces, seed), episodes, seed=seed)
        best = expert
        if not isinstance(best, float | int):
            rollouts = collector.collect(best, episodes, seed=seed)
            best = float(rollouts.true_rewards.returns().mean())
    finally:
        environment.close()
    found = Reference(float(by_chance.true_rewards.returns().mean()), float(best))
    if not found.expert > found.random:
        raise UserError(
            f"{spaces.environment}: the expert's return {found.expert:.1f} is not above the random "
            f"policy's {found.random:.1f}; that is no expert"
        )
    return spaces.environment, found


def save_reference(path: Path, environment: str, found: Reference, **facts: Any) -> None:
    """Add to the table at `path`, or make it; `facts` say where the numbers come from."""
    table = _read(path) if path.exists() else {}
    entry = {**asdict(found), **facts, "versions": versions()}
    atomic_write_json(path, {**table, environment: entry})


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"scores={path}: no such file; give d4rl, a table that eval/control_references.py "
            "wrote, or null"
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not a table of reference returns: {error}") from None
    if not isinstance(table, dict):
        raise UserError(f"{path}: not a table of reference returns")
    return table
