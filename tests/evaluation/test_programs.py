"""The thin programs in `eval/`: their options reach the library, their errors are one line."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from judge_server import JudgeServer, chat

EVAL = Path(__file__).parents[2] / "eval"


def call(monkeypatch, program: str, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EVAL / f"{program}.py"), run_name="__main__")
    return int(ended.value.code or 0)


@pytest.fixture
def answers(tmp_path) -> Path:
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": f"p{i}", "response": "x" * (i + 1)} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("program", ["mt_bench", "win_rate", "leaderboard", "rewardbench"])
def test_help(program, monkeypatch, capsys):
    assert call(monkeypatch, program, "--help") == 0
    assert f"eval/{program}.py" in capsys.readouterr().out


def test_win_rate(monkeypatch, capsys, tmp_path, answers):
    out = tmp_path / "out"
    options = ("--rule", "length", "--limit", 3, "--out", out)
    assert call(monkeypatch, "win_rate", answers, answers, *options) == 0
    text = capsys.readouterr().out
    assert "win rate of A           0.500 [0.500, 0.500]" in text
    assert "wins / ties / losses    0 / 3 / 0" in text
    (result,) = out.glob("win_rate-*.json")
    assert json.loads(result.read_text())["judge"] == {"rule": "length"}


def test_rewardbench_of_a_judge(monkeypatch, capsys, tmp_path):
    """It is right three times of four, whatever stands first, and then has no verdict."""
    chosen = ["good", "good", "good", "bad", "odd"]
    rejected = ["bad", "bad", "bad", "good", "other"]
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"p{i}", "chosen": c, "rejected": r}
        for i, (c, r) in enumerate(zip(chosen, rejected, strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answer(body, number):
        shown = body["messages"][-1]["content"]
        if "odd" in shown:
            return 200, chat("I would rather not say.")
        return 200, chat("[[A]]" if shown.index("good") < shown.index("bad") else "[[B]]")

    server = JudgeServer(answer)
    try:
        options = (
            "--judge",
            server.url,
            "--data",
            path,
            "--out",
            tmp_path / "out",
            "--both-orders",
        )
        assert call(monkeypatch, "rewardbench", *options) == 0
        assert len(server.requests) == 10
        text = capsys.readouterr().out
        assert "accuracy  0.750" in text and "1 answers of the judge were unreadable" in text
        (result,) = (tmp_path / "out").glob("preferences-*.json")
        found = json.loads(result.read_text())
        assert found["judge"]["model"] == "judge" and found["settings"]["both_orders"] is True
        assert call(monkeypatch, "rewardbench", *options) == 0
        assert len(server.requests) == 10  # nothing is asked twice
    finally:
        server.close()


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("rewardbench", ("--data", "x"), "give either MODEL or --judge URL"),
        ("rewardbench", ("MODEL", "--judge", "x"), "give either MODEL or --judge URL"),
        ("win_rate", ("a.jsonl", "a.jsonl"), "give one of --judge URL"),
        ("win_rate", ("a.jsonl", "b.jsonl", "--rule", "length"), "b.jsonl: no such file"),
        ("mt_bench", ("MODEL", "--judge", "nowhere"), "'nowhere' is no address of a server"),
        ("mt_bench", ("MODEL", "--judge", "x", "--questions", "q.jsonl"), "q.jsonl: no such file"),
        ("mt_bench", ("M", "--judge", "x", "--max-new-tokens", "0"), "--max-new-tokens is 0"),
        ("leaderboard", ("MODEL", "--tasks", "arc"), "--tasks: there is no 'arc'"),
        ("leaderboard", ("MODEL", "--data", "x"), "--data x: expected TASK.SPLIT=FILE"),
    ],
)
def test_mistakes_are_one_line(program, arguments, message, monkeypatch, capsys, answers):
    monkeypatch.chdir(answers.parent)
    assert call(monkeypatch, program, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert error.count("\n") == 1
