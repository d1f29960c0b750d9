"""MT-Bench: questions, both turns, figures against hand counts, and kill -9 in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, chat

from irl_align.core.errors import UserError
from irl_align.evaluation.mt_bench import MtBenchOptions, load_questions, run_mt_bench
from irl_align.evaluation.mt_bench.questions import CATEGORIES, NEEDS_REFERENCE
from irl_align.evaluation.players import PlayerOptions
from irl_align.evaluation.store import load_evaluation

ROOT = Path(__file__).parents[2]


def as_player(body: dict[str, Any]) -> bool:
    return body["messages"][0]["role"] == "user"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def server(monkeypatch) -> Iterator[JudgeServer]:
    """Player and judge in one; the judge says 6 to first and 4 to second turns."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def answer(body, number):
        if as_player(body):
            return 200, chat(f"answer to: {body['messages'][-1]['content']}")
        score = 4 if "Question 2" in body["messages"][1]["content"] else 6
        return 200, chat(f"So so.\n[[{score}]]")

    found = JudgeServer(answer)
    yield found
    found.close()


def options(server: JudgeServer, out: Path, **changes: Any) -> MtBenchOptions:
    return MtBenchOptions(**({"model": server.url, "judge": server.url, "out": out} | changes))


def test_the_small_set_is_whole():
    questions, data = load_questions("small")
    assert data.items == 16
    for category in CATEGORIES:
        assert sum(q.category == category for q in questions) == 2
    assert all((q.reference is not None) == (q.category in NEEDS_REFERENCE) for q in questions)


def test_the_small_sets_references_are_right():
    reference = {q.id: q.reference for q in load_questions("small")[0]}
    queues = [
        q
        for q in permutations(("Ana", "Ben", "Carl", "Dora", "Emil"))
        if q.index("Ben") == q.index("Ana") + 1
        and q[4] == "Carl"
        and q.index("Dora") < q.index("Ana")
        and q.index("Carl") == q.index("Emil") + 1
    ]
    assert len(queues) == 1
    assert reference["5"][0].startswith(", ".join(queues[0]))
    later = [n for n in queues[0] if n not in ("Carl", "Dora")] + ["Dora"]
    assert reference["5"][1].startswith(later[1])

    socks = {"red": 3, "blue": 4, "green": 5}
    assert reference["6"][0].startswith(f"{len(socks) + 1} socks")
    assert f"{3 + 4 + 2} socks for two green" in reference["6"][0]
    assert reference["6"][1].startswith(f"{2 + 3 + 1} more")

    assert reference["7"][0].startswith(f"{180 / 2.25:.0f} km/h")
    assert reference["7"][1].startswith(f"{(180 + 100) / 3.25:.1f} km/h")
    roots = sorted((7 + sign * sqrt(49 - 40)) / 2 for sign in (1, -1))
    assert reference["8"][0].startswith(f"x = {roots[0]:.0f} and x = {roots[1]:.0f}")
    assert "12.25" in reference["8"][1] and "3.5" in reference["8"][1]
    assert 49 - 4 * 12.25 == 0 and 3.5**2 - 7 * 3.5 + 12.25 == 0

    code: dict[str, Any] = {}
    for id in ("9", "10"):
        for text in reference[id]:
            exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], code)
    assert code["count_vowels"]("AbEcIdOfUy, ae") == 7
    assert code["vowel_table"]("Banana Oo") == {"a": 3, "o": 2}
    assert code["merge"]([1, 3, 3], [0, 3, 9]) == [0, 1, 3, 3, 3, 9]
    assert code["merge"]([], [1]) == [1]
    assert code["merge_many"]([[5], [], [1, 8], [2, 2]]) == [1, 2, 2, 5, 8]


def test_figures_and_files(server, tmp_path):
    result, text = run_mt_bench(options(server, tmp_path))
    assert result.metrics["turn/1"].mean == 6.0
    assert result.metrics["turn/2"].mean == 4.0
    assert result.metrics["average"].as_dict() == {"mean": 5.0, "low": 5.0, "high": 5.0}
    assert result.metrics["category/math"].mean == 5.0
    assert (result.metrics["graded"], result.metrics["failed"]) == (32, 0)
    assert len(server.requests) == 32 + 32
    saved = load_evaluation(tmp_path / result.name)
    assert saved.metrics == result.metrics
    assert saved.judge["model"] == "judge"
    assert "16 questions of our own, not MT-Bench's 80" in saved.notes[0]
    assert (tmp_path / result.items).exists() and len(rows_of(tmp_path / result.items)) == 32
    assert next(tmp_path.glob("*.png")).read_bytes()[:4] == b"\x89PNG"
    assert "turn/1      6.000 [6.000, 6.000]" in text
    run_mt_bench(options(server, tmp_path))
    assert len(server.requests) == 64, "everything is there already"


def test_protocol_of_the_requests(server, tmp_path):
    """Temperatures by category, the first answer in the second turn, references where they go."""
    run_mt_bench(options(server, tmp_path, player=PlayerOptions(max_new_tokens=77)))
    questions = {q.turns[t]: (q, t) for q in load_questions("small")[0] for t in (0, 1)}
    wanted = dict.fromkeys(("writing", "roleplay"), 0.7) | dict.fromkeys(
        ("stem", "humanities"), 0.1
    )
    for body in server.requests:
        last = body["messages"][-1]["content"]
        if as_player(body):
            question, turn = questions[last]
            assert body["temperature"] == wanted.get(question.category, 0.0)
            assert body["max_tokens"] == 77
            assert len(body["messages"]) == (1, 3)[turn]
            if turn:
                assert body["messages"][1]["content"] == f"answer to: {question.turns[0]}"
        else:
            question = next(q for t, (q, turn) in questions.items() if not turn and t in last)
            needs = question.category in NEEDS_REFERENCE
            assert ("Reference answer" in last) == needs
            assert not needs or question.reference[0] in last
            assert (body["temperature"], body["max_tokens"]) == (0.0, 2048)


