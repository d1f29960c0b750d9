from __future__ import annotations

import json
import sys

import pytest

from eval.bench import __main__ as bench
from eval.bench.control import turns
from eval.bench.control.curve import Point, rates, reached
from eval.bench.control.returns import compared, run
from irl_align.core.errors import UserError


def test_a_row_has_medians_and_ratios_of_both_clocks():
    found = {
        "ours": [{"cpu": 1.0, "wall": 2.0}, {"cpu": 9.0, "wall": 9.0}, {"cpu": 2.0, "wall": 4.0}],
        "peer": [{"cpu": 6.0, "wall": 8.0}],
    }
    row = turns.row(found, "s", gap=0.5)
    assert (row["ours"], row["peer"], row["ratio"]) == (2.0, 6.0, 3.0)
    assert row["ratio_wall"] == 2.0
    assert row["runs"] is found and row["unit"] == "s" and row["gap"] == 0.5


def test_both_take_turns():
    seen = []

    def side(name):
        def work(turn):
            seen.append((name, turn))
            return {"turn": turn}

        return work

    found = turns.in_turn(side("ours"), side("peer"), 2)
    assert seen == [("peer", 0), ("ours", 0), ("peer", 1), ("ours", 1)]
    assert found["ours"] == [{"turn": 0}, {"turn": 1}]


def test_the_last_line_is_the_answer():
    assert turns.last_json('a warning\n{"cpu": 1}\n') == {"cpu": 1}
    for output in ("", "done\n", "[1]\n"):
        with pytest.raises(ValueError):
            turns.last_json(output)


def test_a_missing_peer_names_the_mend(monkeypatch, tmp_path):
    monkeypatch.setattr(turns, "PEERS", tmp_path / "python")
    with pytest.raises(UserError, match="make peers"):
        turns.peer("sac_loop")


def test_a_failing_process_says_why(monkeypatch, tmp_path):
    failing = tmp_path / "python"
    last = "ModuleNotFoundError: No module named 'sbx'"
    failing.write_text(f'#!/bin/sh\necho "{last}" >&2\nexit 1\n')
    failing.chmod(0o755)
    monkeypatch.setattr(turns, "PEERS", failing)
    with pytest.raises(UserError, match=r"sac_loop failed: .*'sbx'; .*make peers"):
        turns.peer("sac_loop")


def test_a_level_is_reached_when_it_is_kept():
    returns = [-300.0, -150.0, -250.0, -190.0, -180.0]
    curve = [Point(100.0 * (i + 1), 2.0 * i, 3.0 * i, value) for i, value in enumerate(returns)]
    assert reached(curve, -200) == {"steps": 400.0, "cpu": 6.0, "wall": 9.0}
    assert reached(curve, -400) == {"steps": 100.0, "cpu": 0.0, "wall": 0.0}
    assert reached(curve, -100) is None
    assert rates(curve) == {"cpu": 20.0, "wall": 30.0}


def test_returns_are_compared_over_seeds():
    found = compared([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    assert (found["ours"], found["peer"]) == (2.0, 3.0)
    # Student's t with 2 degrees of freedom, 4.303 / sqrt(3).
    assert found["ours_interval"] == pytest.approx([2 - 2.484, 2 + 2.484], abs=1e-3)
    # Equal spread, so Welch's has 4 degrees: 2.776 sqrt(2 / 3).
    assert found["difference_interval"] == pytest.approx([-1 - 2.267, -1 + 2.267], abs=1e-3)


def test_what_returns_refuse():
    with pytest.raises(UserError, match="Pendulm"):
        run(["Pendulm"])
    with pytest.raises(UserError, match="2 or more"):
        run(["Pendulum"], seeds=1)


def test_a_benchmark_that_fails_costs_its_own_rows(monkeypatch, tmp_path, capsys):
    def fails():
        raise UserError("no peer; install it")

    row = {"ours": 1.0, "peer": 2.0, "ratio": 2.0, "unit": "s", "runs": {}}
    benches = {"first": fails, "second": lambda: {"second": row}, "sac_returns": fails}
    monkeypatch.setattr(bench, "OUT", tmp_path / "results.json")
    monkeypatch.setattr(bench, "_benches", lambda *_: benches)
    monkeypatch.setattr(sys, "argv", ["bench"])
    with pytest.raises(UserError, match="1 of 2 benchmarks did not run: first: no peer"):
        bench.main()
    assert json.loads((tmp_path / "results.json").read_text())["second"] == row
    assert "second" in capsys.readouterr().out
