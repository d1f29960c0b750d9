"""`irl-align score REWARD_DIR FILE`: how often a reward model agrees with preference pairs."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irl_align.evaluation.bootstrap import Interval

# Pairs handed to the scorer at once, in batches: enough for its sorting by length to pay, few
# enough for the progress bar to move.
_BATCHES_PER_CALL = 16


@dataclass(frozen=True)
class ScoredPair:
    """One preference pair with the scores of both responses."""

    id: str
    prompt: str  # what tells prompts apart; pairs of one prompt are resampled together
    subset: str | None
    chosen_score: float
    rejected_score: float

    @property
    def margin(self) -> float:
        return self.chosen_score - self.rejected_score

    def as_row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "subset": self.subset,
            "chosen_score": self.chosen_score,
            "rejected_score": self.rejected_score,
            "margin": self.margin,
            "correct": self.margin > 0,
        }


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "score",
        help="accuracy of a reward model on a preference file",
        description="Scores both responses of every pair by the reward model's own template. "
        "A pair counts as correct only when chosen > rejected; ties are reported apart. "
        "Intervals: 95%% bootstrap over prompts.",
    )
    parser.add_argument("reward_dir", metavar="REWARD_DIR", help="a reward model's folder")
    parser.add_argument("file", metavar="FILE", help="preference pairs (see check-data)")
    parser.add_argument("--per-item", metavar="OUT", help="write scores of each pair as JSONL")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--split", help="split of a saved dataset or hub dataset")
    parser.add_argument("--limit", type=int, metavar="N", help="score the first N pairs only")
    parser.add_argument("--on-bad-rows", choices=("error", "drop"), default="error")
    parser.add_argument("--batch-size", type=int, default=32, help="responses per forward pass")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda if there is one)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 matmuls (faster, less exact)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from irl_align.core.errors import UserError
    from irl_align.llm.data.preferences import load_preferences

    if options.batch_size < 1:
        raise UserError(f"--batch-size is {options.batch_size}; it must be at least 1")
    # The file is read and the output folder checked first: loading a large model comes last.
    pairs, data = load_preferences(
        options.file, split=options.split, limit=options.limit, on_bad_rows=options.on_bad_rows
    )
    out = Path(options.per_item) if options.per_item else None
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--per-item {out}: there is no folder {out.parent}; create it first")

    # Libraries log on stdout while they are imported (DeepSpeed does): it belongs to the result.
    with contextlib.redirect_stdout(sys.stderr):
        from irl_align.llm.reward.scorer import RewardScorer

        scorer = RewardScorer.load(options.reward_dir, bf16=options.bf16, device=options.device)
        scored = score_pairs(scorer, pairs, batch_size=options.batch_size)
    broken = [pair for pair in scored if not math.isfinite(pair.margin)]
    if broken:
        raise UserError(
            f"{options.reward_dir} gives scores that are no finite numbers to {len(broken)} of "
            f"{len(scored)} pairs (first: id {broken[0].id}); its weights are damaged"
        )
    if out is not None:
        from irl_align.core.files import atomic_write_text

        rows = (json.dumps(pair.as_row(), ensure_ascii=False) for pair in scored)
        atomic_write_text(out, "".join(row + "\n" for row in rows))
    result = summarise(scored, seed=options.seed) | {
        "reward_dir": options.reward_dir,
        "file": options.file,
        "file_sha256": data.sha256,
        "dropped": data.dropped,
    }
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        print(_render(result))
        if out is not None:
            print(f"per item    {out}")
    return 0


def score_pairs(scorer: Any, pairs: Sequence[Any], *, batch_size: int = 32) -> list[ScoredPair]:
    """Scores of `Preference` pairs by anything with `.score(prompts, responses, batch_size=)`."""
    from irl_align.core.loggers import ConsoleLogger

    step = max(1, _BATCHES_PER_CALL * batch_size // 2)
    scored = []
    with ConsoleLogger().progress("scoring pairs", total=len(pairs)) as progress:
        for start in range(0, len(pairs), step):
            part = pairs[start : start + step]
            prompts = [list(pair.prompt) for pair in part for _ in range(2)]
            responses = [text for pair in part for text in (pair.chosen, pair.rejected)]
            values = scorer.score(prompts, responses, batch_size=batch_size)
            for index, pair in enumerate(part):
                scored.append(
                    ScoredPair(
                        id=pair.id,
                        prompt=json.dumps(pair.prompt),
                        subset=pair.subset,
                        chosen_score=float(values[2 * index]),
                        rejected_score=float(values[2 * index + 1]),
                    )
                )
            progress.advance(len(part))
    return scored


def summarise(scored: Sequence[ScoredPair], *, seed: int = 0) -> dict[str, Any]:
    """Strict accuracy with its interval, ties, mean margin; per subset when there are any."""
    result = _numbers(scored, seed)
    names = sorted({pair.subset for pair in scored if pair.subset is not None})
    if names:
        result["subsets"] = {
            name: _numbers([pair for pair in scored if pair.subset == name], seed) for name in names
        }
    return result


def _numbers(scored: Sequence[ScoredPair], seed: int) -> dict[str, Any]:
    ties = sum(pair.margin == 0 for pair in scored)
    accuracy = _by_prompt(((pair.prompt, float(pair.margin > 0)) for pair in scored), seed)
    margin = _by_prompt(((pair.prompt, pair.margin) for pair in scored), seed)
    return {
        "pairs": len(scored),
        "accuracy": accuracy.as_dict(),
        "ties": ties,
        "margin": margin.as_dict(),
    }


def _by_prompt(values: Iterable[tuple[str, float]], seed: int) -> Interval:
    from irl_align.evaluation.bootstrap import bootstrap_pooled

    groups: dict[str, list[float]] = {}
    for prompt, value in values:
        groups.setdefault(prompt, []).append(value)
    return bootstrap_pooled(list(groups.values()), seed=seed)


def _render(result: dict[str, Any]) -> str:
    def interval(value: dict[str, float]) -> str:
        return f"{value['mean']:.3f}  95% [{value['low']:.3f}, {value['high']:.3f}]"

    lines = [
        f"pairs       {result['pairs']}",
        f"accuracy    {interval(result['accuracy'])}",
        f"ties        {result['ties']} (counted as wrong)",
        f"margin      {interval(result['margin'])}",
    ]
    subsets = result.get("subsets", {})
    width = max((len(name) for name in subsets), default=0)
    for name, part in subsets.items():
        lines.append(f"  {name:<{width}}  {interval(part['accuracy'])}  ({part['pairs']} pairs)")
    if result["dropped"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in result["dropped"].items())
        lines.append(f"dropped     {reasons}")
    return "\n".join(lines)
