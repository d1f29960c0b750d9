"""Policy learners beside each other: one configuration, methods x seeds, checked as a whole first.

    extends: ../quickstart.yaml
    budget_hours: 0.25
    seeds: 3
    methods:
      spin: {policy: {method: spin, reference: previous}}
      ppo: {policy: {method: ppo, beta: 0.05}}

A run's configuration is the shared part, then what its method sets. Model, demonstrations and SFT
are the shared part's in every run, and so are prompts and measures: what comes before round 0 is
done once for a seed and shared by its methods. Run s of a method lies in run_dir/METHOD/seed-s and
is an ordinary run directory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irl_align.core.checks import positive
from irl_align.core.config import build_config, to_dict
from irl_align.core.errors import UserError
from irl_align.core.processes import Job, run_jobs
from irl_align.llm.config import AlignConfig

__all__ = ["Cell", "CompareConfig", "check", "grid", "run_cells", "run_seeds"]

SHARED = ("model", "demonstrations", "sft", "evaluation", "budget_hours")  # no method's to change
# What base model and SFT do not depend on; runs that differ in nothing else share them.
AFTER_SETUP = ("run_dir", "rounds", "budget_hours", "early_stop", "reward", "policy", "preferences")


@dataclass
class CompareConfig(AlignConfig):
    """The shared part of every run, and the methods."""

    run_dir: str = "runs/compare"
    seeds: int = 3  # how many, counted from `seed`
    methods: dict[str, Any] = field(default_factory=dict)  # name -> what it sets

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "seeds")
        if not self.methods:
            raise ValueError("name one or more methods")


@dataclass(frozen=True)
class Cell:
    """One run."""

    method: str
    seed: int
    config: AlignConfig

    @property
    def name(self) -> str:
        return f"{self.method} seed-{self.seed}"

    @property
    def folder(self) -> Path:
        return Path(self.config.run_dir)

    def finished(self) -> bool:
        """Whether the run came to its end."""
        from irl_align.llm.results import RESULTS_NAME

        try:
            found = json.loads((self.folder / RESULTS_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(found.get("finished"))


def grid(config: CompareConfig) -> list[Cell]:
    """Every run, seed by seed, so that a first number of each method is there early.

    Raises UserError naming the method and the key of a setting that does not fit, or that is the
    comparison's to make.
    """
    return [
        Cell(name, seed, _of_cell(config, name, seed))
        for seed in range(config.seed, config.seed + config.seeds)
        for name in config.methods
    ]


def _of_cell(config: CompareConfig, name: str, seed: int) -> AlignConfig:
    shared = to_dict(config)
    own = shared.pop("methods")[name]
    shared.pop("seeds")
    if own is not None and not isinstance(own, Mapping):
        raise UserError(f"methods.{name} = {own!r}: expected a section of settings, or null")
    for key in SHARED:
        if key in (own or {}):
            raise UserError(
                f"methods.{name} sets {key}, which all methods have in common; set it once, for "
                "the whole comparison"
            )
    place = {"run_dir": str(Path(config.run_dir, name, f"seed-{seed}")), "seed": seed}
    layers = [("the comparison", shared), (f"methods.{name}", dict(own or {})), (name, place)]
    return build_config(AlignConfig, layers)


def check(cells: Sequence[Cell]) -> None:
    """Everything that can be found wrong with any method before the first is run."""
    from irl_align.core.run import RunDirectory
    from irl_align.llm.alignment import FREE_KEYS
    from irl_align.llm.preflight import preflight

    seen: set[str] = set()
    for cell in cells:
        try:
            if cell.config.evaluation.prompts is None:
                raise UserError("evaluation.prompts is not set: nothing would be compared")
            RunDirectory(cell.folder).check(to_dict(cell.config), free_keys=FREE_KEYS)
            if cell.method not in seen:
                preflight(cell.config)
        except UserError as error:
            raise UserError(f"{cell.method}: {error}") from None
        seen.add(cell.method)


def same_setup(cell: Cell, cells: Sequence[Cell]) -> Path | None:
    """The folder of another run that has done the same base model and SFT; None: there is none."""
    wanted = _before_rounds(cell)
    for other in cells:
        done = other.folder / "setup" / "sft"
        if other.folder != cell.folder and done.is_dir() and _before_rounds(other) == wanted:
            return other.folder
    return None


def _before_rounds(cell: Cell) -> dict[str, Any]:
    return {k: v for k, v in to_dict(cell.config).items() if k not in AFTER_SETUP}


def run_cells(
    cells: Sequence[Cell],
    run: Callable[[AlignConfig, Path | None], object] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Run or resume what is not finished; {run's name: why it failed}. A failure ends its own run
    alone. `run`: what runs one configuration beside the folder of a run whose set-up it may take,
    `alignment.align` by default."""
    if run is None:
        from irl_align.llm.alignment import align

        run = align
    failed: dict[str, str] = {}
    left = [cell for cell in cells if not cell.finished()]
    say(f"{len(cells)} runs, {len(cells) - len(left)} of them finished before")
    for number, cell in enumerate(left, start=1):
        name = cell.name
        say(f"[{number}/{len(left)}] {name}")
        try:
            run(dataclasses.replace(cell.config), same_setup(cell, cells))
        except Exception as error:
            failed[name] = str(error) or type(error).__name__
            say(f"{name} failed: {failed[name]}")
    return failed


def run_seeds(
    cells: Sequence[Cell], jobs: int, home: Path, say: Callable[[str], None] = print
) -> dict[str, str]:
    """:func:`run_cells`, with `jobs` seeds at a time, each in a process of its own and with one
    thread: two cores do more on two seeds than together on one. What a seed prints is in
    `home`/seed-S.log."""
    work = []
    for seed in dict.fromkeys(cell.seed for cell in cells):
        mine = [cell for cell in cells if cell.seed == seed]
        work.append(Job(f"seed {seed}", _run_seed, (mine,), home / f"seed-{seed}.log"))
    say(f"{len(work)} seeds, {jobs} at a time; what they say is in {home / 'seed-S.log'}")
    failed: dict[str, str] = {}
    for job, error in run_jobs(work, jobs):
        say(f"{job.name}: {'finished' if error is None else error}")
        if error is not None:
            (mine,) = job.arguments
            failed |= {cell.name: f"see {job.log}" for cell in mine if not cell.finished()}
    return failed


def _run_seed(cells: Sequence[Cell]) -> None:
    failed = run_cells(cells)
    if failed:
        raise UserError("; ".join(f"{name} failed: {why}" for name, why in failed.items()))
