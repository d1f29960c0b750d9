"""Gold reward and human accuracy, alone and inside core's round loop."""

from types import SimpleNamespace

import pytest

from irl_align.core.trainer import BilevelTrainer
from irl_align.evaluation.accuracy import agreement
from irl_align.evaluation.evaluators import (
    GoldRewardEvaluator,
    HumanAccuracyEvaluator,
    Together,
)
from irl_align.evaluation.gold import against, gold_agreement, mean_reward

PROMPTS = {"a": "say a", "b": "say b"}


def gold(prompt: str, response: str) -> float:
    return float(len(response))


class ByLength:
    def __init__(self, sign: float) -> None:
        self.sign = sign

    def score(self, prompts, responses, *, batch_size=16):
        return [self.sign * len(text) for text in responses]


def pair(prompt: str, chosen: str, rejected: str) -> SimpleNamespace:
    return SimpleNamespace(prompt=prompt, chosen=chosen, rejected=rejected)


PAIRS = [pair("p", "xx", "x"), pair("p", "xxx", "x"), pair("q", "x", "xx"), pair("r", "x", "y")]


def test_agreement_is_strict_and_tells_ties() -> None:
    found = agreement([1.0, 2.0, -1.0, 0.0], ["p", "p", "q", "r"])
    assert (found.pairs, found.ties) == (4, 1)
    assert found.accuracy.mean == 0.5
    assert found.margin.mean == 0.5
    with pytest.raises(ValueError, match="no values"):
        agreement([], [])
    with pytest.raises(ValueError, match="finite"):
        agreement([float("nan")], ["p"])


def test_gold_numbers_by_hand() -> None:
    ours = {"a": [1.0, 3.0], "b": [2.0], "empty": [], "ours only": [9.0]}
    assert mean_reward({"a": [1.0, 3.0], "b": [4.0], "empty": []}).mean == 3.0
    gain, wins = against(ours, {"b": [2.0], "a": [1.0]})
    assert gain.mean == pytest.approx((1.0 + 0.0) / 2)
    assert wins.mean == pytest.approx((0.75 + 0.5) / 2)
    found = gold_agreement({"a": [0.9, 0.5, 0.1], "b": [1, 1]}, {"a": [2, 1, 2], "b": [0, 9]})
    assert found is not None
    assert (found.pairs, found.ties, found.accuracy.mean) == (3, 1, pytest.approx(1 / 3))
    assert gold_agreement({"a": [1.0, 1.0]}, {"a": [1.0, 2.0]}) is None
    with pytest.raises(ValueError, match="prompt a"):
        gold_agreement({"a": [1.0]}, {"a": []})


def test_human_accuracy_alone() -> None:
    evaluator = HumanAccuracyEvaluator(PAIRS, ByLength)
    found = evaluator.measure(ByLength(1.0))
    assert found["eval/preference_accuracy"] == 0.5
    assert found["eval/preference_pairs"] == 4
    assert found["eval/preference_ties"] == 0.25
    assert found["eval/preference_accuracy_low"] <= 0.5


def test_both_inside_a_run() -> None:
    """A policy that answers with one more letter a round, a reward whose sign turns."""

    class Learner:
        def fit(self, reward, samples, ctx):
            return -reward, {}

        def improve(self, policy, reward, samples, ctx):
            return policy + 1, {}

    def answer(policy, prompts, seed):
        return {name: ["x" * policy] for name in prompts}

    evaluator = Together(
        GoldRewardEvaluator(gold, PROMPTS, answer, baseline={"a": ["xx"], "b": ["xx"]}),
        HumanAccuracyEvaluator(PAIRS, ByLength),
    )
    learner = Learner()
    trainer = BilevelTrainer(None, learner, learner, evaluator, rounds=3, seed=0)
    history = trainer.train(0, 1.0).history
    assert [row["eval/hidden_reward"] for row in history] == [1.0, 2.0, 3.0]
    assert [row["eval/gain_over_sft"] for row in history] == [-1.0, 0.0, 1.0]
    assert [row["eval/win_rate_vs_sft"] for row in history] == [0.0, 0.5, 1.0]
    assert [row["eval/preference_accuracy"] for row in history] == [0.25, 0.5, 0.25]
