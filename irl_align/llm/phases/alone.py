"""One phase by hand: the code path of a whole run, with inputs named on the command line.

The recipes `sft.py`, `sample.py`, `fit_reward.py` and `improve_policy.py` are this with a parser
around it. With the inputs and the round of a run, a phase gives what it gave in that run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from irl_align.core.config import to_dict
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json, commit_folder
from irl_align.core.lock import FolderLock
from irl_align.core.provenance import versions
from irl_align.core.seeding import derive_seed
from irl_align.llm.config import AlignConfig
from irl_align.llm.phases.generate import GenerationPhase
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.phases.launch import Launcher
from irl_align.llm.preflight import preflight

__all__ = ["PhaseBench", "input_folder", "run_alone"]


class PhaseBench:
    """What the work of one phase is done with: `folder` to write into, `run` for its jobs."""

    def __init__(
        self, config: AlignConfig, launcher: Launcher, folder: Path, seed: int, round: int
    ) -> None:
        self.launcher, self.folder, self.seed, self.round = launcher, folder, seed, round
        self._config = to_dict(config)

    def job(
        self, name: str, inputs: Mapping[str, Path], out: Path | None = None, **extra: object
    ) -> PhaseJob:
        """A job of this phase; `out` when it is not the phase's own folder."""
        paths = {k: str(v.resolve()) for k, v in inputs.items()}
        folder = str(out or self.folder)
        return PhaseJob(name, self._config, paths, folder, self.seed, self.round, extra)

    def run(
        self, name: str, inputs: Mapping[str, Path], out: Path | None = None, **extra: object
    ) -> dict[str, float]:
        return self.launcher.run(self.job(name, inputs, out, **extra))


def run_alone(
    config: AlignConfig,
    out: Path,
    work: Callable[[PhaseBench], dict[str, float]],
    *,
    phase: str,
    round: int = 0,
) -> None:
    """Do `work` under the launcher that started this process and leave its folder at `out`.

    `phase` names the seed: "sample", "reward", "policy" or "setup/sft", as in a run. The folder
    is written aside and renamed when it is complete, with `phase.json` (metrics, seconds, seed,
    configuration, versions) in it. Raises :class:`UserError` when `out` exists.
    """
    generation = GenerationPhase()
    launcher = Launcher(
        inline=config.launch.inline,
        handlers={"generate": generation, "generate_heldout": generation},
    )
    try:
        if launcher.is_main:
            preflight(config, [n for n in ("sft", "reward", "policy") if phase.endswith(n)])
            _run(config, launcher, out, work, phase, round)
        else:
            launcher.follow()
    finally:
        generation.close()
        launcher.close()


def _run(
    config: AlignConfig,
    launcher: Launcher,
    out: Path,
    work: Callable[[PhaseBench], dict[str, float]],
    phase: str,
    round: int,
) -> None:
    out = out.resolve()
    if out.exists():
        raise UserError(f"--out {out} exists, and nothing is overwritten; name a new folder")
    partial = out.parent / f".{out.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(partial)
    lock.acquire()
    try:
        for stale in partial.iterdir():
            if stale != lock.path:
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        seed = derive_seed(config.seed, round=round, phase=phase)
        start = time.perf_counter()
        metrics = work(PhaseBench(config, launcher, partial, seed, round))
        record = {
            "phase": phase,
            "round": round,
            "seed": seed,
            "seconds": time.perf_counter() - start,
            "processes": launcher.place.size,
            "metrics": metrics,
            "config": to_dict(config),
            "versions": versions(),
        }
        atomic_write_json(partial / "phase.json", record)
        lock.path.unlink()
        commit_folder(partial, out)
    finally:
        lock.release()
    for key, value in sorted(metrics.items()):
        print(f"{key:32} {value:.6g}")
    print(out)


def input_folder(flag: str, path: Path, file: str | None = None) -> Path:
    """`path` when it is a folder that holds `file`; a clear error naming `flag` otherwise."""
    if not path.is_dir():
        raise UserError(f"{flag} {path}: no such folder")
    if file is not None and not (path / file).exists():
        raise UserError(f"{flag} {path} holds no {file}; is it the output of another phase?")
    return path