def test_failures_are_counted_and_left_out(server, tmp_path):
    """Scores: 2 and 10 to the first question, unreadable everywhere else."""
    first = load_questions("small")[0][0].turns[0]

    def answer(body, number):
        if as_player(body):
            return 200, chat("x", "length")
        text = body["messages"][1]["content"]
        if first not in text:
            return 200, chat("no idea")
        return 200, chat("[[10]]" if "Question 2" in text else "[[2]]")

    server.answer = answer
    result, text = run_mt_bench(options(server, tmp_path, limit=3))
    assert result.metrics["average"].mean == 6.0
    assert result.metrics["turn/2"].mean == 10.0
    assert result.metrics["category/roleplay"] is None
    assert (result.metrics["graded"], result.metrics["failed/none"]) == (2, 4)
    assert result.metrics["cut_off"] == 6
    scores = [row["score"] for row in rows_of(tmp_path / result.items)]
    assert scores == [2.0, 10.0, -1.0, -1.0, -1.0, -1.0]
    assert "failed      4 (none 4)" in text


def test_a_player_without_an_answer(server, tmp_path, monkeypatch):
    first = load_questions("small")[0][0].turns[0]
    usual = server.answer
    server.answer = lambda body, number: (
        (400, {"error": "maximum context length"})
        if as_player(body) and first in body["messages"][0]["content"]
        else usual(body, number)
    )
    result, _ = run_mt_bench(options(server, tmp_path, limit=2))
    assert (result.metrics["graded"], result.metrics["failed/answer"]) == (2, 2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": 2, "category": "art", "turns": ["a", "b"]}, "row 2: category is 'art'"),
        ({"question_id": 2, "category": "stem", "turns": ["a"]}, "row 2: turns is .*two texts"),
        ({"question_id": 2, "category": "stem", "turns": ["a", " "]}, "row 2: turns"),
        ({"question_id": 2, "category": "stem"}, "row 2: `turns` is missing"),
        ({"category": "stem", "turns": ["a", "b"]}, "row 2: question_id is None"),
        ({"question_id": 1, "category": "stem", "turns": ["a", "b"]}, "row 2: .*in row 1 already"),
        ({"question_id": 2, "category": "math", "turns": ["a", "b"]}, "--without-reference"),
        (
            {"question_id": 2, "category": "math", "turns": ["a", "b"], "reference": ["x"]},
            "row 2: reference is",
        ),
    ],
)
def test_bad_questions_are_named(tmp_path, row, message):
    good = {"question_id": 1, "category": "stem", "turns": ["a", "b"]}
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match=message):
        load_questions(str(path))


def test_public_forms_of_questions_and_references(tmp_path):
    path, answers = tmp_path / "q.jsonl", tmp_path / "r.jsonl"
    rows = [
        {"prompt_id": 81, "category": "writing", "prompt": ["a", "b"], "reference": []},
        {"question_id": 111, "category": "math", "turns": ["c", "d"]},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    answers.write_text(json.dumps({"question_id": 111, "choices": [{"turns": ["1", "2"]}]}) + "\n")
    questions, _ = load_questions(str(path), references=str(answers))
    assert [(q.id, q.reference) for q in questions] == [("81", None), ("111", ("1", "2"))]
    assert load_questions(str(path), without_reference=True)[0][1].reference is None


def test_the_judges_key_is_not_shown_to_the_player(server, tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-judge")
    monkeypatch.setenv("PLAYER_KEY", "sk-player")
    for player in (None, "PLAYER_KEY"):
        server.requests.clear()
        server.headers.clear()
        out = tmp_path / str(player)
        options_ = options(server, out, judge_key_env="JUDGE_KEY", limit=1)
        run_mt_bench(replace(options_, player=PlayerOptions(key_env=player)))
        sent = {
            (as_player(body), headers.get("Authorization"))
            for body, headers in zip(server.requests, server.headers, strict=True)
        }
        key = "Bearer sk-player" if player else None
        assert sent == {(True, key), (False, "Bearer sk-judge")}
        kept = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
        assert kept and not any(b"sk-" in content for content in kept)


def test_bad_input_before_anything_is_asked(server, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        run_mt_bench(options(server, tmp_path, model=str(tmp_path / "nothing")))
    with pytest.raises(UserError, match="--max-new-tokens is 0"):
        PlayerOptions(max_new_tokens=0)
    assert server.requests == []


def test_killed_and_started_again_asks_nothing_twice(server, tmp_path):
    """kill -9 amid the answers, then amid the judgements; the server counts."""
    usual = server.answer

    def slowly(body, number):
        time.sleep(0.02)
        return usual(body, number)

    server.answer = slowly
    command = [sys.executable, str(ROOT / "eval/mt_bench.py"), server.url, "--judge", server.url]
    command += ["--out", str(tmp_path), "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for wanted in (20, 45):
        run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(server.requests) < wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert wanted <= len(server.requests) < wanted + 15
    server.answer = usual
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "average     5.000" in done.stdout
    distinct = {json.dumps(body, sort_keys=True) for body in server.requests}
    assert len(distinct) == 64
    # A request that was under way when its program was killed has no answer to keep.
    assert len(server.requests) <= 64 + 2
