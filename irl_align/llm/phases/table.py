"""The phases that run in processes of their own, by name. Files in, files out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from irl_align.core.errors import naming
from irl_align.core.seeding import seed_everything
from irl_align.llm.config import AlignConfig
from irl_align.llm.distributed import barrier, join, world
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.phases.measure import measure
from irl_align.llm.phases.policy import improve_policy
from irl_align.llm.phases.reward import fit_reward
from irl_align.llm.phases.setup import fine_tune, prepare

__all__ = ["PHASES", "run_job"]

Run = Callable[[AlignConfig, PhaseJob, Path], dict[str, float]]


def _measure(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    join()
    metrics = measure(config, job) if world().is_main else {}
    barrier()
    return metrics


PHASES: dict[str, Run] = {
    "prepare": prepare,
    "sft": fine_tune,
    "reward": fit_reward,
    "policy": improve_policy,
    "measure": _measure,
}


def run_job(job: PhaseJob) -> dict[str, float]:
    """Run the phase in this process, seeded and with a scratch folder; its metrics, which are the
    same on every rank."""
    config = AlignConfig.from_dict(job.config)
    seed_everything(job.seed)
    with naming(job.out), tempfile.TemporaryDirectory(prefix="irl-align-") as scratch:
        return PHASES[job.name](config, job, Path(scratch))
