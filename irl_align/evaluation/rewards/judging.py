"""Grades by a generative judge that is shown two responses and names the better one.

Judges favour a place: which response stands first is drawn from a seed and the item's id, so it
depends on neither order nor resumption, or both orders are asked. A tie is half a point. An answer
that cannot be read gives no grade: it is counted, and the item is left out.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from irl_align.evaluation.judges.pairwise import Comparer, Verdict
from irl_align.evaluation.rewards.grading import Grade
from irl_align.evaluation.rewards.items import Item
from irl_align.evaluation.rewards.scorers import Subject
from irl_align.evaluation.store import ModelRecord

__all__ = ["JudgeGrader", "judge_subject"]


class JudgeGrader:
    """The chosen response against each rejected one; an item earns the least of its comparisons.

    Args:
        seed: of the placement.
        both_orders: ask each comparison twice, with the places exchanged, and average; one
            unreadable answer makes the comparison unreadable.
        workers: questions at the same time; the judge is then called from several threads.
    """

    def __init__(
        self, judge: Comparer, *, seed: int = 0, both_orders: bool = False, workers: int = 1
    ) -> None:
        self.judge, self.seed, self.both_orders, self.workers = judge, seed, both_orders, workers

    def grade(self, items: Sequence[Item]) -> list[Grade]:
        """One grade an item, in the order given."""
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(self._grade, items))

    def _grade(self, item: Item) -> Grade:
        answers: list[Mapping[str, Any]] = []
        credits: list[float | None] = []
        for number, rejected in enumerate(item.responses[1:]):
            first = random.Random(f"{self.seed}/{item.id}/{number}").random() < 0.5
            places = (first, not first) if self.both_orders else (first,)
            earned = []
            for chosen_first in places:
                pair = (item.responses[0], rejected)
                a, b = pair if chosen_first else pair[::-1]
                verdict = self.judge.compare(item.prompt, a, b)
                answers.append({"chosen_is": "a" if chosen_first else "b", "verdict": verdict})
                earned.append(_credit(verdict, chosen_first))
            known = [credit for credit in earned if credit is not None]
            credits.append(sum(known) / len(known) if len(known) == len(earned) else None)
        readable = [credit for credit in credits if credit is not None]
        credit = min(readable) if len(readable) == len(credits) else None
        return Grade(
            id=item.id,
            subset=item.subset,
            prompt=item.prompt_key,
            credit=credit,
            tie=credit == 0.5,
            answers=tuple(answers),
        )


def judge_subject(
    judge: Comparer,
    record: Mapping[str, Any],
    *,
    seed: int = 0,
    both_orders: bool = False,
    workers: int = 1,
) -> Subject:
    """The judge itself put to the test, for `run_trial`.

    `record`: who judges, as results keep it ("model", "endpoint", ...; no keys); "model" names it.
    """
    return Subject(
        model=ModelRecord(str(record["model"])),
        load=lambda: JudgeGrader(judge, seed=seed, both_orders=both_orders, workers=workers),
        settings={"scorer": "judge", "placement_seed": seed, "both_orders": both_orders},
        judge=dict(record),
    )


def _credit(verdict: Verdict | None, chosen_first: bool) -> float | None:
    if verdict is None:
        return None
    if verdict == "tie":
        return 0.5
    return float((verdict == "a") == chosen_first)
