"""A grid of runs, tasks x methods x seeds, checked as a whole before the first of them.

    environments: {Hopper: {}, Ant: {environment_steps: 500_000}}
    datasets: [medium, medium-expert]
    methods: {ml_irl: {reward: {inputs: state}}, bc: {epochs: 500}}
    cells: {Ant/iq_learn: {sac: {alpha: 0.001}}}

A task is an environment, or an environment with one of the data sets (Hopper/medium). A run's
configuration is the shared part of the comparison, then what its environment sets, then its method,
then its cell (of an environment or of a task); later ones win. What a method does not have of the
shared part is left out for it. Run s of a cell lies in run_dir/TASK/METHOD/seed-s and is an
ordinary run directory. What would be the same is done once: world models that methods would fit
alike, and runs of methods that take no data set, such as cloning, which lie in
run_dir/ENVIRONMENT/METHOD and stand in the row of each of the environment's tasks.

A method may stand there more than once, under names of your own, to compare its settings:

    methods: {weak: {method: bicql, conservative: {alpha: 0.1}}, strong: {method: bicql}}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from irl_align.control.assembly import world
from irl_align.control.config import (
    ControlConfig,
    DemonstratedConfig,
    DemonstrationConfig,
    ExperimentConfig,
)
from irl_align.control.demonstrations.loading import Demonstrations
from irl_align.control.environments.making import ENVIRONMENTS
from irl_align.control.evaluating import OnlyEvaluations
from irl_align.control.fixed_data import FixedDataConfig, fixed_data
from irl_align.control.methods import ONLINE, Method, method
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.scores import Reference, reference
from irl_align.core.checks import positive
from irl_align.core.config import build_config, to_dict
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json, to_json
from irl_align.core.loggers import ConsoleLogger
from irl_align.core.run import RunDirectory

FINISHED = "finished.json"
MODELS = "world_models"  # in the comparison's folder: what several methods would fit alike
COLUMNS = ("eval/return", "eval/return_std", "eval/length")
# The shared part of a learner that is not online: SAC and its budget are its own affair.
SHARED_OFFLINE = ("environment", "evaluation", "demonstrations", "dataset")


@dataclass
class CompareConfig(DemonstratedConfig):
    """The shared part of every run, and the grid.

    In `demonstrations.path` the text `{environment}` stands for the environment's name; a folder
    stands for the file `{environment}.npz` in it. In `dataset.path` and in MOPO's `reward`
    `{dataset}` stands for the data set, too. `sac`, `environment_steps` and `save_every` are those
    of online learners. `scores` is the report's affair, not the runs': it may change at any time.
    """

    run_dir: str = "runs/compare"
    seeds: int = 3  # how many, counted from `seed`
    environments: dict[str, Any] = field(default_factory=dict)  # name -> what it sets
    datasets: list[str] = field(default_factory=list)  # each environment with each of them
    # name -> what it sets, and with `method` whose settings they are (by default the name's own)
    methods: dict[str, Any] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)  # metrics to tell beside the return
    cells: dict[str, Any] = field(default_factory=dict)  # TASK/METHOD -> what it sets
    dataset: Optional[DemonstrationConfig] = None  # transitions of others, for who learns from them
    scores: Optional[str] = None  # what returns are told against; see OfflineConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "seeds")
        if not self.environments or not self.methods:
            raise ValueError("name one or more environments and methods")
        if self.datasets and (self.dataset is None or "{dataset}" not in self.dataset.path):
            raise ValueError("datasets needs {dataset} in dataset.path, which they stand in for")
        tasks = {name for task in self.tasks() for name in (task.name, task.environment)}
        there = {f"{task}/{m}" for task in tasks for m in self.methods}
        for key in self.cells:
            if key not in there:
                raise ValueError(f"cells has {key!r}, which is no TASK/METHOD of this grid")

    def tasks(self) -> list[Task]:
        """The rows of the grid."""
        kinds: list[str | None] = [*self.datasets] or [None]
        return [Task(environment, kind) for environment in self.environments for kind in kinds]

    def references(self) -> dict[str, Reference]:
        """What the returns of each task are told against; empty without `scores`. UserError when
        an environment has none."""
        found = {
            task.name: reference(ENVIRONMENTS.get(task.environment, task.environment), self.scores)
            for task in self.tasks()
        }
        return {name: one for name, one in found.items() if one is not None}


@dataclass(frozen=True)
class Task:
    """An environment, and what others did there."""

    environment: str
    dataset: str | None = None

    @property
    def name(self) -> str:
        return self.environment if self.dataset is None else f"{self.environment}/{self.dataset}"

    def path(self, pattern: str) -> str:
        """What a pattern of a path means here."""
        path = pattern.replace("{environment}", self.environment)
        path = path.replace("{dataset}", self.dataset or "{dataset}")
        inside = Path(path) / f"{self.environment}.npz"
        return str(inside) if inside.is_file() else path


@dataclass(frozen=True)
class Cell:
    """One run of the grid. `method` is the name in the grid, `learner` the one in `methods`."""

    task: Task
    method: str
    seed: int
    config: ExperimentConfig
    learner: str

    @property
    def name(self) -> str:
        return f"{self.task.name} {self.method} seed-{self.seed}"

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
    learners = {name: _learner(config, name) for name in config.methods}
    return [
        Cell(task, name, seed, _of_cell(config, task, name, learner, seed), learner)
        for seed in range(config.seed, config.seed + config.seeds)
        for task in config.tasks()
        for name, learner in learners.items()
    ]


def check(cells: Sequence[Cell]) -> dict[str, float | None]:
    """Look at everything that a run needs before any is started.

    Environments are made, demonstrations and data sets loaded and checked against them, and the
    configurations of runs that are there already compared. Returns the mean true return of the
    demonstrations of each task; None where the file has no rewards. Raises UserError naming the
    first run that could not be.
    """
    seen: dict[str, float | None] = {}
    experts: dict[str, float | None] = {}
    for cell in cells:
        config, of = cell.config, method(cell.learner)
        try:
            if config.evaluation.every == 0:
                raise UserError("evaluation.every=0 leaves nothing to compare; set 1 or more")
            RunDirectory(cell.folder).check(to_dict(config), free_keys=of.free_keys)
            plain = to_dict(config)
            needs = to_json([plain.get(k) for k in ("environment", "demonstrations", "dataset")])
            if needs not in seen:
                seen[needs] = _look(config)
        except UserError as error:
            raise UserError(f"{cell.name}: {error}") from None
        if experts.get(cell.task.name) is None:
            experts[cell.task.name] = seen[needs]
    return experts


def run_cell(cell: Cell) -> None:
    """Run or resume one run to its end, and mark it as finished."""
    of = method(cell.learner)
    of.run(cell.config, loggers=[OnlyEvaluations(ConsoleLogger((of.steps, *COLUMNS)))])
    atomic_write_json(cell.folder / FINISHED, _mark(cell.config))


def _learner(config: CompareConfig, name: str) -> str:
    """Whose settings `methods.name` has."""
    given = config.methods[name]
    learner = given.get("method", name) if isinstance(given, Mapping) else name
    if "/" in name or not isinstance(learner, str):
        raise UserError(f"methods.{name}: give a name without /, and as its method a learner's")
    return learner


def _of_cell(
    config: CompareConfig, task: Task, name: str, learner: str, seed: int
) -> ExperimentConfig:
    of, environment = method(learner), task.environment
    layers: list[tuple[str, Mapping[str, Any]]] = [("the comparison", _shared(config, of, learner))]
    cells = dict.fromkeys((f"{environment}/{name}", f"{task.name}/{name}"))
    for where, given, left_out in (
        (f"environments.{environment}", config.environments[environment], True),
        (f"methods.{name}", config.methods[name], False),
        *((f"cells.{cell}", config.cells.get(cell), False) for cell in cells),
    ):
        if given is not None and not isinstance(given, Mapping):
            raise UserError(f"{where} = {given!r}: expected a section of settings, or null")
        layer = dict(given or {})
        if where == f"methods.{name}":
            layer.pop("method", None)
        if left_out:
            shared = {key.name for key in dataclasses.fields(CompareConfig)} - _keys(of)
            layer = {key: value for key, value in layer.items() if key not in shared}
        layers.append((where, layer))
    alike = "dataset" not in _keys(of) and config.cells.get(f"{task.name}/{name}") is None
    where_to = environment if alike else task.name.replace("/", "-")
    folder = Path(config.run_dir, where_to, name, f"seed-{seed}")
    own: dict[str, Any] = {
        "run_dir": str(folder),
        "seed": seed,
        "environment": {"name": environment},
    }
    if "world_model" in _keys(of):
        models = {"world_model": {"store": str(Path(config.run_dir, MODELS))}}
        layers.insert(0, ("the comparison", models))
    built: ExperimentConfig = build_config(of.config, [*layers, (f"{task.name}/{name}", own)])
    paths: dict[str, Any] = {
        key: dataclasses.replace(data, path=task.path(data.path))
        for key in ("demonstrations", "dataset")
        if (data := getattr(built, key, None)) is not None
    }
    if isinstance(reward := getattr(built, "reward", None), str):
        paths["reward"] = task.path(reward)  # of an earlier comparison
    return dataclasses.replace(built, **paths)


def _shared(config: CompareConfig, of: Method, name: str) -> dict[str, Any]:
    """The shared part, as far as the method has it."""
    online = tuple(key.name for key in dataclasses.fields(DemonstratedConfig))
    keys = online if name in ONLINE else SHARED_OFFLINE
    there, plain = _keys(of) - {"run_dir", "seed"}, to_dict(config)
    return {key: plain[key] for key in keys if key in there and plain[key] is not None}


def _keys(of: Method) -> set[str]:
    """What the method can be told."""
    found = {key.name for key in dataclasses.fields(of.config)}
    return found if getattr(of.config, "takes_dataset", True) else found - {"dataset"}


def _look(config: ExperimentConfig) -> float | None:
    shown: Demonstrations | None = None
    if isinstance(config, FixedDataConfig):
        with fixed_data(config) as given:
            shown = given.demonstrations()
            if config.dataset is not None:
                given.others()
    else:
        assert isinstance(config, ControlConfig)
        with world(config) as here:
            try:
                SquashedGaussianActor(here.spaces, [1])
            except ValueError as error:
                raise UserError(f"{error}: SAC draws actions from a bounded box") from None
            for key in ("dataset", "demonstrations"):
                if (wanted := getattr(config, key, None)) is not None:
                    shown = here.demonstrations(wanted)
        if not hasattr(config, "demonstrations"):
            return None  # MOPO: the data set's are not the expert's
    assert shown is not None
    returns = shown.report.returns
    return sum(returns) / len(returns) if returns else None


def _mark(config: ExperimentConfig) -> dict[str, Any]:
    """As it reads back from JSON."""
    return dict(json.loads(to_json({"config": to_dict(config)})))
