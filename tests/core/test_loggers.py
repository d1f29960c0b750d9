from __future__ import annotations

import io
import json
import sys

import pytest

from irl_align.core import loggers
from irl_align.core.errors import UserError
from irl_align.core.loggers import ConsoleLogger, JsonlLogger, MultiLogger, TensorBoardLogger


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestJsonl:
    def test_rows(self, tmp_path):
        log = JsonlLogger(tmp_path / "deep" / "log.jsonl")
        log.log(0, {"reward/loss": 0.5})
        log.log(3, {"reward/loss": 0.4}, "step")
        found = rows(tmp_path / "deep" / "log.jsonl")
        assert [(r["kind"], r["step"], r["reward/loss"]) for r in found] == [
            ("round", 0, 0.5),
            ("step", 3, 0.4),
        ]

    @pytest.mark.parametrize(
        "torn", ['{"kind": "round", "st', '{"kind": "round", "step": 1}', "\x00"]
    )
    def test_a_torn_last_line_is_cut(self, tmp_path, torn):
        path = tmp_path / "log.jsonl"
        JsonlLogger(path).log(0, {"x": 1.0})
        with open(path, "a") as file:
            file.write(torn)
        JsonlLogger(path).log(1, {"x": 2.0})
        assert [(r["step"], r["x"]) for r in rows(path)] == [(0, 1.0), (1, 2.0)]

    def test_a_round_is_written_once(self, tmp_path):
        path = tmp_path / "log.jsonl"
        JsonlLogger(path).log(0, {"x": 1.0})
        again = JsonlLogger(path)
        again.log(0, {"x": 1.0})
        again.log(1, {"x": 1.0})
        again.log(1, {"x": 1.0})
        assert [r["step"] for r in rows(path)] == [0, 1]


class TestConsole:
    def test_a_plain_table(self):
        stream = io.StringIO()
        log = ConsoleLogger(stream=stream)
        log.log(0, {"reward/accuracy": 0.612345, "time/sample": 3.0})
        log.log(1, {"reward/accuracy": 1.0, "time/sample": 3.0})
        assert stream.getvalue().splitlines() == [
            "round  reward/accuracy",
            "    0           0.6123",
            "    1                1",
        ]

    def test_chosen_columns(self):
        stream = io.StringIO()
        log = ConsoleLogger(["a", "b"], stream=stream)
        log.log(0, {"a": float("nan"), "c": 2.0})
        assert stream.getvalue().splitlines()[1].split() == ["0", "nan", "-"]
        log.log(4, {"loss": float("inf")}, "reward step")
        assert stream.getvalue().splitlines()[2] == "reward step 4: loss inf"

    def test_progress_in_a_file_is_a_line_now_and_then(self, monkeypatch, capsys):
        now = [0.0]
        monkeypatch.setattr(loggers.time, "monotonic", lambda: now[0])
        with ConsoleLogger().progress("sampling", 40) as bar:
            for _ in range(40):
                now[0] += 1.0
                bar.advance()
        printed = capsys.readouterr()
        lines = printed.err.splitlines()
        assert printed.out == "" and len(lines) == 5
        assert lines[0] == "sampling: 10/40 (25%), 30 s left, 1/s, 10 s"
        assert lines[-1].startswith("sampling: 40/40 (100%)")

    def test_short_work_leaves_no_line(self, capsys):
        with ConsoleLogger().progress("sampling") as bar:
            bar.advance(3)
        assert capsys.readouterr().err == ""

    def test_progress_on_a_terminal_redraws(self, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with ConsoleLogger().progress("sampling", 4) as bar:
            bar.advance(4)
        text = terminal.getvalue()
        assert text.count("\n") == 1 and "\r" in text and "[####################]" in text


def test_tensorboard(tmp_path):
    log = TensorBoardLogger(tmp_path)
    log.log(0, {"reward/loss": 0.5})
    with log.progress("x") as bar:
        bar.advance()
    log.close()
    assert [p for p in tmp_path.iterdir() if "tfevents" in p.name]


def test_tensorboard_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        TensorBoardLogger(tmp_path)


def test_multi_logger(tmp_path, capsys):
    stream = io.StringIO()
    log = MultiLogger(ConsoleLogger(stream=stream), JsonlLogger(tmp_path / "log.jsonl"))
    log.log(0, {"x": 1.0})
    with log.progress("work", 2) as bar:
        bar.advance(2)
    assert "x" in stream.getvalue() and len(rows(tmp_path / "log.jsonl")) == 1
