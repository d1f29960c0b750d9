"""What answers are worth under a gold (hidden) reward, and whether a learned reward agrees with it.

Plain numbers in, intervals out, so that a run's rounds, evaluators and `eval/gold_reward.py` count
alike. Rewards come as {prompt id: rewards of its answers}; prompts may have different numbers of
answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from irl_align.evaluation.accuracy import Agreement, agreement
from irl_align.evaluation.bootstrap import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_win_rate,
    pad_ragged,
)
from irl_align.evaluation.hidden_reward import hidden_pairs

__all__ = ["Rewards", "against", "gold_agreement", "mean_reward"]

Rewards = Mapping[str, Sequence[float]]


def mean_reward(rewards: Rewards, *, seed: int = 0) -> Interval:
    """Mean over prompts of the mean over their answers; prompts without answers are left out.

    Raises ValueError when no prompt has an answer.
    """
    return bootstrap_mean(pad_ragged([r for r in rewards.values() if r]), seed=seed)


def against(ours: Rewards, theirs: Rewards, *, seed: int = 0) -> tuple[Interval, Interval]:
    """(gain, win rate) of our answers over theirs, paired by prompt; ties count half a win.

    Prompts that only one side has answered are left out. Raises ValueError when none is left.
    """
    both = [name for name, values in ours.items() if values and theirs.get(name)]
    first = pad_ragged([ours[name] for name in both])
    second = pad_ragged([theirs[name] for name in both])
    return (
        bootstrap_difference(first, second, seed=seed),
        bootstrap_win_rate(first, second, seed=seed),
    )


def gold_agreement(gold: Rewards, learned: Rewards, *, seed: int = 0) -> Agreement | None:
    """How often the learned reward orders a prompt's answers as the gold one does.

    Every pair of one prompt's answers that differ in gold counts once. None when there is no such
    pair. Raises ValueError when the two do not hold the same answers.
    """
    margins: list[float] = []
    prompts: list[str] = []
    for name, true in gold.items():
        scores = learned[name]
        if len(scores) != len(true):
            raise ValueError(f"prompt {name}: {len(true)} gold rewards, {len(scores)} scores")
        pairs = hidden_pairs(true)
        margins += [scores[better] - scores[worse] for better, worse in pairs]
        prompts += [name] * len(pairs)
    return agreement(margins, prompts, seed=seed) if margins else None
