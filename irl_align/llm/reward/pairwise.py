"""A preference model that compares two answers, for tastes that no reward can have.

    P(y > y' | x) = sigmoid(s(x, y, y') - s(x, y', y))

s reads prompt and both answers, in order, as one conversation, and is an ordinary reward model in
all else: loaded, saved, fitted and scored by the same code. Whatever s is,

    P(y > y' | x) + P(y' > y | x) = 1        and        P(y > y | x) = 1/2.

A Bradley-Terry reward is the special case s(x, y, y') = r(x, y) / 2 - r(x, y') / 2, and cannot say
that three answers beat each other in a circle. (Munos et al. 2024, arXiv 2312.00886; thesis ch. 4.)

Fitting is -log P(chosen > rejected | x), the cross-entropy of the humans' labels: the Bradley-Terry
loss of the two orders as two texts, which is how :func:`as_ordered_pairs` writes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.llm.data.schema import Message, Preference
from irl_align.llm.policy.scores import Scorer

__all__ = ["PairwisePreference", "as_ordered_pairs", "in_order", "mark_pairwise"]

_MARK = "pairwise.json"  # tells such a folder from a reward model's, whose scores it cannot give


def in_order(first: str, second: str) -> str:
    """Both answers as one text, the way that s reads them."""
    return f"Answer A:\n{first}\n\nAnswer B:\n{second}"


def as_ordered_pairs(preferences: Sequence[Preference]) -> list[Preference]:
    """The rows that a reward fit learns s from: "chosen, then rejected" over the other order."""
    return [
        replace(p, chosen=in_order(p.chosen, p.rejected), rejected=in_order(p.rejected, p.chosen))
        for p in preferences
    ]


def mark_pairwise(folder: Path) -> None:
    """Record that the model in `folder` compares answers."""
    atomic_write_json(folder / _MARK, {"text": in_order("{first}", "{second}")})


class PairwisePreference:
    """P(first > second | prompt) by a model s; see the module."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    @classmethod
    def load(cls, folder: Path, **options: Any) -> PairwisePreference:
        """Load a folder of the policy method `nash_md`; `options` as `RewardScorer.load` takes
        them. UserError when it holds a reward model of single answers, or none."""
        from irl_align.llm.reward.scorer import RewardScorer

        if not (folder / _MARK).exists():
            raise UserError(
                f"{folder} holds no pairwise preference model (no {_MARK}): policy.method=nash_md "
                "fits one from human pairs; a reward model of single answers cannot take its place"
            )
        return cls(RewardScorer.load(folder, **options))

    def logits(
        self,
        prompts: Sequence[Sequence[Message]],
        first: Sequence[str],
        second: Sequence[str],
        *,
        batch_size: int = 32,
    ) -> list[float]:
        """log P(first > second) - log P(second > first) of each row; antisymmetric in the two."""
        texts = [in_order(a, b) for a, b in zip(first, second, strict=True)]
        texts += [in_order(b, a) for a, b in zip(first, second, strict=True)]
        scores = self.scorer.score([*prompts, *prompts], texts, batch_size=batch_size)
        count = len(first)
        return [a - b for a, b in zip(scores[:count], scores[count:], strict=True)]

    def probability(
        self,
        prompts: Sequence[Sequence[Message]],
        first: Sequence[str],
        second: Sequence[str],
        *,
        batch_size: int = 32,
    ) -> list[float]:
        """P(first > second) of each row."""
        found = self.logits(prompts, first, second, batch_size=batch_size)
        return [0.5 * (1 + math.tanh(logit / 2)) for logit in found]
