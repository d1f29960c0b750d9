"""The generation phase: prompts of a run, completions of a policy, shared out over the ranks.

Runs in the supervisor, because it only talks to an engine process; the engine may outlive the
phase when it is persistent.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from irl_align.core.errors import UserError
from irl_align.core.seeding import derive_seed
from irl_align.llm.config import AlignConfig
from irl_align.llm.data.prompts import load_prompts
from irl_align.llm.data.schema import Prompt
from irl_align.llm.generation.base import GenerationSettings
from irl_align.llm.generation.client import PolicySampler
from irl_align.llm.generation.samples import (
    PromptSamples,
    read_samples,
    sample_metrics,
    write_samples,
)
from irl_align.llm.jobs import PhaseJob
from irl_align.llm.policy.artefacts import PolicyRef

__all__ = ["GenerationPhase", "heldout_prompts", "merge_parts", "training_prompts"]


def training_prompts(config: AlignConfig, round: int = 0) -> list[Prompt]:
    """The prompts of one round: the demonstrations', then those without a demonstration (policy
    improvement only).

    With `sampling.prompts_per_round` a round takes the next stretch of an order that the seed
    drew, and begins again where that ends: reward and policy then meet fresh demonstrations.
    """
    from irl_align.llm.phases import load_training_data

    demonstrations, _ = load_training_data(config)
    prompts = [Prompt(d.id, d.prompt) for d in demonstrations]
    if config.sampling.extra_prompts is not None:
        extra, _ = load_prompts(config.sampling.extra_prompts)
        prompts += [Prompt(f"extra-{p.id}", p.messages) for p in extra]
    wanted = config.sampling.prompts_per_round
    if wanted is None or wanted >= len(prompts):
        return prompts
    seed = derive_seed(config.seed, round=0, phase="prompts")  # one order for the whole run
    order = np.random.default_rng(seed).permutation(len(prompts))
    taken = order[np.arange(round * wanted, (round + 1) * wanted) % len(prompts)]
    return [prompts[i] for i in taken]


def heldout_prompts(config: AlignConfig) -> list[Prompt]:
    """The prompts that only evaluation sees; none when the run has none."""
    if config.evaluation.prompts is None:
        return []
    return load_prompts(config.evaluation.prompts)[0]


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
