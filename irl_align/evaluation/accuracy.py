"""How often scores agree with preferences: strict, ties told apart, intervals over prompts.

The one definition behind a run's rounds, `irl-align score` and RewardBench. A pair is right only
when the preferred answer scores strictly higher; a tie says nothing and counts as wrong. Pairs of
one prompt are alike, so prompts are resampled, not pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from irl_align.evaluation.bootstrap import Interval, bootstrap_pooled

__all__ = ["Agreement", "agreement", "groups_by_prompt", "mean_by_prompt"]


@dataclass(frozen=True)
class Agreement:
    """`accuracy`: share of right pairs. `margin`: preferred minus other, in the scores' units."""

    pairs: int
    ties: int
    accuracy: Interval
    margin: Interval


def agreement(margins: Sequence[float], prompts: Sequence[Hashable], *, seed: int = 0) -> Agreement:
    """Of `margins` (preferred minus other), one a pair, with what tells the prompts apart.

    Raises ValueError when there are no pairs or a margin is not finite.
    """
    return Agreement(
        pairs=len(margins),
        ties=sum(margin == 0 for margin in margins),
        accuracy=mean_by_prompt([float(margin > 0) for margin in margins], prompts, seed=seed),
        margin=mean_by_prompt(margins, prompts, seed=seed),
    )


def mean_by_prompt(
    values: Sequence[float], prompts: Sequence[Hashable], *, seed: int = 0
) -> Interval:
    """Mean over all values with its interval over prompts. ValueError as in `agreement`."""
    return bootstrap_pooled(groups_by_prompt(values, prompts), seed=seed)


def groups_by_prompt(values: Sequence[float], prompts: Sequence[Hashable]) -> list[list[float]]:
    """The values of each prompt, prompts in order of their first value."""
    groups: dict[Hashable, list[float]] = {}
    for prompt, value in zip(prompts, values, strict=True):
        groups.setdefault(prompt, []).append(value)
    return list(groups.values())
