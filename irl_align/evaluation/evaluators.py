"""Evaluators for core's round loop that need no more than functions: gold reward, human pairs.

Each is also usable alone, by `measure`. The loop is generic over policies and rewards, so an
evaluator is told how to get answers out of a policy, or scores out of a reward::

    evaluator = Together(
        GoldRewardEvaluator(load_hidden_reward("vader"), prompts, answer),
        HumanAccuracyEvaluator(pairs, RewardScorer.load),
    )
    BilevelTrainer(sampler, learner, improver, evaluator, rounds=3, seed=0)

The LLM recipes measure in processes of their own (`irl_align.llm.phases.measure`), by the same
functions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol

from irl_align.core.protocols import Evaluator, Metrics, PhaseContext, PolicyT, RewardT
from irl_align.evaluation.accuracy import agreement
from irl_align.evaluation.bootstrap import Interval
from irl_align.evaluation.gold import against, mean_reward
from irl_align.evaluation.hidden_reward import HiddenReward

__all__ = [
    "GoldRewardEvaluator",
    "HumanAccuracyEvaluator",
    "Scorer",
    "Together",
    "preference_metrics",
]

Answers = Mapping[str, Sequence[str]]


class Scorer(Protocol):
    """Anything that scores responses: a reward model, a likelihood, an implicit reward."""

    def score(
        self, prompts: Sequence[Any], responses: Sequence[str], *, batch_size: int = ...
    ) -> list[float]: ...


class _Pair(Protocol):
    @property
    def prompt(self) -> Any: ...
    @property
    def chosen(self) -> str: ...
    @property
    def rejected(self) -> str: ...


def _interval(key: str, interval: Interval) -> dict[str, float]:
    return {key: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}


class GoldRewardEvaluator(Generic[PolicyT, RewardT]):
    """`eval/hidden_reward` of a policy's answers, and its gain and win rate over a baseline's.

    Args:
        gold: (prompt text, response) -> reward; training must never see it.
        prompts: held-out prompts by id.
        answer: (policy, prompts, seed) -> one or more responses for each prompt id.
        baseline: answers of another policy to the same prompts (SFT), to pair with.
    """

    def __init__(
        self,
        gold: HiddenReward,
        prompts: Mapping[str, str],
        answer: Callable[[PolicyT, Mapping[str, str], int], Answers],
        baseline: Answers | None = None,
    ) -> None:
        self.gold, self.prompts, self.answer = gold, dict(prompts), answer
        self.baseline = baseline

    def measure(self, answers: Answers) -> dict[str, float]:
        """The metrics of given answers. Raises ValueError when there are none."""
        rewards = self._rewards(answers)
        metrics = _interval("eval/hidden_reward", mean_reward(rewards))
        if self.baseline is not None:
            gain, wins = against(rewards, self._rewards(self.baseline))
            metrics |= _interval("eval/gain_over_sft", gain)
            metrics |= _interval("eval/win_rate_vs_sft", wins)
        return metrics

    def evaluate(self, policy: PolicyT, reward: RewardT, ctx: PhaseContext, /) -> Metrics:
        return self.measure(self.answer(policy, self.prompts, ctx.seed))

    def _rewards(self, answers: Answers) -> dict[str, list[float]]:
        return {
            name: [self.gold(self.prompts[name], text) for text in texts]
            for name, texts in answers.items()
        }


def preference_metrics(margins: Sequence[float], pairs: Sequence[_Pair]) -> dict[str, float]:
    """`eval/preference_*` of margins, one a pair: above 0 where a model agrees with the human."""
    found = agreement(margins, [json.dumps(pair.prompt) for pair in pairs])
    return _interval("eval/preference_accuracy", found.accuracy) | {
        "eval/preference_pairs": float(found.pairs),
        "eval/preference_ties": found.ties / found.pairs,
    }


class HumanAccuracyEvaluator(Generic[PolicyT, RewardT]):
    """`eval/preference_*`: how often a reward agrees with held-out human pairs.

    Args:
        pairs: with `prompt`, `chosen` and `rejected`, as `load_preferences` gives them.
        scorer: reward -> something that scores responses (for a folder, `RewardScorer.load`).
    """

    def __init__(
        self,
        pairs: Sequence[_Pair],
        scorer: Callable[[RewardT], Scorer],
        *,
        batch_size: int = 16,
    ) -> None:
        self.pairs, self.scorer, self.batch_size = list(pairs), scorer, batch_size

    def measure(self, scorer: Scorer) -> dict[str, float]:
        """Accuracy with its interval over prompts, pairs, share of ties (which count as wrong)."""
        scores = scorer.score(
            [pair.prompt for pair in self.pairs for _ in range(2)],
            [text for pair in self.pairs for text in (pair.chosen, pair.rejected)],
            batch_size=self.batch_size,
        )
        margins = [a - b for a, b in zip(scores[0::2], scores[1::2], strict=True)]
        return preference_metrics(margins, self.pairs)

    def evaluate(self, policy: PolicyT, reward: RewardT, ctx: PhaseContext, /) -> Metrics:
        return self.measure(self.scorer(reward))


class Together(Generic[PolicyT, RewardT]):
    """Several evaluators as one; later ones win where keys are the same."""

    def __init__(self, *evaluators: Evaluator[PolicyT, RewardT]) -> None:
        self.evaluators = evaluators

    def evaluate(self, policy: PolicyT, reward: RewardT, ctx: PhaseContext, /) -> Metrics:
        metrics: dict[str, float] = {}
        for evaluator in self.evaluators:
            metrics |= evaluator.evaluate(policy, reward, ctx)
        return metrics
