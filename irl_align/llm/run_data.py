"""What a run reads: the demonstrations, human pairs and prompts that its configuration names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from irl_align.core.seeding import derive_seed
from irl_align.llm.config import AlignConfig
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.data.preferences import load_preferences
from irl_align.llm.data.prompts import load_prompts
from irl_align.llm.data.schema import Demonstration, Preference, Prompt

__all__ = ["heldout_prompts", "load_training_data", "training_prompts"]


def load_training_data(config: AlignConfig) -> tuple[list[Demonstration], list[Preference]]:
    """Demonstrations (outer white space off, as completions have it) and human pairs, if any."""
    data = config.demonstrations
    assert data.path is not None, "checked when the run starts"
    demonstrations, _ = load_demonstrations(
        data.path,
        split=data.split,
        limit=data.limit,
        on_bad_rows=data.on_bad_rows,  # type: ignore[arg-type]
    )
    demonstrations = [replace(d, response=d.response.strip()) for d in demonstrations]
    preferences: list[Preference] = []
    if config.preferences.path is not None and config.reward.alpha_pref > 0:
        pairs = config.preferences
        preferences, _ = load_preferences(
            str(pairs.path),
            split=pairs.split,
            limit=pairs.limit,
            on_bad_rows=pairs.on_bad_rows,  # type: ignore[arg-type]
        )
    return demonstrations, preferences


def training_prompts(config: AlignConfig, round: int = 0) -> list[Prompt]:
    """The prompts of one round: the demonstrations', then those without a demonstration (policy
    improvement only).

    With `sampling.prompts_per_round` a round takes the next stretch of an order that the seed
    drew, and begins again where that ends: reward and policy then meet fresh demonstrations.
    """
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
