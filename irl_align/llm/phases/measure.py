"""What a round is worth, on prompts and pairs that training never saw.

Reads completions of the held-out prompts and writes nothing but scores into them. The hidden
reward and the held-out human pairs live here only: no number of this module reaches training or
selection.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irl_align.evaluation.bootstrap import Interval
from irl_align.evaluation.evaluators import HumanAccuracyEvaluator, preference_metrics
from irl_align.evaluation.gold import against, gold_agreement, mean_reward
from irl_align.evaluation.hidden_reward import load_hidden_reward
from irl_align.llm.config import IMPLICIT, AlignConfig
from irl_align.llm.generation.samples import PromptSamples, read_samples, write_samples
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.scores import prompt_text

__all__ = ["COMPLETIONS_NAME", "measure", "preference_accuracy"]

COMPLETIONS_NAME = "completions.jsonl"


def measure(config: AlignConfig, job: PhaseJob) -> dict[str, float]:
    """`eval/*` of one policy and (in a round) its reward model.

    Inputs: `completions` (folder with this policy's completions of the held-out prompts, scores
    are added to the file), and for a round `policy`, `initial`, `reward`, `baseline` (folder of
    the SFT policy's completions) and `pairs` (folder of the base model's completions; hidden pairs
    are formed among those and the baseline's).
    """
    folder = Path(job.inputs["completions"])
    metrics: dict[str, float] = {}
    completions = (
        read_samples(folder / COMPLETIONS_NAME) if (folder / COMPLETIONS_NAME).exists() else []
    )
    hidden = bool(completions) and config.evaluation.hidden_reward is not None
    if hidden:
        _add_hidden_reward(completions, str(config.evaluation.hidden_reward))
        metrics |= _interval("eval/hidden_reward", _hidden_interval(completions))
    if completions:
        metrics |= {
            "eval/length": _mean([float(c.tokens) for s in completions for c in s.completions]),
            "eval/eos_rate": _mean([float(c.finished) for s in completions for c in s.completions]),
        }
    if "reward" in job.inputs:
        metrics |= _measure_reward(config, job, completions, hidden)
    if hidden and "baseline" in job.inputs:
        baseline = read_samples(Path(job.inputs["baseline"]) / COMPLETIONS_NAME)
        metrics |= _against(completions, baseline)
    if completions and "policy" in job.inputs and config.evaluation.kl_samples_per_prompt > 0:
        metrics |= _kl(config, job, completions)
    if completions:
        write_samples(folder / COMPLETIONS_NAME, completions)
    return metrics


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def _interval(key: str, interval: Interval) -> dict[str, float]:
    return {key: interval.mean, f"{key}_low": interval.low, f"{key}_high": interval.high}


def _prompt_text(item: PromptSamples) -> str:
    return prompt_text(item.prompt)


def _add_hidden_reward(samples: Sequence[PromptSamples], name: str) -> None:
    reward = load_hidden_reward(name)
    for item in samples:
        for completion in item.completions:
            completion.scores["hidden_reward"] = reward(_prompt_text(item), completion.text)


def _rewards(samples: Sequence[PromptSamples], name: str) -> dict[str, list[float]]:
    return {s.id: [c.scores[name] for c in s.completions] for s in samples}


def _hidden_interval(samples: Sequence[PromptSamples]) -> Interval:
    return mean_reward(_rewards(samples, "hidden_reward"))


def _against(ours: Sequence[PromptSamples], theirs: Sequence[PromptSamples]) -> dict[str, float]:
    """Gain and win rate over the baseline under the hidden reward, paired by prompt."""
    gain, wins = against(_rewards(ours, "hidden_reward"), _rewards(theirs, "hidden_reward"))
    return _interval("eval/gain_over_sft", gain) | _interval("eval/win_rate_vs_sft", wins)


def _measure_reward(
    config: AlignConfig, job: PhaseJob, completions: list[PromptSamples], hidden: bool
) -> dict[str, float]:
    """The reward model's accuracy on hidden and human pairs, and its view of the new policy."""
    metrics: dict[str, float] = {}
    if config.policy.method not in IMPLICIT and not config.fits_reward:
        return metrics  # a rule alone: held-out answers are evaluation.hidden_reward's matter
    if config.policy.method == "nash_md":
        return _measure_preference(config, job)
    scorer = _scorer(config, job)
    if hidden and "pairs" in job.inputs:
        source = _pooled([job.inputs["pairs"], job.inputs.get("baseline", job.inputs["pairs"])])
        _add_reward(scorer, source)
        metrics |= _hidden_accuracy(source)
    if completions:
        _add_reward(scorer, completions)
        scores = [c.scores["reward"] for s in completions for c in s.completions]
        metrics["eval/reward_score"] = _mean(scores)
    held_out = config.evaluation.preferences
    if held_out.path is not None:
        from irl_align.llm.data.preferences import load_preferences

        pairs, _ = load_preferences(
            held_out.path,
            split=held_out.split,
            limit=held_out.limit,
            on_bad_rows=held_out.on_bad_rows,  # type: ignore[arg-type]
        )
        metrics |= preference_accuracy(scorer, pairs)
    del scorer
    gc.collect()
    return metrics


def _measure_preference(config: AlignConfig, job: PhaseJob) -> dict[str, float]:
    """A model of preferences gives no scores: it is held against human pairs alone."""
    held_out = config.evaluation.preferences
    if held_out.path is None:
        return {}
    from irl_align.llm.data.preferences import load_preferences
    from irl_align.llm.reward.pairwise import PairwisePreference

    model = PairwisePreference.load(
        Path(job.inputs["reward"]) / "model",
        bf16=config.model.bf16,
        shared_prefix=config.reward.shared_prefix,
    )
    pairs, _ = load_preferences(
        held_out.path,
        split=held_out.split,
        limit=held_out.limit,
        on_bad_rows=held_out.on_bad_rows,  # type: ignore[arg-type]
    )
    margins = model.logits(
        [p.prompt for p in pairs], [p.chosen for p in pairs], [p.rejected for p in pairs]
    )
    return preference_metrics(margins, pairs)


def _scorer(config: AlignConfig, job: PhaseJob) -> Any:
    """The round's reward model, or beta log pi/pi_0 of a policy that was trained without one."""
    if config.policy.method not in IMPLICIT:
        from irl_align.llm.reward.scorer import RewardScorer

        return RewardScorer.load(
            Path(job.inputs["reward"]) / "model",
            bf16=config.model.bf16,
            shared_prefix=config.reward.shared_prefix,
        )
    from irl_align.llm.policy.likelihood import ImplicitRewardScorer, LikelihoodScorer

    ours, theirs = (
        LikelihoodScorer.load(PolicyRef.at(Path(job.inputs[role])).model, bf16=config.model.bf16)
        for role in ("policy", "initial")
    )
    return ImplicitRewardScorer(ours, theirs, config.policy.beta)


def _pooled(folders: Sequence[str]) -> list[PromptSamples]:
    """The answers of all `folders` by prompt: those of the base model and of SFT, which stay the
    same in every round, so that accuracies of rounds compare."""
    merged: dict[str, PromptSamples] = {}
    for folder in dict.fromkeys(folders):
        for item in read_samples(Path(folder) / COMPLETIONS_NAME):
            if item.id in merged:
                merged[item.id].completions += item.completions
            else:
                merged[item.id] = item
    return list(merged.values())


def _add_reward(scorer: Any, samples: Sequence[PromptSamples]) -> None:
    cells = [(s, c) for s in samples for c in s.completions]
    scores = scorer.score(
        [s.prompt for s, _ in cells],
        [c.text for _, c in cells],
        finished=[c.finished for _, c in cells],
        batch_size=36,
    )
    for (_, completion), score in zip(cells, scores, strict=True):
        completion.scores["reward"] = score


def _hidden_accuracy(samples: Sequence[PromptSamples]) -> dict[str, float]:
    """Share of a prompt's pairs with different hidden reward that the model orders alike, strict.

    Only finished completions form pairs, as in the fit; ties of the model count as wrong.
    """
    whole = [
        PromptSamples(s.id, s.prompt, [c for c in s.completions if c.finished]) for s in samples
    ]
    found = gold_agreement(_rewards(whole, "hidden_reward"), _rewards(whole, "reward"))
    if found is None:
        return {}
    return _interval("eval/reward_accuracy", found.accuracy) | {
        "eval/reward_pairs": float(found.pairs),
        "eval/reward_ties": found.ties / found.pairs,
    }


def preference_accuracy(scorer: Any, pairs: Sequence[Any]) -> dict[str, float]:
    """`eval/preference_*`: strict accuracy on (prompt, chosen, rejected) with its interval."""
    return HumanAccuracyEvaluator(pairs, lambda _: scorer).measure(scorer)


def _kl(
    config: AlignConfig, job: PhaseJob, completions: Sequence[PromptSamples]
) -> dict[str, float]:
    from irl_align.llm.policy.kl import kl_estimates

    taken = [
        (s.prompt, c)
        for s in completions
        for c in s.completions[: config.evaluation.kl_samples_per_prompt]
    ]
    return kl_estimates(
        PolicyRef.at(Path(job.inputs["policy"])),
        PolicyRef.at(Path(job.inputs["initial"])),
        [p for p, _ in taken],
        [c.text for _, c in taken],
        [c.finished for _, c in taken],
        temperature=config.sampling.temperature,
    )
