"""What every learner in a world model does before its first round: the model, and its report."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from irl_align.control.buffers import Batch, Layout
from irl_align.control.offline.config import OfflineConfig
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.offline.model_store import ModelStore
from irl_align.control.sac.learner import Learner
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Trajectories
from irl_align.control.transitions import Transitions
from irl_align.control.world_model.calibration import calibrate
from irl_align.control.world_model.config import WorldModelConfig
from irl_align.control.world_model.model import WorldModel, fit_world_model, split
from irl_align.control.world_model.rollouts import PenalisedBuffer
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json, atomic_write_text
from irl_align.core.loggers import Logger
from irl_align.core.run import RunDirectory
from irl_align.core.seeding import derive_seed

SETUP = "world_model"
# Share of steps whose end may be marked otherwise than the environment would: files are rounded.
_FEW = 0.001


def prepare_model(
    config: WorldModelConfig,
    spaces: Spaces,
    data: Transitions,
    expert: Trajectories | None,
    run: RunDirectory | None,
    loggers: Sequence[Logger] = (),
    *,
    penalty: str,
    fixed_horizon: bool,
    seed: int,
    source: str | None,
) -> WorldModel:
    """The world model of a run: committed before, named by the configuration, in its store, or
    fitted now.

    Args:
        expert: whose pairs the calibration is told of, too.
        penalty: how unsure the model is, for the calibration; a key of `PENALTIES`.
        fixed_horizon: nothing ever ends.
        seed: of the run; source: the data's hash, which the model keeps.

    With a run it is committed as set-up, whole: weights, fit.json (how it went), and as .json and
    .txt a calibration (what it is worth, on held-out data and on expert pairs). A fit that was
    killed begins again and ends the same. Raises UserError as `fit_world_model` and
    `WorldModel.load`.
    """
    if run is not None and run.setup_done(SETUP):
        run.verify_setup(SETUP)
        return WorldModel.load(run.setup_folder(SETUP), spaces)
    seed = derive_seed(seed, round=0, phase=SETUP)
    start = time.perf_counter()
    if config.path is not None:
        model, told, held_out = _named(config, config.path, spaces, len(data), seed)
    else:
        held_out, _ = split(len(data), config, seed)
        store = None
        if config.store is not None:
            store = ModelStore(
                Path(config.store),
                config,
                spaces,
                data=data.sha256(),
                fixed_horizon=fixed_horizon,
                seed=seed,
            )
        there = store.find() if store is not None else None
        if there is None:
            there = _fit(config, spaces, data, loggers, fixed_horizon, seed, source)
            if store is not None:
                store.keep(*there)
        model, told = there
        _check_ends(told["termination"], len(data), spaces)
    found = calibrate(
        model,
        Batch(*(column[held_out] for column in data.batch)),
        _transitions(expert) if expert is not None else None,
        penalty=penalty,
        seed=seed,
    )
    metrics = {
        "model/error": found.held_out.error,
        "model/within_one": found.held_out.within_one,
        "model/log_likelihood": found.held_out.log_likelihood,
    }
    if found.expert is not None:
        metrics["model/expert_error"] = found.expert.error
        metrics["model/expert_predicted"] = found.expert_predicted or 0.0
        metrics["model/expert_covered"] = found.expert_covered or 0.0
    for logger in loggers:
        logger.log(0, metrics, SETUP)
    if run is not None:
        folder = run.begin_setup(SETUP)
        model.save(folder)
        atomic_write_json(folder / "fit.json", told)
        atomic_write_json(folder / "calibration.json", found.as_dict())
        atomic_write_text(folder / "calibration.txt", found.render() + "\n")
        run.commit_setup(SETUP, metrics, time.perf_counter() - start, seed)
    return model


def _named(
    config: WorldModelConfig, path: str, spaces: Spaces, rows: int, seed: int
) -> tuple[WorldModel, dict[str, Any], Tensor]:
    """The model at `path`, what is known of it, and rows of the data to look at it with."""
    model = WorldModel.load(model_file(path), spaces)
    # It may have learned from any of these rows; which, it does not say.
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.randperm(rows, generator=generator)[: config.most_held_out or rows]
    told = {
        "path": path,
        "facts": model.facts,
        "calibrated_on": "rows of the data set that it may have learned from",
    }
    return model, told, held_out


def _fit(
    config: WorldModelConfig,
    spaces: Spaces,
    data: Transitions,
    loggers: Sequence[Logger],
    fixed_horizon: bool,
    seed: int,
    source: str | None,
) -> tuple[WorldModel, dict[str, Any]]:
    def on_epoch(epoch: int, errors: list[float]) -> None:
        for logger in loggers:
            logger.log(epoch, {"model/error": sum(errors) / len(errors)}, SETUP)

    fitted = fit_world_model(
        data.batch,
        spaces,
        config,
        seed=seed,
        fixed_horizon=fixed_horizon,
        facts={"data": source},
        on_epoch=on_epoch,
    )
    told = {**fitted.report.as_dict(), "elites": fitted.model.elites.tolist()}
    return fitted.model, {**told, "termination": fitted.termination}


def model_file(path: str) -> Path:
    """The model that a path means: a file, its folder, or a run with one. UserError when none."""
    place = Path(path)
    inside = place / "setup" / SETUP
    found = inside if inside.is_dir() else place
    if not found.exists():
        raise UserError(
            f"world_model.path={path}: no such file or folder; give a saved world model, a run "
            "with one, or null to fit one"
        )
    return found


def model_of(
    config: OfflineConfig,
    spaces: Spaces,
    data: OfflineDataset,
    expert: Trajectories | None,
    run: RunDirectory | None,
    loggers: Sequence[Logger] = (),
) -> WorldModel:
    """`prepare_model` with what `config` says."""
    return prepare_model(
        config.world_model,
        spaces,
        data,
        expert,
        run,
        loggers,
        penalty=config.imagination.penalty,
        fixed_horizon=config.environment.fixed_horizon,
        seed=config.seed,
        source=data.report.sha256,
    )


def model_learner(config: OfflineConfig, spaces: Spaces) -> Learner:
    """A new learner that keeps what it imagines."""
    planned = config.rounds * config.imagination.epochs * config.imagination.updates
    return Learner(
        spaces,
        config.sac,
        seed=config.seed,
        planned_updates=planned,
        buffer=PenalisedBuffer(
            config.sac.capacity, spaces.observation_dim, spaces.action_dim, seed=config.seed
        ),
    )


def _check_ends(termination: dict[str, Any], steps: int, spaces: Spaces) -> None:
    wrong = termination.get("disagreements", 0)
    if wrong > _FEW * steps:
        warnings.warn(
            f"{wrong} of {steps} steps of the data set end, or go on, otherwise than "
            f"{spaces.environment} does; if its robots never end, set "
            "environment.fixed_horizon=true",
            stacklevel=3,
        )


def _transitions(trajectories: Trajectories) -> Batch:
    layout = Layout(trajectories.observation_dim, trajectories.action_dim)
    return layout.unpack(layout.pack(trajectories))
