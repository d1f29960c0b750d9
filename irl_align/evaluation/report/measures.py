"""The quantities of the report, and where each is found.

A finished run states them in results.json. A run on its way is read from its rounds' metrics and
from the completions themselves, with the same bootstrap, so that curves and intervals appear
after the first round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from irl_align.evaluation.bootstrap import (
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_win_rate,
    pad_ragged,
)
from irl_align.evaluation.report.collect import Estimate, RunView, Stage, completions_of


@dataclass(frozen=True)
class Measure:
    """One quantity of the report: its names in results.json (`key`) and in the metrics.

    `fallbacks` are metrics that mean something slightly different. They are used only when no
    round has the real one, and then their own explanation replaces the usual. `line` is a value
    with a meaning (guessing, no change) that the chart draws; `of_reward` tells the reward model's
    qualities from the policy's; `pairs_key` is where results.json counts the pairs behind it.
    """

    key: str
    title: str
    explanation: str
    metric_keys: tuple[str, ...]
    fallbacks: tuple[tuple[str, str], ...] = ()
    line: tuple[str, float] | None = None
    share: bool = False  # shown in per cent
    of_reward: bool = False
    pairs_key: str = ""


MEASURES = (
    Measure(
        "hidden_reward",
        "Hidden reward",
        "The true score that training never saw, measured on held-out prompts.",
        ("eval/hidden_reward",),
    ),
    Measure(
        "reward_accuracy",
        "Reward accuracy",
        "Share of held-out pairs in which the learned reward model prefers the better answer. "
        "0.5 is guessing.",
        ("eval/reward_accuracy",),
        (
            (
                "reward/accuracy",
                "Share of (demonstration, sample) pairs in which the learned reward prefers the "
                "demonstration; an LLM run measures it on pairs kept out of the fit. "
                "0.5 is guessing.",
            ),
        ),
        line=("guessing", 0.5),
        share=True,
        of_reward=True,
        pairs_key="reward_pairs",
    ),
    Measure(
        "preference_accuracy",
        "Human preference accuracy",
        "Share of held-out human pairs in which the learned reward model prefers the chosen "
        "answer. 0.5 is guessing.",
        ("eval/preference_accuracy",),
        line=("guessing", 0.5),
        share=True,
        of_reward=True,
        pairs_key="preference_pairs",
    ),
    Measure(
        "gain_over_sft",
        "Gain over SFT",
        "Hidden reward minus that of supervised fine-tuning, prompt by prompt. "
        "An interval clear of 0 is a real difference.",
        ("eval/gain_over_sft",),
        line=("SFT", 0.0),
    ),
    Measure(
        "win_rate_vs_sft",
        "Win rate against SFT",
        "How often the policy's answer has the higher hidden reward than SFT's answer to the same "
        "prompt; ties count half.",
        ("eval/win_rate_vs_sft",),
        line=("equal", 0.5),
        share=True,
    ),
    Measure(
        "held_out_score",
        "Held-out score",
        "Score by the run's own reward model on held-out prompts. The model changes from round to "
        "round, so only the trend within a round is meaningful.",
        ("eval/reward_score",),
    ),
    Measure(
        "return",
        "Return",
        "Mean return of the policy in its environment, under the true reward.",
        ("eval/return",),
    ),
    Measure(
        "kl",
        "KL from the reference",
        "How far the policy moved from its reference (in an LLM run SFT or the base model), in "
        "nats per response.",
        ("eval/kl", "policy/kl"),
        line=("reference", 0.0),
    ),
    Measure(
        "length",
        "Length",
        "Mean tokens per response. A steady climb is the classic sign of a hacked reward.",
        ("eval/length",),
        (("samples/length", "Mean tokens of the round's training samples (before its update)."),),
    ),
    Measure(
        "eos_rate",
        "Finished responses",
        "Share of responses that ended by themselves instead of being cut off.",
        ("eval/eos_rate",),
        (
            (
                "samples/eos_rate",
                (
                    "Share of the round's training samples (before its update) that ended by "
                    "themselves."
                ),
            ),
        ),
        share=True,
    ),
)
MEASURE = {measure.key: measure for measure in MEASURES}


@dataclass(frozen=True)
class Curve:
    """A measure as a run has it: an estimate per stage name, and what the numbers mean."""

    values: dict[str, Estimate]
    explanation: str


def measured(view: RunView, key: str) -> Curve:
    """One measure, from one source for all rounds.

    results.json comes first, then the rounds' metrics, then what the completions themselves tell
    (hidden reward, gain, win rate, finished share), so that an unfinished run shows intervals too.
    """
    measure = MEASURE[key]
    from_results = _pick(view.stages, lambda stage: _from_results(stage, key))
    sources = [from_results]
    sources += [_pick(view.stages, _reader(metric)) for metric in measure.metric_keys]
    sources.append(_pick(view.stages, lambda stage: _from_completions(view, stage, key)))
    # The source that covers the most rounds; among equals results.json, then one with intervals.
    # Mixing sources in one curve would compare unlike numbers.
    rounds = {stage.name for stage in view.rounds}

    def worth(source: dict[str, Estimate]) -> tuple[int, bool, bool]:
        covered = [value for name, value in source.items() if name in rounds]
        return len(covered), source is from_results, any(v.low is not None for v in covered)

    best = max(sources, key=worth)
    explanation = measure.explanation
    if not rounds & best.keys():
        for metric, meaning in measure.fallbacks:
            other = _pick(view.stages, _reader(metric))
            if rounds & other.keys():
                return Curve(other, meaning)
    for source in sources:
        # Baselines (base, SFT) may come from the next source: they are separate lines.
        best = {**{k: v for k, v in source.items() if k not in rounds and k not in best}, **best}
    return Curve(best, explanation)


def completion_values(stage: Stage, name: str) -> dict[str, list[float]]:
    """`{prompt id: values of its completions}` for `hidden_reward` or `reward`."""
    found = {}
    for identity, row in stage.completions.items():
        values = [item.get(name) for item in completions_of(row)]
        kept = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
        if kept:
            found[identity] = kept
    return found


def _from_results(stage: Stage, key: str) -> Estimate | None:
    interval = Estimate.parse(stage.results.get(f"{key}_interval"))
    return interval or Estimate.parse(stage.results.get(key))


def _from_completions(view: RunView, stage: Stage, key: str) -> Estimate | None:
    if key == "eos_rate":
        reasons = [
            [float(item.get("finish_reason") != "length") for item in completions_of(row)]
            for row in stage.completions.values()
            if any("finish_reason" in item for item in completions_of(row))
        ]
        return _interval(bootstrap_mean, [row for row in reasons if row])
    if key == "held_out_score":
        return _interval(bootstrap_mean, list(completion_values(stage, "reward").values()))
    if key == "hidden_reward":
        return _interval(bootstrap_mean, list(completion_values(stage, "hidden_reward").values()))
    if key in ("gain_over_sft", "win_rate_vs_sft") and stage.round is not None:
        sft = view.setup.get("sft")
        if sft is None:
            return None
        ours = completion_values(stage, "hidden_reward")
        theirs = completion_values(sft, "hidden_reward")
        shared = [identity for identity in ours if identity in theirs]
        compare = bootstrap_difference if key == "gain_over_sft" else bootstrap_win_rate
        left = [ours[identity] for identity in shared]
        return _interval(compare, left, [theirs[identity] for identity in shared])
    return None


def _interval(function: Any, *values: list[list[float]]) -> Estimate | None:
    if not values[0]:
        return None
    return Estimate.parse(function(*(pad_ragged(rows) for rows in values)))


def _pick(stages: Iterable[Stage], read: Callable[[Stage], Estimate | None]) -> dict[str, Estimate]:
    found = {stage.name: read(stage) for stage in stages}
    return {name: value for name, value in found.items() if value is not None}


def _reader(key: str) -> Callable[[Stage], Estimate | None]:
    return lambda stage: _metric(stage.metrics, key)


def _metric(metrics: Mapping[str, Any], key: str) -> Estimate | None:
    """A metric, with its interval when `key/low` and `key/high` (or `_low`, `_high`) are there."""
    whole = Estimate.parse(metrics.get(key))
    for join in ("/", "_"):
        mean = metrics.get(f"{key}{join}mean", metrics.get(key))
        low, high = metrics.get(f"{key}{join}low"), metrics.get(f"{key}{join}high")
        if low is not None and high is not None:
            return Estimate.parse({"mean": mean, "low": low, "high": high})
        if whole is None and mean is not None:
            whole = Estimate.parse(mean)
    return whole
