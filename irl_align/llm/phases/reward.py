"""The reward phase: r_{t+1} from demonstrations, the policy's own answers and human pairs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from irl_align.llm.config import AlignConfig
from irl_align.llm.distributed import barrier, world
from irl_align.llm.generation.samples import SAMPLES_NAME, read_samples
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.run_data import load_training_data
from irl_align.llm.training import join_for

if TYPE_CHECKING:
    from irl_align.llm.data.schema import Demonstration, Preference

__all__ = ["fit_reward"]


def fit_reward(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    """A reward folder in `job.out`; `reward/*` of the fit.

    Inputs: `samples`, `body` (what the first reward is made from), and `reward`, r_t, from round 1.
    Extra: `earlier_samples` and `earlier_rewards`, of rounds whose pairs are fitted again.
    """
    from irl_align.llm.reward.phase import fit_reward_phase

    join_for(config.reward)
    demonstrations, preferences = load_training_data(config)
    previous = job.inputs.get("reward")
    if config.policy.method == "nash_md":
        return _preferences(config, job, scratch, demonstrations, preferences)
    names = [job.inputs["samples"], *job.extra.get("earlier_samples", [])]
    return fit_reward_phase(
        Path(previous) if previous else None,
        PolicyRef.at(Path(job.inputs["body"])).model,
        demonstrations,
        [read_samples(Path(name) / SAMPLES_NAME) for name in names],
        preferences,
        Path(job.out),
        config.reward,
        config.model,
        seed=job.seed,
        scratch=scratch,
        round_number=job.round,
        earlier=[Path(r) if r else None for r in job.extra.get("earlier_rewards", [])],
    )


def _preferences(
    config: AlignConfig,
    job: PhaseJob,
    scratch: Path,
    demonstrations: list[Demonstration],
    preferences: list[Preference],
) -> dict[str, float]:
    """The model of human preferences, which knows nothing of rounds: fitted in the first, and the
    same in all."""
    from irl_align.llm.reward.pairwise import as_ordered_pairs, mark_pairwise
    from irl_align.llm.reward.phase import fit_reward_phase

    folder = Path(job.out) / "model"
    previous = job.inputs.get("reward")
    if previous is not None:
        if world().is_main:
            shutil.copytree(previous, folder)
        barrier()
        return {}
    metrics = fit_reward_phase(
        None,
        PolicyRef.at(Path(job.inputs["body"])).model,
        demonstrations,
        [],
        as_ordered_pairs(preferences),
        Path(job.out),
        # Demonstrations are compared with nothing, and what s says of one answer means nothing.
        replace(
            config.reward, gamma_demo=0.0, objective="pairwise_logistic", beta=1.0, centre=False
        ),
        config.model,
        seed=job.seed,
        scratch=scratch,
        round_number=job.round,
    )
    if world().is_main:
        mark_pairwise(folder)
    barrier()
    return metrics
