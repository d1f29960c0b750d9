"""Answers under a gold reward, outside of a run: the same numbers that a run's rounds report.

For completions that already exist (a run's completions.jsonl, the samples of a phase), with any
gold reward; and whether a reward model orders them as the gold reward does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.core.files import sha256_file
from irl_align.evaluation.bootstrap import Interval
from irl_align.evaluation.evaluators import Scorer
from irl_align.evaluation.gold import Rewards, against, gold_agreement, mean_reward
from irl_align.evaluation.hidden_reward import HiddenReward
from irl_align.evaluation.store import DataRecord
from irl_align.llm.generation.samples import PromptSamples, read_samples

__all__ = ["find_answers", "gold_metrics"]

_NAMES = ("completions.jsonl", "samples.jsonl.gz")


def find_answers(path: Path, flag: str = "ANSWERS") -> tuple[list[PromptSamples], DataRecord]:
    """Completions in a file, or in a phase's folder. UserError when there are none."""
    file = path
    if path.is_dir():
        file = next((path / name for name in _NAMES if (path / name).is_file()), path)
    if not file.is_file():
        raise UserError(f"{flag} {path}: no such file, and no folder with {' or '.join(_NAMES)}")
    samples = read_samples(file)
    count = sum(len(item.completions) for item in samples)
    if not count:
        raise UserError(f"{flag} {file} holds no completions")
    return samples, DataRecord(str(path), sha256_file(file), items=count)


def gold_metrics(
    answers: Sequence[PromptSamples],
    gold: HiddenReward,
    *,
    baseline: Sequence[PromptSamples] | None = None,
    scorer: Scorer | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> tuple[dict[str, float | Interval | None], tuple[str, ...]]:
    """(metrics, headline): `gold_reward`; against a baseline `gain` and `win_rate`, paired by
    prompt; of a scorer `reward_accuracy` (None without a pair) with `reward_pairs`, `reward_ties`.

    As in a run, only finished answers form pairs. Raises UserError when baseline and answers share
    no prompt.
    """
    ours = _gold(answers, gold)
    metrics: dict[str, float | Interval | None] = {"gold_reward": mean_reward(ours, seed=seed)}
    headline = ["gold_reward"]
    if baseline is not None:
        theirs = _gold(baseline, gold)
        if not any(theirs.get(name) for name in ours):
            raise UserError("the baseline answers none of these prompts (prompts match by id)")
        metrics["gain"], metrics["win_rate"] = against(ours, theirs, seed=seed)
        headline += ["gain", "win_rate"]
    if scorer is not None:
        cells = [(item, c) for item in answers for c in item.completions if c.finished]
        values = scorer.score(
            [item.prompt for item, _ in cells], [c.text for _, c in cells], batch_size=batch_size
        )
        true: dict[str, list[float]] = {}
        learned: dict[str, list[float]] = {}
        for (item, completion), value in zip(cells, values, strict=True):
            true.setdefault(item.id, []).append(gold(_text(item), completion.text))
            learned.setdefault(item.id, []).append(value)
        found = gold_agreement(true, learned, seed=seed)
        metrics["reward_accuracy"] = found.accuracy if found else None
        metrics |= {
            "reward_pairs": found.pairs if found else 0,
            "reward_ties": found.ties if found else 0,
        }
        headline.append("reward_accuracy")
    return metrics, tuple(headline)


def _gold(samples: Sequence[PromptSamples], gold: HiddenReward) -> Rewards:
    return {s.id: [gold(_text(s), c.text) for c in s.completions] for s in samples}


def _text(item: PromptSamples) -> str:
    return "\n\n".join(message["content"] for message in item.prompt)
