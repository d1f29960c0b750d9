"""What the loader found: how many trajectories, how long, how good, and what is odd about them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

SHOWN_PROBLEMS = 5


@dataclass
class DemonstrationReport:
    """The result of reading one source. `found` = usable + the sum of `dropped`."""

    source: str
    found: int = 0
    usable: int = 0
    chosen: list[int] = field(default_factory=list)
    """Numbers of the trajectories that were given out, counted among all that were found."""
    steps: int = 0
    """Steps of the chosen trajectories; the numbers below are of these, too."""
    observation_dim: int = 0
    action_dim: int = 0
    lengths: list[int] = field(default_factory=list)
    terminated: int = 0
    returns: list[float] | None = None
    """True return of each chosen trajectory, undiscounted; None when the file has no rewards."""
    last_steps_dropped: int = 0
    """Trajectories that lost their last step, since the file does not say where it led to."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason -> number of trajectories; only ever filled with on_bad="drop"."""
    problems: list[str] = field(default_factory=list)
    """What is wrong with the first five dropped ones."""
    keys: dict[str, str] = field(default_factory=dict)
    """Our name -> the key in the file."""
    unused_keys: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    """Of the file's bytes; None for folders, Minari data sets and lists in memory."""

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return asdict(self)

    def render(self) -> str:
        """The report as a few lines of text for a person."""
        used = ", ".join(
            name if name == key else f"{name} (as {key})" for name, key in self.keys.items()
        )
        lines = [
            f"{self.source}: {len(self.chosen)} of {self.found} trajectories, {self.steps} steps",
            f"  numbers    {self.observation_dim} an observation, {self.action_dim} an action",
            f"  read from  {used}",
            f"  lengths    {_span(self.lengths, 0)}; {self.terminated} terminated",
        ]
        if self.returns is not None:
            lines.append(f"  returns    {_span(self.returns, 1)} (true reward, for reports only)")
        if self.unused_keys:
            lines.append(f"  not used   {', '.join(self.unused_keys)}")
        if self.dropped:
            counts = ", ".join(f"{reason} {n}" for reason, n in sorted(self.dropped.items()))
            lines.append(f"  dropped    {sum(self.dropped.values())}: {counts}")
            lines += [f"             {problem}" for problem in self.problems]
        lines += [f"  warning    {warning}" for warning in self.warnings]
        if self.sha256 is not None:
            lines.append(f"  sha256     {self.sha256}")
        return "\n".join(lines)


def _span(values: list[int] | list[float], digits: int) -> str:
    array = np.asarray(values, dtype=np.float64)
    return (
        f"mean {array.mean():.{digits}f}, std {array.std():.{digits}f}, "
        f"min {array.min():.{digits}f}, max {array.max():.{digits}f}"
    )
