"""A win rate from two names to a result: gather answers, decide, summarise, save."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_text, sha256_file
from irl_align.core.provenance import config_hash
from irl_align.core.seeding import derive_seed
from irl_align.evaluation.judges.chat import open_chat
from irl_align.evaluation.judges.pairwise import PairwiseJudge
from irl_align.evaluation.players import Player, PlayerOptions, open_player
from irl_align.evaluation.store import (
    DataRecord,
    Evaluation,
    ModelRecord,
    evaluation_folder,
    save_evaluation,
)
from irl_align.evaluation.win_rate.answers import (
    SideAnswer,
    is_answer_file,
    load_answers,
    match_answers,
    prompt_key,
    sample_answers,
)
from irl_align.evaluation.win_rate.referees import (
    Game,
    JudgeReferee,
    Referee,
    RewardReferee,
    RuleReferee,
)
from irl_align.evaluation.win_rate.summary import BIAS_P_VALUE, summarise
from irl_align.llm.data.prompts import load_prompts
from irl_align.llm.data.schema import Message

__all__ = ["WinRateOptions", "run_win_rate"]


@dataclass(frozen=True)
class WinRateOptions:
    """What `eval/win_rate.py` was asked for; see its help. Exactly one of `judge`, `reward` and
    `rule` is set."""

    a: str
    b: str
    judge: str | None = None
    reward: str | None = None
    rule: str | None = None
    judge_model: str | None = None
    judge_key_env: str = "OPENAI_API_KEY"
    judge_max_tokens: int = 2048
    judge_timeout: float = 600.0
    workers: int = 8
    prompts: str | None = None
    limit: int | None = None
    temperature: float = 1.0
    seed: int = 0
    out: Path | None = None
    player: PlayerOptions = field(default_factory=PlayerOptions)


@dataclass(frozen=True)
class _Side:
    """One side before any model is loaded: the answers of its file, or who will give them."""

    name: str
    record: ModelRecord
    answers: list[SideAnswer] | None = None
    player: Player | None = None


def run_win_rate(options: WinRateOptions) -> tuple[Evaluation, str]:
    """The saved result, and what to show. Everything that can be wrong is checked before a model
    is loaded; killed and started again it repeats no finished answers and no judgement."""
    chosen = [n for n in ("judge", "reward", "rule") if getattr(options, n) is not None]
    if len(chosen) != 1:
        raise UserError("the referee: give one of --judge URL, --reward FOLDER and --rule NAME")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit is {options.limit}; it must be at least 1")
    if options.temperature < 0:
        raise UserError(f"--temperature is {options.temperature}; it must be 0 or more")
    is_policy = Path(options.a).is_dir()
    folder = evaluation_folder(Path(options.a) if is_policy else None, options.out)
    cache = folder / "requests"
    sides = [_side(name, options, cache) for name in (options.a, options.b)]
    prompts, data = _prompts(sides, options)
    referee = _referee(options, cache)
    a, b = sides
    settings: dict[str, Any] = {
        "answers": {
            letter: None if side.player is None else side.player.settings
            for letter, side in zip("ab", sides, strict=True)
        },
        "temperature": options.temperature,
    }
    record = Evaluation(
        kind="win_rate",
        model=a.record,
        others={"opponent": b.record, **referee.others()},
        data=data,
        settings=settings,
        seed=options.seed,
        judge=referee.judge(),
    )
    answers = [
        _answers(letter, side, prompts, folder, record, options)
        for letter, side in zip("ab", sides, strict=True)
    ]
    pairs = list(zip(answers[0], answers[1], strict=True))
    whole = [i for i, (x, y) in enumerate(pairs) if x.text is not None and y.text is not None]
    games = [Game(None, None)] * len(pairs)
    for i, game in zip(whole, referee.decide([pairs[i] for i in whole]), strict=True):
        games[i] = game
    differences = [len(one.text or "") - len(two.text or "") for one, two in pairs]
    metrics = summarise(games, differences, blind=referee.blind, seed=options.seed)
    metrics |= {f"failed/{reason}": n for reason, n in sorted(referee.failures().items())}
    metrics["unanswered"] = len(pairs) - len(whole)
    for letter, side in zip("ab", answers, strict=True):
        metrics[f"length/{letter}"] = sum(len(x.text or "") for x in side) / len(side)
    _write_items(folder / record.items_name, pairs, games)
    done = replace(
        record,
        metrics=metrics,
        headline=("win_rate", "win_rate/length_controlled"),
        items=record.items_name,
        notes=_notes(metrics),
    )
    path = save_evaluation(folder, done)
    return done, _render(options, done, path)


def _side(name: str, options: WinRateOptions, cache: Path) -> _Side:
    if is_answer_file(name):
        answers = load_answers(name)
        return _Side(name, ModelRecord(name, sha256_file(Path(name))), answers=answers)
    player = open_player(name, options.player, cache)
    return _Side(name, player.model, player=player)


def _prompts(
    sides: Sequence[_Side], options: WinRateOptions
) -> tuple[list[tuple[Message, ...]], DataRecord]:
    """The prompts both sides answer: those of the files, which must agree, or of --prompts."""
    files = [side for side in sides if side.answers is not None]
    if len(files) == 2:
        a, b = files
        assert a.answers is not None and b.answers is not None
        match_answers(a.answers, b.answers, (a.name, b.name))
    if files and options.prompts is not None:
        raise UserError(
            f"--prompts {options.prompts}: {files[0].name} is a file of answers and brings the "
            "prompts; leave --prompts out"
        )
    if files:
        assert files[0].answers is not None
        prompts = [answer.prompt for answer in files[0].answers][: options.limit]
        source = files[0].name
    elif options.prompts is None:
        raise UserError("two policies need --prompts FILE: what shall they answer?")
    else:
        loaded, _ = load_prompts(options.prompts, limit=options.limit)
        prompts, source = [p.messages for p in loaded], options.prompts
    text = json.dumps([[dict(m) for m in p] for p in prompts], ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return prompts, DataRecord(source, sha256=digest, items=len(prompts))


def _referee(options: WinRateOptions, cache: Path) -> Referee:
    if options.reward is not None:
        return RewardReferee(options.reward)
    if options.rule is not None:
        return RuleReferee(options.rule)
    assert options.judge is not None
    chat = open_chat(
        options.judge,
        options.judge_model,
        cache,
        name_flag="--judge-model",
        key_env=options.judge_key_env,
        timeout=options.judge_timeout,
        workers=options.workers,
    )
    return JudgeReferee(PairwiseJudge(chat, max_tokens=options.judge_max_tokens))


def _answers(
    letter: str,
    side: _Side,
    prompts: Sequence[tuple[Message, ...]],
    folder: Path,
    record: Evaluation,
    options: WinRateOptions,
) -> list[SideAnswer]:
    """One side's answers in the order of the prompts. Both sides draw with seeds of their own, so a
    policy that meets itself does not give every answer twice."""
    if side.answers is not None:
        by_prompt = {prompt_key(answer.prompt): answer for answer in side.answers}
        return [by_prompt[prompt_key(prompt)] for prompt in prompts]
    assert side.player is not None
    decides = {
        "letter": letter,
        "model": side.record.sha256 or side.record.path,
        "data": record.data.sha256,
        "settings": [side.player.settings, options.temperature],
        "seed": options.seed,
    }
    try:
        return sample_answers(
            side.player,
            prompts,
            folder / f"win_rate-{config_hash(decides)[:12]}.answers.jsonl",
            temperature=options.temperature,
            seed=derive_seed(options.seed, round=0, phase=f"win_rate/{letter}"),
            description=f"answers of {letter.upper()}",
        )
    finally:
        side.player.close()


def _write_items(
    path: Path, pairs: Sequence[tuple[SideAnswer, SideAnswer]], games: Sequence[Game]
) -> None:
    rows = []
    for (a, b), game in zip(pairs, games, strict=True):
        row: dict[str, Any] = {
            "prompt": [dict(m) for m in a.prompt],
            "a": a.text,
            "b": b.text,
            "a_first": game.a_first,
            "b_first": game.b_first,
            "outcome": game.outcome,
            "length_a": len(a.text or ""),
            "length_b": len(b.text or ""),
        }
        if game.scores is not None:
            row |= {"score_a": game.scores[0], "score_b": game.scores[1]}
        rows.append(json.dumps(row, ensure_ascii=False) + "\n")
    atomic_write_text(path, "".join(rows))


def _notes(metrics: dict[str, Any]) -> list[str]:
    notes = []
    if metrics["excluded"]:
        notes.append(
            f"{metrics['excluded']} prompts have no outcome (no answer, or no clear verdict in one "
            "of the orders) and are left out"
        )
    p_value = metrics.get("position_bias/p_value")
    if p_value is not None and p_value < BIAS_P_VALUE:
        bias = metrics["position_bias"].mean
        notes.append(
            f"WARNING: the judge prefers the answer shown {'first' if bias > 0 else 'second'} "
            f"(bias {bias:+.2f}, p = {p_value:.2g}). Both orders are averaged, so the win rate is "
            "not shifted by it, but pulled towards 0.5; use a better judge"
        )
    return notes


def _render(options: WinRateOptions, done: Evaluation, path: Path) -> str:
    m = done.metrics
    lines = [
        f"A = {options.a}",
        f"B = {options.b}",
        f"{'win rate of A':<24}{m['win_rate'] or '-'}",
        f"{'length-controlled':<24}{m['win_rate/length_controlled'] or '-'}",
        f"{'wins / ties / losses':<24}{m['wins']} / {m['ties']} / {m['losses']}",
        f"{'excluded':<24}{m['excluded']} of {done.data.items}",
        f"{'characters, A and B':<24}{m['length/a']:.0f} and {m['length/b']:.0f}",
    ]
    if "swap_agreement" in m:
        lines += [
            f"{'swap agreement':<24}{m['swap_agreement']}",
            f"{'position bias':<24}{m['position_bias']}, p = {m['position_bias/p_value']:.2g}",
        ]
    lines += [
        f"{key.replace('failed/', 'no verdict: '):<24}{m[key]}" for key in m if "failed/" in key
    ]
    lines += [f"note: {note}" for note in done.notes]
    return "\n".join([*lines, f"result: {path}"])
