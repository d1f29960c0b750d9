"""Scores of both turns -> means with intervals, a table and a radar plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irl_align.core.files import atomic_open
from irl_align.evaluation.bootstrap import Interval, bootstrap_pooled
from irl_align.evaluation.judges.parsing import FAILED_SCORE
from irl_align.evaluation.mt_bench.questions import CATEGORIES, Question
from irl_align.evaluation.players import Answer

__all__ = ["GradedTurn", "plot_categories", "render_table", "summarise"]


@dataclass(frozen=True)
class GradedTurn:
    """One turn of one question. `score` in [1, 10], or None and why in `failure`: "answer" (the
    player gave none), or what the judge's text lacked (`judges.parsing.Parsed`)."""

    question: Question
    turn: int
    answer: Answer
    score: float | None
    failure: str | None
    judgement: str | None

    def as_row(self) -> dict[str, Any]:
        """For the per-item file; a failed score is -1, as in the protocol."""
        return {
            "question_id": self.question.id,
            "category": self.question.category,
            "turn": self.turn,
            "score": FAILED_SCORE if self.score is None else self.score,
            "failure": self.failure,
            "question": self.question.turns[self.turn - 1],
            "answer": self.answer.text,
            "finish_reason": self.answer.finish_reason,
            "error": self.answer.error,
            "reference": None
            if self.question.reference is None
            else self.question.reference[self.turn - 1],
            "judgement": self.judgement,
        }


def summarise(
    graded: Sequence[GradedTurn], *, seed: int = 0
) -> dict[str, Interval | float | int | None]:
    """Metrics: `average`, `turn/N`, `category/NAME`, `category/NAME/turn/N` (means of the scores
    from 1 to 10 that could be read), and counts `graded`, `failed`, `failed/REASON`, `cut_off`.

    A mean is over all graded turns alike; its interval resamples questions, since both turns of a
    question rise and fall together. None where nothing was graded.
    """
    metrics: dict[str, Interval | float | int | None] = {"average": _mean(graded, seed)}
    for turn in (1, 2):
        metrics[f"turn/{turn}"] = _mean([g for g in graded if g.turn == turn], seed)
    present = {g.question.category for g in graded}
    for category in (c for c in CATEGORIES if c in present):
        part = [g for g in graded if g.question.category == category]
        metrics[f"category/{category}"] = _mean(part, seed)
        for turn in (1, 2):
            metrics[f"category/{category}/turn/{turn}"] = _mean(
                [g for g in part if g.turn == turn], seed
            )
    reasons = Counter(g.failure for g in graded if g.failure is not None)
    metrics["graded"] = sum(g.score is not None for g in graded)
    metrics["failed"] = sum(reasons.values())
    metrics |= {f"failed/{reason}": count for reason, count in sorted(reasons.items())}
    metrics["cut_off"] = sum(g.answer.finish_reason == "length" for g in graded)
    return metrics


def _mean(graded: Sequence[GradedTurn], seed: int) -> Interval | None:
    scores: dict[str, list[float]] = {}
    for item in graded:
        if item.score is not None:
            scores.setdefault(item.question.id, []).append(item.score)
    return bootstrap_pooled(list(scores.values()), seed=seed) if scores else None


def render_table(metrics: Mapping[str, Any]) -> str:
    """Categories and turns, with 95% intervals."""
    names = [c for c in CATEGORIES if f"category/{c}" in metrics]
    lines = [f"{'':<12}{'turn 1':>8}{'turn 2':>8}   both [95% interval]"]
    for name in names:
        first, second = (metrics[f"category/{name}/turn/{turn}"] for turn in (1, 2))
        both = metrics[f"category/{name}"] or "-"
        lines.append(f"{name:<12}{_short(first):>8}{_short(second):>8}   {both}")
    lines.append("")
    lines += [f"{name:<12}{metrics[name] or '-'}" for name in ("turn/1", "turn/2", "average")]
    reasons = ", ".join(
        f"{key.partition('/')[2]} {value}" for key, value in metrics.items() if key[:7] == "failed/"
    )
    lines.append(f"{'graded':<12}{metrics['graded']}")
    lines.append(f"{'failed':<12}{metrics['failed']}" + (f" ({reasons})" if reasons else ""))
    lines.append(f"{'cut off':<12}{metrics['cut_off']} answers")
    return "\n".join(lines)


def _short(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.mean:.2f}"


def plot_categories(path: Path, title: str, metrics: Mapping[str, Any]) -> bool:
    """A radar plot (PNG) of the category means, one line a turn; False without matplotlib.

    A category without a graded turn is left out of its line.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    import numpy as np

    names = [c for c in CATEGORIES if f"category/{c}" in metrics]
    angles = np.linspace(0.0, 2.0 * np.pi, len(names), endpoint=False)
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot(projection="polar")
    for turn in (1, 2):
        means = [metrics[f"category/{name}/turn/{turn}"] for name in names]
        points = [(a, m.mean) for a, m in zip(angles, means, strict=True) if m is not None]
        if points:
            ring = [*points, points[0]]
            axes.plot([a for a, _ in ring], [m for _, m in ring], label=f"turn {turn}", marker=".")
            axes.fill([a for a, _ in ring], [m for _, m in ring], alpha=0.1)
    axes.set_xticks(angles, names)
    axes.set_ylim(0, 10)
    axes.set_title(title)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.1, -0.1))
    with atomic_open(path) as file:
        figure.savefig(file, format="png", dpi=150)
    return True
