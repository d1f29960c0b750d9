from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from irl_align.evaluation.bootstrap import bootstrap_mean
from irl_align.evaluation.comparison import Ended, fraction, mean_curve, report_comparison
from irl_align.evaluation.returns import Curve


def curve(steps, returns, seconds=1800.0) -> Curve:
    return Curve("any", list(steps), list(returns), 40, seconds)


RUNS = [
    # The best evaluation is not the last: no checkpoint is chosen by the true return.
    Ended("Hopper", "a", 0, curve([10, 20], [900.0, 100.0])),
    Ended("Hopper", "a", 1, curve([12, 22], [0.0, 300.0])),
    Ended("Hopper", "b", 0, curve([0, 0], [5.0, 50.0])),
    Ended("Hopper", "b", 1, None, "it fell"),
    Ended("x/Down-v0", "a", 0, curve([10], [-30.0])),
    Ended("x/Down-v0", "b", 0, None, "gone"),
]


def test_a_report_tells_of_every_run(tmp_path):
    table = report_comparison(tmp_path, RUNS, {"Hopper": 400.0, "x/Down-v0": -20.0})
    found = json.loads((tmp_path / "compare.json").read_text())["environments"]
    a, b = found["Hopper"]["methods"]["a"], found["Hopper"]["methods"]["b"]
    span = bootstrap_mean([100.0, 300.0])
    assert (a["mean"], a["low"], a["high"]) == (200.0, span.low, span.high)
    assert a["fraction"] == 0.5 and a["steps"] == 22 and a["hours"] == 1.0 and a["finished"] == 2
    assert b["mean"] == 50.0 and b["failed"] == [{"seed": 1, "error": "it fell"}]
    down = found["x/Down-v0"]["methods"]
    assert down["a"]["fraction"] is None  # -30 is not 150% of -20
    assert down["b"] == {"finished": 0, "failed": [{"seed": 0, "error": "gone"}]}
    with open(tmp_path / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["environment"], r["method"], r["seed"]) for r in rows] == [
        ("Hopper", "a", "0"),
        ("Hopper", "a", "1"),
        ("Hopper", "b", "0"),
        ("x/Down-v0", "a", "0"),
    ]
    assert rows[0]["return"] == "100.0" and rows[0]["fraction"] == "0.25"
    assert rows[3]["fraction"] == ""
    for picture in ("Hopper.png", "x-Down-v0.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert "Hopper: return of the expert 400.0" in table
    lines = {line.split()[0]: line for line in table.splitlines() if line.startswith("  ")}
    assert "50%" in table and "1 failed" in table and "every run failed" in lines["b"]
    assert not list(tmp_path.glob(".*"))  # written aside, and named when whole


def test_other_metrics_stand_beside_the_return(tmp_path):
    runs = [
        Ended("Hopper", "a_long_name_of_a_method", 0, RUNS[0].curve, beside={"eval/q": 1.0}),
        Ended("Hopper", "a_long_name_of_a_method", 1, RUNS[1].curve, beside={"eval/q": 2.0}),
        Ended("Hopper", "b", 0, RUNS[2].curve),
        Ended("Hopper", "c", 0, None, "gone"),
    ]
    table = report_comparison(tmp_path, runs, {"Hopper": None}).splitlines()
    assert table[1].split()[-1] == "eval/q"
    assert table[2].split()[-1] == "1.500" and table[3].split()[-1] == "-"
    assert len(table[1]) == len(table[2]) == len(table[3])
    with open(tmp_path / "compare.csv", newline="") as file:
        assert [row["eval/q"] for row in csv.DictReader(file)] == ["1.0", "2.0", ""]


def test_returns_may_be_told_as_scores(tmp_path):
    table = report_comparison(
        tmp_path, RUNS, {"Hopper": 400.0, "x/Down-v0": None}, {"Hopper": lambda x: (x - 100) / 3}
    )
    hopper, down = table.split("x/Down-v0: ")
    lines = hopper.splitlines()
    assert lines[1].split().count("over") == 2 and len(set(map(len, lines[1:3]))) == 1
    span = bootstrap_mean([100.0, 300.0])
    low, high = (span.low - 100) / 3, (span.high - 100) / 3
    assert f"33.3  [{low:.1f}, {high:.1f}]" in lines[2] and "score" not in down
    assert lines[3].split()[4:6] == ["-16.7", "-"]  # one seed
    with open(tmp_path / "compare.csv", newline="") as file:
        scores = [row["score"] for row in csv.DictReader(file)]
    assert scores == ["0.0", str(200 / 3), str(-50 / 3), ""]


def test_one_seed_has_no_interval(tmp_path):
    table = report_comparison(tmp_path, RUNS[2:3], {"Hopper": None})
    row = next(line for line in table.splitlines() if line.startswith("  b"))
    assert row.split() == ["b", "50.0", "-", "-", "0", "0.50", "1"]


@pytest.mark.parametrize(
    ("expert", "expected"), [(200.0, 0.5), (None, None), (0.0, None), (-5.0, None)]
)
def test_a_share_of_a_loss_is_none(expert, expected):
    assert fraction(100.0, expert) == expected


def test_runs_evaluated_at_other_steps_are_joined_by_lines():
    runs = [curve([0, 10, 20], [0.0, 10.0, 20.0]), curve([5, 15, 25], [100.0, 110.0, 130.0])]
    steps, middle, low, high = mean_curve(runs)
    np.testing.assert_array_equal(steps, [5, 10, 15, 20])  # where all are known
    np.testing.assert_allclose(middle, [52.5, 57.5, 62.5, 70.0])
    assert (low <= middle).all() and (middle <= high).all() and (low < high).all()
