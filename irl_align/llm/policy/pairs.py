"""Pairs for online DPO, by the reward model's scores of N completions.

The best against the worst learns most from a round; how far the policy then goes is not what the
reward says, because a label is certain however small the gap. Pairs drawn at random with
Bradley-Terry labels lead to pi_ref exp(r / beta) / Z (Rafailov et al. 2023, section 4).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from irl_align.llm.data.schema import Message
from irl_align.llm.generation.samples import Completion, PromptSamples

__all__ = ["PolicyPair", "best_against_worst", "bradley_terry_pairs"]


@dataclass(frozen=True)
class PolicyPair:
    """`margin` is the difference of their scores: positive, but for a label that was drawn.

    A rejected answer that is not `rejected_finished` was cut off: it has no end that could be
    made less likely.
    """

    id: str
    prompt: Sequence[Message]
    chosen: str
    rejected: str
    margin: float
    rejected_finished: bool = True


def best_against_worst(
    samples: Sequence[PromptSamples],
    *,
    truncated: str = "exclude",
    pairs_per_prompt: int = 1,
    key: str = "reward",
) -> tuple[list[PolicyPair], Counter[str]]:
    """argmax against argmin of `completion.scores[key]`; ties are dropped and counted.

    `truncated`: "exclude" leaves unfinished completions out of both sides; "reject" lets them be
    rejected, below every finished one, but never chosen. `pairs_per_prompt` k pairs the i-th best
    with the i-th worst for i < k, as long as they are different halves of the ranking.
    """
    pairs: list[PolicyPair] = []
    dropped: Counter[str] = Counter()
    for item in samples:
        if item.skipped:
            dropped["over_long_prompt"] += 1
            continue
        whole = _distinct([c for c in item.completions if c.finished and c.text])
        # An answer that was sampled whole and cut off must not meet itself.
        known = {"", *(c.text for c in whole)}
        cut = _distinct([c for c in item.completions if not c.finished and c.text not in known])
        ranked = sorted(whole, key=lambda c: c.scores[key], reverse=True)
        if truncated == "reject":
            ranked += sorted(cut, key=lambda c: c.scores[key], reverse=True)
        else:
            dropped["cut_off_completions"] += len(cut)
        if len(ranked) < 2 or not whole:
            dropped["fewer_than_two_completions"] += 1
            continue
        for rank in range(min(pairs_per_prompt, len(ranked) // 2)):
            best, worst = ranked[rank], ranked[-1 - rank]
            if not best.finished:
                break
            margin = best.scores[key] - worst.scores[key]
            if worst.finished and margin <= 0:
                dropped["ties"] += 1
                continue
            sides = best.text, worst.text
            pairs.append(PolicyPair(item.id, item.prompt, *sides, margin, worst.finished))
    return pairs, dropped


def bradley_terry_pairs(
    samples: Sequence[PromptSamples],
    seed: int,
    *,
    pairs_per_prompt: int = 1,
    key: str = "reward",
) -> tuple[list[PolicyPair], Counter[str]]:
    """Two different finished completions at random, the first chosen with probability
    sigmoid(r_1 - r_2), `pairs_per_prompt` times; scores in the units in which the policy's beta is
    meant."""
    generator = random.Random(seed)
    pairs: list[PolicyPair] = []
    dropped: Counter[str] = Counter()
    for item in samples:
        if item.skipped:
            dropped["over_long_prompt"] += 1
            continue
        whole = _distinct([c for c in item.completions if c.finished and c.text])
        dropped["cut_off_completions"] += len([c for c in item.completions if not c.finished])
        if len(whole) < 2:
            dropped["fewer_than_two_completions"] += 1
            continue
        for _ in range(pairs_per_prompt):
            one, other = generator.sample(whole, 2)
            margin = one.scores[key] - other.scores[key]
            if generator.random() >= 1 / (1 + math.exp(-max(min(margin, 700.0), -700.0))):
                one, other, margin = other, one, -margin
            pairs.append(PolicyPair(item.id, item.prompt, one.text, other.text, margin))
    return pairs, dropped


def _distinct(completions: Sequence[Completion]) -> list[Completion]:
    return list({c.text: c for c in completions}.values())
