"""MT-Bench from questions to a result: answer, grade, summarise, save."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from irl_align.core.files import atomic_write_text
from irl_align.core.provenance import config_hash
from irl_align.evaluation.judges.chat import open_chat
from irl_align.evaluation.judges.grading import SingleGrader
from irl_align.evaluation.mt_bench.answers import Answers, collect_answers
from irl_align.evaluation.mt_bench.questions import NEEDS_REFERENCE, SMALL, Question, load_questions
from irl_align.evaluation.mt_bench.summary import (
    GradedTurn,
    plot_categories,
    render_table,
    summarise,
)
from irl_align.evaluation.players import PlayerOptions, open_player
from irl_align.evaluation.store import Evaluation, evaluation_folder, save_evaluation

__all__ = ["MtBenchOptions", "run_mt_bench"]


@dataclass(frozen=True)
class MtBenchOptions:
    """What `eval/mt_bench.py` was asked for; see its help."""

    model: str
    judge: str
    judge_model: str | None = None
    judge_key_env: str = "OPENAI_API_KEY"
    judge_max_tokens: int = 2048
    judge_timeout: float = 600.0
    questions: str = SMALL
    references: str | None = None
    without_reference: bool = False
    limit: int | None = None
    seed: int = 0
    out: Path | None = None
    workers: int = 8
    player: PlayerOptions = field(default_factory=PlayerOptions)


def run_mt_bench(options: MtBenchOptions) -> tuple[Evaluation, str]:
    """The saved result, and what to show. Everything that can be wrong is checked before a model
    is loaded; killed and started again it repeats no answer and no judgement."""
    questions, data = load_questions(
        options.questions,
        references=options.references,
        limit=options.limit,
        without_reference=options.without_reference,
    )
    is_folder = not options.model.startswith(("http://", "https://"))
    folder = evaluation_folder(Path(options.model) if is_folder else None, options.out)
    cache = folder / "requests"
    chat = open_chat(
        options.judge,
        options.judge_model,
        cache,
        name_flag="--judge-model",
        key_env=options.judge_key_env,
        timeout=options.judge_timeout,
        workers=options.workers,
    )
    grader = SingleGrader(chat, max_tokens=options.judge_max_tokens)
    player = open_player(options.model, options.player, cache)
    record = Evaluation(
        kind="mt_bench",
        model=player.model,
        data=data,
        settings=player.settings | {"without_reference": options.without_reference},
        seed=options.seed,
        judge=grader.record(),
    )
    try:
        answers = collect_answers(
            player, questions, folder / _answers_name(record), seed=options.seed
        )
    finally:
        player.close()
    graded = grade_answers(grader, questions, answers)
    metrics = summarise(graded, seed=options.seed)
    rows = "".join(json.dumps(g.as_row(), ensure_ascii=False) + "\n" for g in graded)
    atomic_write_text(folder / record.items_name, rows)
    plot = folder / f"{record.kind}-{record.key}.png"
    drawn = plot_categories(plot, Path(player.model.path).name, metrics)
    done = replace(
        record,
        metrics=metrics,
        headline=("average", "turn/1", "turn/2"),
        items=record.items_name,
        notes=_notes(options, questions, metrics),
    )
    path = save_evaluation(folder, done)
    lines = [
        f"MT-Bench of {player.model.path}, judged by {chat.model} ({len(questions)} questions)",
        "",
        render_table(metrics),
        *(f"note: {note}" for note in done.notes),
        f"judge: {chat.counts.asked} questions, {chat.counts.cached} of them from the cache",
        f"result: {path}",
        f"plot: {plot}" if drawn else "no plot: pip install matplotlib",
    ]
    return done, "\n".join(lines)


def grade_answers(
    grader: SingleGrader, questions: Sequence[Question], answers: Answers
) -> list[GradedTurn]:
    """Both turns of all questions, in order; a turn without an answer is not shown to the judge."""

    def one(job: tuple[Question, int]) -> GradedTurn:
        question, turn = job
        given = [answers[question.id, t] for t in range(1, turn + 1)]
        texts = [a.text for a in given if a.text is not None]
        if len(texts) < turn:
            return GradedTurn(question, turn, given[-1], None, "answer", None)
        shown = list(zip(question.turns, texts, strict=False))
        needs = question.category in NEEDS_REFERENCE
        grade = grader.grade(shown, question.reference if needs else None)
        return GradedTurn(question, turn, given[-1], grade.score, grade.failure, grade.text)

    jobs = [(q, turn) for q in questions for turn in (1, 2)]
    return grader.chat.map(one, jobs, "judging")


def _answers_name(record: Evaluation) -> str:
    """One file for all judges: what decides the answers has nothing to do with the judge."""
    decides = {
        "model": record.model.sha256 or record.model.path,
        "data": record.data.sha256,
        "settings": dict(record.settings),
        "seed": record.seed,
    }
    return f"mt_bench-{config_hash(decides)[:12]}.answers.jsonl"


def _notes(
    options: MtBenchOptions, questions: Sequence[Question], metrics: dict[str, Any]
) -> list[str]:
    notes = []
    if options.questions == SMALL:
        notes.append(
            f"{len(questions)} questions of our own, not MT-Bench's 80: no figure to publish"
        )
    elif len(questions) != 80:
        notes.append(f"{len(questions)} questions; MT-Bench has 80")
    if metrics["failed"]:
        notes.append(f"{metrics['failed']} turns have no score and are left out of the means")
    if options.without_reference:
        notes.append("some mathematics, reasoning or code was judged without a reference answer")
    notes.append(
        "the judge's prompts are this project's own: scores compare only among its results"
    )
    return notes
