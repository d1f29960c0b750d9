"""A grid of runs, environments x methods x seeds, checked as a whole before the first of them.

    environments: {Hopper: {}, Ant: {environment_steps: 500_000}}
    methods: {ml_irl: {reward: {inputs: state}}, bc: {epochs: 500}}
    cells: {Ant/iq_learn: {sac: {alpha: 0.001}}}

A run's configuration is the shared part of the comparison, then what its environment sets, then
its method, then its cell; later ones win. Run s of a cell lies in run_dir/ENVIRONMENT/METHOD/seed-s
and is an ordinary run directory.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irl_align.control.assembly import FREE_KEYS, world
from irl_align.control.baselines.methods import method
from irl_align.control.config import DemonstratedConfig
from irl_align.control.evaluating import OnlyEvaluations
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.core.checks import positive
from irl_align.core.config import build_config, to_dict
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json, to_json
from irl_align.core.loggers import ConsoleLogger
from irl_align.core.run import RunDirectory

FINISHED = "finished.json"
COLUMNS = ("steps/environment", "eval/return", "eval/return_std", "eval/length")


@dataclass
class CompareConfig(DemonstratedConfig):
    """The shared part of every run, and the grid.

    In `demonstrations.path` the text `{environment}` stands for the environment's name; a folder
    stands for the file `{environment}.npz` in it.
    """

    run_dir: str = "runs/compare"
    seeds: int = 3  # how many, counted from `seed`
    environments: dict[str, Any] = field(default_factory=dict)  # name -> what it sets
    methods: dict[str, Any] = field(default_factory=dict)  # name -> what it sets
    cells: dict[str, Any] = field(default_factory=dict)  # ENVIRONMENT/METHOD -> what it sets

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "seeds")
        if not self.environments or not self.methods:
            raise ValueError("name one or more environments and methods")
        grid = {f"{e}/{m}" for e in self.environments for m in self.methods}
        for key in self.cells:
            if key not in grid:
                raise ValueError(f"cells has {key!r}, which is no ENVIRONMENT/METHOD of this grid")


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    environment: str
    method: str
    seed: int
    config: DemonstratedConfig

    @property
    def name(self) -> str:
        return f"{self.environment} {self.method} seed-{self.seed}"

    @property
    def folder(self) -> Path:
        return Path(self.config.run_dir)

    def finished(self) -> bool:
        """Whether `run_cell` came to its end with this very configuration."""
        try:
            found = json.loads((self.folder / FINISHED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(found == _mark(self.config))


def grid(config: CompareConfig) -> list[Cell]:
    """Every run, seed by seed, so that a first number of each cell is there early.

    Raises UserError naming the environment, the method and the key of a setting that does not fit.
    """
    return [
        Cell(environment, name, seed, _of_cell(config, environment, name, seed))
        for seed in range(config.seed, config.seed + config.seeds)
        for environment in config.environments
        for name in config.methods
    ]


def check(cells: Sequence[Cell]) -> dict[str, float | None]:
    """Look at everything that a run needs before any is started.

    Environments are made, demonstrations loaded and checked against them, and the configurations
    of runs that are there already compared. Returns the mean true return of the demonstrations of
    each environment; None where the file has no rewards. Raises UserError naming the first run
    that could not be.
    """
    seen: dict[str, float | None] = {}
    experts: dict[str, float | None] = {}
    for cell in cells:
        config = cell.config
        try:
            if config.evaluation.every == 0:
                raise UserError("evaluation.every=0 leaves nothing to compare; set 1 or more")
            RunDirectory(cell.folder).check(to_dict(config), free_keys=FREE_KEYS)
            needs = to_json([to_dict(config.environment), to_dict(config.demonstrations)])
            if needs not in seen:
                seen[needs] = _look(config)
        except UserError as error:
            raise UserError(f"{cell.name}: {error}") from None
        experts.setdefault(cell.environment, seen[needs])
    return experts


def run_cell(cell: Cell) -> None:
    """Run or resume one run to its end, and mark it as finished."""
    loggers = [OnlyEvaluations(ConsoleLogger(COLUMNS))]
    method(cell.method).run(cell.config, loggers=loggers)
    atomic_write_json(cell.folder / FINISHED, _mark(cell.config))


def _of_cell(config: CompareConfig, environment: str, name: str, seed: int) -> DemonstratedConfig:
    shared = {
        key.name: getattr(config, key.name)
        for key in dataclasses.fields(DemonstratedConfig)
        if key.name not in ("run_dir", "seed")
    }
    plain = {k: to_dict(v) if dataclasses.is_dataclass(v) else v for k, v in shared.items()}
    layers: list[tuple[str, Mapping[str, Any]]] = [("the comparison", plain)]
    for where, given in (
        (f"environments.{environment}", config.environments[environment]),
        (f"methods.{name}", config.methods[name]),
        (f"cells.{environment}/{name}", config.cells.get(f"{environment}/{name}")),
    ):
        if given is not None and not isinstance(given, Mapping):
            raise UserError(f"{where} = {given!r}: expected a section of settings, or null")
        layers.append((where, given or {}))
    folder = Path(config.run_dir, environment.replace("/", "-"), name, f"seed-{seed}")
    own = {"run_dir": str(folder), "seed": seed, "environment": {"name": environment}}
    built = build_config(method(name).config, [*layers, (f"{environment}/{name}", own)])
    source = built.demonstrations.path.replace("{environment}", environment)
    if (inside := Path(source) / f"{environment}.npz").is_file():
        source = str(inside)
    return dataclasses.replace(
        built, demonstrations=dataclasses.replace(built.demonstrations, path=source)
    )


def _look(config: DemonstratedConfig) -> float | None:
    with world(config) as here:
        try:
            SquashedGaussianActor(here.spaces, [1])
        except ValueError as error:
            raise UserError(f"{error}: SAC draws actions from a bounded box") from None
        returns = here.demonstrations(config.demonstrations).report.returns
    return sum(returns) / len(returns) if returns else None


def _mark(config: DemonstratedConfig) -> dict[str, Any]:
    """As it reads back from JSON."""
    return dict(json.loads(to_json({"config": to_dict(config)})))
