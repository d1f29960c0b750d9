"""From scores to grades: was the chosen response strictly the best?

A grader takes items and gives one grade each; `ScoreGrader` asks anything with a `score` (reward
model, log-likelihood, implicit reward), `judging.JudgeGrader` a generative judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from irl_align.core.errors import UserError
from irl_align.evaluation.evaluators import Scorer
from irl_align.evaluation.rewards.items import Item

__all__ = ["Grade", "Grader", "ScoreGrader"]


@dataclass(frozen=True)
class Grade:
    """What one item earned.

    Attributes:
        credit: 1 right, 0 wrong; .5 where a generative judge saw a tie; None where it gave no
            answer that could be read, and then the item does not count.
        prompt: what tells prompts apart (`Item.prompt_key`).
        tie: the best rejected response was as good as the chosen one.
        scores: of all responses, the chosen one first; empty for a judge.
        answers: what a judge said, one entry a question.
        too_long: the model reads fewer tokens, so the start of the conversation was lost.
    """

    id: str
    subset: str | None
    prompt: str
    credit: float | None
    tie: bool = False
    scores: tuple[float, ...] = ()
    answers: tuple[Mapping[str, Any], ...] = ()
    too_long: bool = False

    @property
    def margin(self) -> float | None:
        """Chosen minus the best rejected; None without scores."""
        return self.scores[0] - max(self.scores[1:]) if self.scores else None

    def as_row(self) -> dict[str, Any]:
        """A row of the per-item file; `rejected_score` is the best rejected response's."""
        row: dict[str, Any] = {"id": self.id, "subset": self.subset, "prompt": self.prompt}
        if self.scores:
            row["chosen_score"], row["rejected_score"] = self.scores[0], max(self.scores[1:])
            row["margin"] = self.margin
            if len(self.scores) > 2:
                row["scores"] = list(self.scores)
        row |= {"correct": self.credit == 1.0, "credit": self.credit, "tie": self.tie}
        if self.answers:
            row["answers"] = [dict(answer) for answer in self.answers]
        if self.too_long:
            row["too_long"] = True
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Grade:
        """The grade of a row written by `as_row`; KeyError when it is none."""
        scores = row.get("scores")
        if scores is None and "chosen_score" in row:
            scores = [row["chosen_score"], row["rejected_score"]]
        return cls(
            id=row["id"],
            subset=row["subset"],
            prompt=row["prompt"],
            credit=row["credit"],
            tie=row["tie"],
            scores=tuple(scores or ()),
            answers=tuple(row.get("answers", ())),
            too_long=row.get("too_long", False),
        )


class Grader(Protocol):
    def grade(self, items: Sequence[Item]) -> list[Grade]:
        """One grade an item, in the order given."""
        ...


class ScoreGrader:
    """Grades by scores: right only when the chosen response scores above all rejected ones.

    `batch_size`: responses per forward pass. The scorer batches texts of like length.
    """

    def __init__(self, scorer: Scorer, *, batch_size: int = 16) -> None:
        self.scorer, self.batch_size = scorer, batch_size

    def grade(self, items: Sequence[Item]) -> list[Grade]:
        """Raises UserError when a score is no finite number."""
        prompts = [list(item.prompt) for item in items for _ in item.responses]
        responses = [text for item in items for text in item.responses]
        values = iter(self.scorer.score(prompts, responses, batch_size=self.batch_size))
        grades = []
        for item in items:
            scores = tuple(float(next(values)) for _ in item.responses)
            if not all(map(math.isfinite, scores)):
                raise UserError(
                    f"item {item.id} gets scores that are no finite numbers; the model's weights "
                    "are damaged, or its precision is too low for it (try --dtype float32)"
                )
            best = max(scores[1:])
            grades.append(
                Grade(
                    id=item.id,
                    subset=item.subset,
                    prompt=item.prompt_key,
                    credit=float(scores[0] > best),
                    tie=scores[0] == best,
                    scores=scores,
                    too_long=self._too_long(item),
                )
            )
        return grades

    def _too_long(self, item: Item) -> bool:
        asks = getattr(self.scorer, "too_long", None)
        return asks is not None and any(asks(item.prompt, text) for text in item.responses)
