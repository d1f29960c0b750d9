"""The questions of MT-Bench: two turns each, some with reference answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.evaluation.store import DataRecord
from irl_align.llm.data.rows import read_rows
from irl_align.llm.data.schema import Message

__all__ = ["CATEGORIES", "NEEDS_REFERENCE", "SMALL", "TEMPERATURES", "Question", "load_questions"]

# Answer temperatures of the protocol; an unknown category is answered at the first one.
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "reasoning": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "extraction": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
CATEGORIES = tuple(TEMPERATURES)
NEEDS_REFERENCE = ("math", "reasoning", "coding")
SMALL = "small"
_SMALL_FILE = Path(__file__).parent / "small_questions.jsonl"


@dataclass(frozen=True)
class Question:
    """`turns`: what the user says; `reference`: a right answer to each turn, where there is one."""

    id: str
    category: str
    turns: tuple[str, str]
    reference: tuple[str, str] | None = None

    @property
    def temperature(self) -> float:
        return TEMPERATURES[self.category]

    def conversation(self, first_answer: str | None = None) -> tuple[Message, ...]:
        """What the player sees at turn 1, or (with its first answer) at turn 2."""
        first: Message = {"role": "user", "content": self.turns[0]}
        if first_answer is None:
            return (first,)
        return (
            first,
            {"role": "assistant", "content": first_answer},
            {"role": "user", "content": self.turns[1]},
        )


def load_questions(
    source: str,
    *,
    references: str | None = None,
    limit: int | None = None,
    without_reference: bool = False,
) -> tuple[list[Question], DataRecord]:
    """Questions of `source`: "small" (16 of our own), a file, or a hub name (org/name).

    A row has `question_id`, `category`, `turns` (two) and perhaps `reference` (two), in the hub's
    spelling `prompt_id` and `prompt`. `references` names a file of reference answers by
    `question_id`, as `reference` or in the public form `choices[0].turns`. Raises `UserError`
    naming the row for anything else, and for a question of mathematics, reasoning or code without
    a reference answer, unless `without_reference`.
    """
    path = str(_SMALL_FILE) if source == SMALL else source
    questions: list[Question] = []
    seen: dict[str, int] = {}
    for row in read_rows(path, limit=limit):
        question = _question(row.fields, f"{source}: row {row.number}")
        if question.id in seen:
            raise UserError(
                f"{source}: row {row.number}: question_id {question.id!r} stands in row "
                f"{seen[question.id]} already; give each question an id of its own"
            )
        seen[question.id] = row.number
        questions.append(question)
    if not questions:
        raise UserError(f"{source}: no questions")
    if references is not None:
        given = _references(references)
        questions = [replace(q, reference=given.get(q.id, q.reference)) for q in questions]
    lacking = [q for q in questions if q.category in NEEDS_REFERENCE and q.reference is None]
    if lacking and not without_reference:
        raise UserError(
            f"{source}: {len(lacking)} questions of {', '.join(NEEDS_REFERENCE)} have no reference "
            f"answers (question_id {', '.join(q.id for q in lacking[:5])}), and a judge errs "
            "without them. Add `reference` (one answer a turn), give a file of them by "
            "--references, or accept that with --without-reference"
        )
    return questions, DataRecord(source, sha256=_hash(questions), items=len(questions))


def _question(fields: dict[str, Any], where: str) -> Question:
    id = fields.get("question_id", fields.get("prompt_id"))
    if isinstance(id, bool) or not isinstance(id, int | str) or id == "":
        raise UserError(f"{where}: question_id is {id!r}; a number or text is needed")
    category = fields.get("category")
    if category not in TEMPERATURES:
        raise UserError(f"{where}: category is {category!r}; known are {', '.join(CATEGORIES)}")
    turns = _pair(fields.get("turns", fields.get("prompt")), "turns", where)
    if turns is None:
        raise UserError(f"{where}: `turns` is missing; the two things the user says are needed")
    return Question(str(id), category, turns, _pair(fields.get("reference"), "reference", where))


def _pair(value: object, key: str, where: str) -> tuple[str, str] | None:
    if value is None or value == []:
        return None
    texts = (
        [v for v in value if isinstance(v, str) and v.strip()] if isinstance(value, list) else []
    )
    if not isinstance(value, list) or len(texts) != 2 or len(value) != 2:
        raise UserError(f"{where}: {key} is {str(value)[:80]!r}; a list of two texts is needed")
    return texts[0], texts[1]


def _references(source: str) -> dict[str, tuple[str, str]]:
    found = {}
    for row in read_rows(source):
        where, fields = f"{source}: row {row.number}", row.fields
        value = fields.get("reference")
        if value is None:
            try:
                value = fields["choices"][0]["turns"]
            except (KeyError, IndexError, TypeError):
                raise UserError(f"{where}: neither `reference` nor `choices[0].turns`") from None
        pair = _pair(value, "reference", where)
        if pair is None or "question_id" not in fields:
            raise UserError(f"{where}: question_id and two reference answers are needed")
        found[str(fields["question_id"])] = pair
    return found


def _hash(questions: Sequence[Question]) -> str:
    text = json.dumps([asdict(q) for q in questions], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
