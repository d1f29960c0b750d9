"""The generation phase: prompts of a run, completions of a policy, shared out over the ranks.

Runs in the supervisor, because it only talks to an engine process; the engine may outlive the
phase when it is persistent.
"""

from __future__ import annotations

from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.core.seeding import derive_seed
from irl_align.llm.config import AlignConfig
from irl_align.llm.generation.base import GenerationSettings
from irl_align.llm.generation.client import PolicySampler
from irl_align.llm.generation.samples import (
    PromptSamples,
    read_samples,
    sample_metrics,
    write_samples,
)
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.run_data import heldout_prompts, training_prompts

__all__ = ["GenerationPhase", "merge_parts"]


class GenerationPhase:
    """Handler of the jobs `generate` (training prompts) and `generate_heldout`."""

    def __init__(self) -> None:
        self._sampler: PolicySampler | None = None

    def __call__(self, job: PhaseJob, rank: int, size: int) -> dict[str, float]:
        config = AlignConfig.from_dict(job.config)
        sampling = config.sampling
        if self._sampler is None:
            self._sampler = PolicySampler(sampling)
        held_out = job.name == "generate_heldout"
        prompts = heldout_prompts(config) if held_out else training_prompts(config, job.round)
        policy = PolicyRef.at(Path(job.inputs["policy"]))
        settings = GenerationSettings(
            n=config.evaluation.samples_per_prompt if held_out else sampling.samples_per_prompt,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_new_tokens,
            max_prompt_tokens=sampling.max_prompt_tokens,
            seed=derive_seed(job.seed, round=job.round, phase=job.name, rank=rank),
        )
        samples, metrics = self._sampler.sample(
            policy.model,
            policy.probe,
            prompts[rank::size],
            settings,
            description=f"round {job.round}: sampling" if not held_out else "held-out sampling",
        )
        out = Path(job.out)
        write_samples(_part(out, job, rank), samples)
        if all(s.skipped for s in samples) and samples:
            raise UserError(
                f"every prompt is over sampling.max_prompt_tokens={sampling.max_prompt_tokens}; "
                "raise it"
            )
        return metrics | sample_metrics(samples)

    def close(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None


def _part(out: Path, job: PhaseJob, rank: int) -> Path:
    return out / f".{job.name}-{rank:04d}.jsonl"


def merge_parts(job: PhaseJob, size: int, target: Path) -> dict[str, float]:
    """Put the ranks' shards together in the order of the prompts; their metrics over all ranks."""
    parts: list[list[PromptSamples]] = []
    for rank in range(size):
        path = _part(Path(job.out), job, rank)
        parts.append(read_samples(path))
        path.unlink()
    merged: list[PromptSamples] = []
    for index in range(max(map(len, parts), default=0)):
        merged += [part[index] for part in parts if index < len(part)]
    write_samples(target, merged)
    return sample_metrics(merged)
