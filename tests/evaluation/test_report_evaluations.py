"""Stored evaluations in the report, on the console and in the comparison of runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_run import make_run

from irl_align.cli.__main__ import dispatch
from irl_align.core.run import RunDirectory
from irl_align.evaluation.bootstrap import Interval
from irl_align.evaluation.report import collect_run, write_report
from irl_align.evaluation.report.evaluations import (
    evaluation_rows,
    evaluations_of,
    model_names,
)
from irl_align.evaluation.store import (
    DataRecord,
    Evaluation,
    evaluation_folder,
    identify_model,
    save_evaluation,
)

SOURCE = "data/<pairs>.jsonl"


def run_with_model(path: Path, weights: bytes = b"w") -> Path:
    """One round whose reward phase holds a model folder, as the LLM phases leave it."""
    run = RunDirectory(path).open({"rounds": 1, "seed": 0})
    with run:
        folder = run.begin_phase(0, "reward") / "model"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        run.commit_phase(0, "reward", {}, 1.0, 0)
        run.commit_round(0, {"eval/reward_accuracy": 0.7})
    return path


def result(run: Path, value: float, **changes) -> Evaluation:
    plain = Evaluation(
        kind="preferences",
        model=identify_model(run / "rounds" / "0000" / "reward" / "model"),
        data=DataRecord(SOURCE, "ab" * 32, items=400),
        settings={"scorer": "reward", "batch_size": 16, "limit": None},
        metrics={"accuracy": Interval(value, value - 0.05, value + 0.05)},
        headline=("accuracy",),
        notes=("2 items <lost> their start",),
    )
    return replace(plain, **changes)


def test_the_report_shows_results_of_the_runs_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_model(tmp_path / "run")
    save_evaluation(
        evaluation_folder(run / "rounds" / "0000" / "reward" / "model"), result(run, 0.612)
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    save_evaluation(elsewhere, result(run, 0.581, seed=1, date="2999-01-01"))
    save_evaluation(elsewhere, result(run_with_model(tmp_path / "other", b"x"), 0.9, seed=2))
    (elsewhere / "broken.json").write_text("{")

    view = collect_run(run)
    assert list(model_names(view).values()) == ["round 0 reward"]
    found, problems = evaluations_of(view, [elsewhere])
    assert [e.estimate("accuracy").mean for e in found] == [0.612, 0.581]
    assert len(problems) == 1
    assert [row.model for row in evaluation_rows(view, found)] == ["round 0 reward"] * 2

    page = write_report(run, [elsewhere]).read_text()
    assert "0.612 [0.562, 0.662]" in page
    assert "0.581" in page
    assert "0.900" not in page
    assert "round 0 reward" in page
    assert "&lt;pairs&gt;.jsonl (400 items)" in page
    assert "<lost>" not in page
    assert "broken.json" in page
    assert dispatch(["report", str(run), "--evaluations", str(elsewhere)]) == 0
    out = capsys.readouterr().out
    assert "preferences  round 0 reward  on <pairs>.jsonl (400 items): accuracy 0.612" in out
    assert dispatch(["runs", str(run)]) == 0
    assert "accuracy 0.612" in capsys.readouterr().out


def test_a_run_without_evaluations_has_no_such_section(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run", rounds=1)).read_text()
    assert 'id="evaluations"' not in page


def test_compare_puts_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (run_with_model(tmp_path / n, n.encode()) for n in ("one", "two"))
    make_run(tmp_path / "three", rounds=2)
    for run, value in ((first, 0.61), (second, 0.55)):
        folder = evaluation_folder(run / "rounds" / "0000" / "reward" / "model")
        save_evaluation(folder, result(run, value))
    # Another batch size is the same evaluation, measured later; another limit is not.
    settings = {"scorer": "reward", "batch_size": 1, "limit": None}
    later = result(second, 0.56, settings=settings, date="2999-01-01T00:00:00+0000")
    save_evaluation(second / "evaluations", later)
    save_evaluation(second / "evaluations", result(second, 0.99, settings=settings | {"limit": 3}))

    assert dispatch(["compare", "one", "two", "three", "--root", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    name = "preferences accuracy, <pairs>.jsonl (400 items)"
    assert found["one"][name]["mean"] == 0.61
    assert found["two"][name] == {
        "mean": 0.56,
        "low": pytest.approx(0.51),
        "high": pytest.approx(0.61),
        "of": "round 0 reward",
    }
    assert found["one"]["Reward accuracy"]["mean"] == 0.7
    assert found["three"]["KL from the reference"]["of"] == "round 1"
    assert name not in found["three"]
    assert len([key for key in found["two"] if key.startswith(name)]) == 2

    assert dispatch(["compare", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "0.610 [0.560, 0.660] (round 0 reward)" in out
    assert out.splitlines()[0].split() == ["one", "two"]
