"""Answers of two sides to the same prompts: read from files, or sampled from policies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_text
from irl_align.evaluation.players import Player
from irl_align.llm.data.conversation import BadRow
from irl_align.llm.data.demonstrations import parse_demonstration
from irl_align.llm.data.files import file_type
from irl_align.llm.data.rows import read_rows
from irl_align.llm.data.schema import Message

__all__ = [
    "SideAnswer",
    "is_answer_file",
    "load_answers",
    "match_answers",
    "prompt_key",
    "sample_answers",
]

Prompt = tuple[Message, ...]


@dataclass(frozen=True)
class SideAnswer:
    """One side's answer to one prompt. `text` is None where none could be had (a prompt that is
    too long, a server that was away); `row` is its line in the file, or None."""

    prompt: Prompt
    text: str | None
    finished: bool = True
    row: int | None = None


def is_answer_file(name: str) -> bool:
    """Whether a side of a comparison is a file of answers rather than a policy or a URL."""
    return Path(name).is_file() or (
        not name.startswith(("http://", "https://"))
        and not Path(name).is_dir()
        and file_type(Path(name)) is not None
    )


def load_answers(source: str) -> list[SideAnswer]:
    """Rows of prompt and response, in any shape of a demonstration, each prompt once.

    A column `finish_reason` = "length" marks an answer that was cut off. Raises `UserError`
    naming the row.
    """
    answers: list[SideAnswer] = []
    seen: dict[str, int] = {}
    for row in read_rows(source):
        try:
            record = parse_demonstration(row.fields, str(row.number)).record
        except BadRow as error:
            raise UserError(f"{source}: row {row.number}: {error}") from error
        first = seen.setdefault(prompt_key(record.prompt), row.number)
        if first != row.number:
            raise UserError(
                f"{source}: row {row.number}: the same prompt as row {first}; answers are matched "
                "by prompt, so each prompt may stand once"
            )
        finished = row.fields.get("finish_reason") != "length"
        answers.append(SideAnswer(record.prompt, record.response, finished, row.number))
    if not answers:
        raise UserError(f"{source}: no answers")
    return answers


def match_answers(
    a: Sequence[SideAnswer], b: Sequence[SideAnswer], names: tuple[str, str]
) -> list[tuple[SideAnswer, SideAnswer]]:
    """Pairs on the same prompt, in the order of `a`. Raises `UserError` that names the rows of
    prompts which one side lacks."""
    one, two = ({prompt_key(answer.prompt): answer for answer in side} for side in (a, b))
    for here, there, name, other in ((one, two, *names), (two, one, *names[::-1])):
        alone = [answer for key, answer in here.items() if key not in there]
        if alone:
            rows = ", ".join(str(answer.row) for answer in alone[:5])
            raise UserError(
                f"{name}: {len(alone)} of {len(here)} prompts have no answer in {other} "
                f"(first rows: {rows}); both sides must answer the same prompts, word for word"
            )
    return [(answer, two[key]) for key, answer in one.items()]


def sample_answers(
    player: Player,
    prompts: Sequence[Prompt],
    path: Path,
    *,
    temperature: float,
    seed: int,
    description: str,
) -> list[SideAnswer]:
    """One fresh answer a prompt; kept at `path`, from where a later call takes them.

    Answers missing for a passing reason are not kept as such: the file is left out, and a server's
    answers come from the cache of requests the next time.
    """
    if path.exists():
        return _read(path, prompts)
    found = player.answer(
        [list(p) for p in prompts], temperature=temperature, seed=seed, description=description
    )
    answers = [
        SideAnswer(p, f.text, f.finish_reason == "stop")
        for p, f in zip(prompts, found, strict=True)
    ]
    if not any(f.passing for f in found):
        rows = [
            {
                "prompt": [dict(m) for m in answer.prompt],
                "response": answer.text,
                "finish_reason": "stop" if answer.finished else "length",
            }
            for answer in answers
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        atomic_write_text(path, text)
    return answers


def _read(path: Path, prompts: Sequence[Prompt]) -> list[SideAnswer]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [
            SideAnswer(p, row["response"], row["finish_reason"] == "stop")
            for p, row in zip(prompts, rows, strict=True)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from error


def prompt_key(prompt: Prompt) -> str:
    """Equal for equal conversations, and for no others."""
    text = json.dumps([dict(m) for m in prompt], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
