"""Answers of every model to the same held-out prompts, side by side.

Always the first completion that was drawn, never a chosen one: a report that picked its samples
would show the reader the author's taste. The other draws fold out below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from irl_align.evaluation.report.collect import RunView, Stage, completions_of
from irl_align.evaluation.report.svg import number

_MOST_PROMPTS = 12
_MOST_ROUNDS = 4
_OPEN = 3
_SUMMARY = 110


def samples_html(view: RunView) -> str:
    """One folding block a prompt with a card for base, SFT and (at most four) rounds."""
    stages = [stage for stage in view.stages if stage.completions]
    if not stages:
        return ""
    shown, hidden_rounds = _columns(stages)
    prompts = _prompts(shown, _wanted(view.config))
    total = len(shown[-1].completions)
    note = (
        f"{len(prompts)} of {total} held-out prompts, evenly spaced; the first answer that each "
        "model drew, not a chosen one."
    )
    if hidden_rounds:
        note += f" {hidden_rounds} rounds in between are left out."
    blocks = [
        _prompt_block(identity, shown, opened=index < _OPEN)
        for index, identity in enumerate(prompts)
    ]
    return f'<p class="lead">{escape(note)}</p>' + "".join(blocks)


def _columns(stages: Sequence[Stage]) -> tuple[list[Stage], int]:
    before = [stage for stage in stages if stage.round is None]
    rounds = [stage for stage in stages if stage.round is not None]
    if len(rounds) <= _MOST_ROUNDS:
        return before + rounds, 0
    step = (len(rounds) - 1) / (_MOST_ROUNDS - 1)
    kept = [rounds[round(index * step)] for index in range(_MOST_ROUNDS)]
    return before + kept, len(rounds) - len(kept)


def _wanted(config: Mapping[str, Any]) -> int:
    evaluation = config.get("evaluation")
    wanted = evaluation.get("show") if isinstance(evaluation, Mapping) else None
    return wanted if isinstance(wanted, int) and wanted > 0 else _MOST_PROMPTS


def _prompts(stages: Sequence[Stage], most: int) -> list[str]:
    """Prompts that all columns share, in the file's order; those of the last one if none is."""
    last = list(stages[-1].completions)
    shared = [i for i in last if all(i in stage.completions for stage in stages)] or last
    if len(shared) <= most:
        return shared
    step = len(shared) / most
    return [shared[int(index * step)] for index in range(most)]


def _prompt_block(identity: str, stages: Sequence[Stage], *, opened: bool) -> str:
    rows = [(stage, stage.completions.get(identity)) for stage in stages]
    messages = next((_messages(row) for _, row in rows if row), [])
    last = messages[-1][1] if messages else identity
    brief = " ".join(last.split())
    if len(brief) > _SUMMARY:
        brief = brief[: _SUMMARY - 1] + "\u2026"
    whole = ""
    if len(messages) > 1 or " ".join(last.split()) != brief or "\n" in last.strip():
        whole = "".join(
            f'<div class="turn"><b>{escape(role)}</b>{escape(text)}</div>'
            for role, text in messages
        )
    answers = "".join(_answer(stage, row) for stage, row in rows)
    return (
        f'<details class="card"{" open" if opened else ""}><summary>{escape(brief)}'
        f"<small>{escape(identity)}</small></summary>"
        f'<div class="inside">{whole}<div class="answers">{answers}</div></div></details>'
    )


def _answer(stage: Stage, row: Mapping[str, Any] | None) -> str:
    style = stage.name if stage.name in ("base", "sft") else ""
    items = completions_of(row) if row else []
    if not items:
        return (
            f'<div class="answer {style}"><div class="head"><b>{escape(stage.title)}</b></div>'
            '<p class="empty">no answer recorded</p></div>'
        )
    first, others = items[0], items[1:]
    rest = ""
    if others:
        folded = "".join(
            f'<div class="head">{_chips(item)}</div><div class="text">{_text(item)}</div>'
            for item in others
        )
        rest = f'<details class="rest"><summary>{len(others)} more</summary>{folded}</details>'
    return (
        f'<div class="answer {style}"><div class="head"><b>{escape(stage.title)}</b>'
        f'{_chips(first)}</div><div class="text">{_text(first)}</div>{rest}</div>'
    )


def _chips(item: Mapping[str, Any]) -> str:
    chips = []
    for key, name in (("hidden_reward", "hidden"), ("reward", "model")):
        value = item.get(key)
        if isinstance(value, int | float):
            chips.append(f'<span class="chip">{name} {escape(number(value))}</span>')
    if item.get("finish_reason") == "length":
        chips.append('<span class="chip cut" title="stopped by the token limit">cut off</span>')
    return "".join(chips)


def _text(item: Mapping[str, Any]) -> str:
    text = item.get("text")
    return escape(text) if isinstance(text, str) and text.strip() else "<i>(empty)</i>"


def _messages(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    prompt = row.get("prompt")
    if isinstance(prompt, str):
        return [("prompt", prompt)]
    if not isinstance(prompt, list):
        return []
    return [
        (str(message.get("role", "")), str(message.get("content", "")))
        for message in prompt
        if isinstance(message, Mapping)
    ]
