"""Right answers by prompt, from a file of JSON lines: what a rule is held against.

    {"prompt": "What is 6 times 7?", "answer": "42"}
    {"question": "...", "answer": "She has 3 + 4 = 7.\\n#### 7"}          (GSM8K)
    {"system": "...", "messages": [{"role": "user", ...}, ...], "answer": "7"}

Of a worked solution that ends in `#### 7` the answer is what stands behind the mark.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.evaluation.rules import RuleReward

__all__ = ["load_answer_keys", "load_rule"]

_MARK = "####"


def load_rule(path: str, key: str) -> RuleReward:
    """The rule with the answers of the file `path`; UserError naming the setting `key`."""
    return RuleReward(load_answer_keys(path, key), source=path)


def load_answer_keys(path: str, key: str) -> dict[str, str]:
    """{prompt text: right answer}. UserError naming the row that is wrong, or the setting `key`
    when there is no such file; two rows that answer one prompt differently are wrong as well."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{key}: {path}: no such file; give JSON lines with prompt and answer")
    answers: dict[str, str] = {}
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{key}: {path} cannot be read: {error}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            prompt, answer = _row(line, f"{path}, row {number}")
            if answers.setdefault(prompt, answer) != answer:
                raise UserError(
                    f"{path}, row {number}: the prompt has another answer in an earlier row; keep "
                    "one of them"
                )
    if not answers:
        raise UserError(f"{key}: {path} holds no rows")
    return answers


def _row(line: str, where: str) -> tuple[str, str]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: no JSON ({error})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{where}: must be an object with prompt and answer")
    texts = _prompt(fields, where)
    system = fields.get("system")
    if isinstance(system, str) and system:
        texts.insert(0, system)
    answer = fields.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise UserError(f"{where}: 'answer' must be text or a number, not {answer!r}")
    return "\n\n".join(texts), str(answer).rpartition(_MARK)[2].strip()


def _prompt(fields: dict[str, Any], where: str) -> list[str]:
    """The contents of the prompt's messages: a response at the end of `messages` is left out."""
    for name in ("messages", "prompt", "question"):
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return [value]
        if isinstance(value, list) and value:
            try:
                kept = value[:-1] if value[-1]["role"] == "assistant" else value
                return [str(message["content"]) for message in kept]
            except (KeyError, TypeError) as error:
                raise UserError(
                    f"{where}: {name!r} must hold role and content ({error})"
                ) from error
    raise UserError(f"{where}: 'prompt', 'question' or 'messages' must name the prompt")
