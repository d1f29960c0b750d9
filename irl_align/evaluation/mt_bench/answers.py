"""The player's answers to both turns, kept in a file so that nothing is answered twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_text
from irl_align.core.seeding import derive_seed
from irl_align.evaluation.mt_bench.questions import Question
from irl_align.evaluation.players import Answer, Player

__all__ = ["Answers", "collect_answers"]

Answers = dict[tuple[str, int], Answer]  # by (question id, turn 1 or 2)


def collect_answers(
    player: Player, questions: Sequence[Question], path: Path, *, seed: int
) -> Answers:
    """Both turns of all questions; `path` is read first and rewritten after every batch.

    A batch holds the questions of one turn and temperature. A question whose first answer is
    missing gets no second one.
    """
    answers = _read(path)
    for turn in (1, 2):
        for temperature in sorted({q.temperature for q in questions}):
            group = [q for q in questions if q.temperature == temperature]
            missing = [q for q in group if (q.id, turn) not in answers]
            asked = [q for q in missing if turn == 1 or answers[q.id, 1].text is not None]
            for question in missing:
                answers[question.id, turn] = Answer(None, "error", "turn 1 has no answer", True)
            if asked:
                found = player.answer(
                    [q.conversation(answers[q.id, 1].text if turn == 2 else None) for q in asked],
                    temperature=temperature,
                    seed=derive_seed(seed, round=turn, phase=f"mt_bench/{temperature}"),
                    description=f"turn {turn}, temperature {temperature}",
                )
                answers |= {(q.id, turn): a for q, a in zip(asked, found, strict=True)}
                _write(path, questions, answers)
    return answers


def _write(
    path: Path, questions: Iterable[Question], answers: Mapping[tuple[str, int], Answer]
) -> None:
    rows = [
        {"question_id": q.id, "turn": turn, **asdict(answers[q.id, turn])}
        for q in questions
        for turn in (1, 2)
        if (q.id, turn) in answers
    ]
    atomic_write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _read(path: Path) -> Answers:
    """Answers of an earlier run; those that failed for a passing reason are asked again."""
    if not path.exists():
        return {}
    answers: Answers = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            key = (row.pop("question_id"), row.pop("turn"))
            answer = Answer(**row)
            if not answer.passing:
                answers[key] = answer
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from error
    return answers
