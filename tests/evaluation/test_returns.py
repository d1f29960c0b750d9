from __future__ import annotations

import json

import pytest

from irl_align.core.errors import UserError
from irl_align.core.run import RunDirectory
from irl_align.evaluation.returns import Curve, last_return, report_returns


def history(ends):
    rows = []
    for number, end in enumerate(ends):
        row = {
            "steps/environment": 200.0 * (number + 1),
            "steps/evaluation": 1000.0 * (number // 2),
            "time/policy": 0.5,
            "time/evaluate": 0.25,
            "policy/alpha": 9.0,
        }
        rows.append(row | ({"eval/return": end} if end is not None else {}))
    return rows


def test_a_curve_holds_the_evaluated_rounds_and_all_of_the_time():
    curve = Curve.of("seed-3", history([None, -5.0, None, -2.0, None]))
    assert curve == Curve("seed-3", [400, 800], [-5.0, -2.0], 2000, 3.75)
    with pytest.raises(UserError, match="no round was evaluated"):
        Curve.of("seed-3", history([None]))


def test_the_report_has_the_median_of_the_last_returns(tmp_path):
    ends = (-150.0, -131.0, -900.0)
    curves = [Curve.of(f"seed-{n}", history([-1000.0, end])) for n, end in enumerate(ends)]
    text = report_returns(tmp_path / "out", "Pendulum", curves, expert=-130.0)
    rows = [line.split() for line in text.splitlines()]
    assert ["median", "-150.0"] in rows
    assert ["expert", "-130.0", "from", "the", "same", "starts"] in rows
    found = json.loads((tmp_path / "out" / "returns.json").read_text())
    assert found["median"] == -150.0 and len(found["runs"]) == 3
    assert (tmp_path / "out" / "returns.png").read_bytes().startswith(b"\x89PNG")


def test_the_expert_s_return_is_read_from_its_run(tmp_path):
    with RunDirectory(tmp_path / "run").open({}) as run:
        for number, row in enumerate(history([-9.0, -3.0, None])):
            run.append_metrics(number, row)
            run.commit_round(number, row)
    assert last_return(tmp_path / "run") == -3.0
    with pytest.raises(UserError, match="no such run"):
        last_return(tmp_path / "nowhere")
