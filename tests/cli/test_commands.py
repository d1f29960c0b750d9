"""The commands as a user calls them: output, JSON, exit codes, clear errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from irl_align.cli.__main__ import dispatch, main
from irl_align.core.errors import UserError


def _exit(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_program_starts_without_heavy_imports() -> None:
    code = (
        "import sys, irl_align.cli.__main__ as m; m.build_parser();"
        "print([n for n in ('torch', 'transformers', 'vllm', 'datasets') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit("--help") == 0
    text = capsys.readouterr().out
    for command in ("doctor", "check-data", "show-config", "runs", "report", "score"):
        assert command in text
        assert _exit(command, "--help") == 0


def test_unknown_command_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit("dokter") == 2
    assert "dokter" in capsys.readouterr().err


# ------------------------------------------------------------------------------- runs, report


def test_runs_lists_status_and_last_metrics(
    runs_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["runs", "--root", str(runs_root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # header and two runs; `notes` is none
    finished = next(line for line in lines if line.startswith("finished"))
    killed = next(line for line in lines if line.startswith("killed"))
    assert "finished, 3 of 3 rounds done" in finished
    assert "0.654" in finished
    assert "interrupted in round 1, policy; 1 of 3 rounds done" in killed


def test_runs_json(runs_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["runs", "--root", str(runs_root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    states = {Path(run["run"]).name: run["status"] for run in found["runs"]}
    assert states["finished"]["state"] == "finished"
    assert (states["killed"]["round"], states["killed"]["phase"]) == (1, "policy")
    assert found["unreadable"] == {}


def test_one_run_by_name_and_by_folder(runs_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["runs", "killed", "--root", str(runs_root)]) == 0
    by_name = capsys.readouterr().out
    assert dispatch(["runs", str(runs_root / "killed")]) == 0
    assert capsys.readouterr().out == by_name
    assert "SFT" in by_name
    assert "round 0" in by_name
    assert "[" in by_name
    assert dispatch(["runs", str(runs_root / "killed"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["status"]["phase"] == "policy"
    assert "evaluate" in found["rounds"][0]["phases"]


def test_unknown_run_names_the_nearest(runs_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit("runs", "finishd", "--root", str(runs_root)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no run 'finishd'")
    assert "did you mean finished?" in error
    assert _exit("report", str(runs_root / "notes")) == 2
    assert "config.yaml" in capsys.readouterr().err


def test_no_runs_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["runs", "--root", str(tmp_path / "none")]) == 0
    assert "no runs" in capsys.readouterr().out


def test_a_damaged_run_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("broken", "good"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("rounds: 1\n")
    (tmp_path / "broken" / "run.json").write_text("{")
    assert dispatch(["runs", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "good" in out
    assert "broken: cannot be read" in out
    assert "run.json" in out


def test_report_writes_the_page(runs_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["report", "killed", "--root", str(runs_root)]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == runs_root / "killed" / "report.html"
    assert path.read_text().startswith("<!doctype html>")


def test_report_into_an_unwritable_folder_is_one_message(
    runs_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("irl_align.evaluation.report.page.atomic_write_text", full)
    assert _exit("report", "finished", "--root", str(runs_root)) == 2
    error = capsys.readouterr().err
    assert "report.html" in error
    assert "disk is full" in error
    assert "Traceback" not in error


# ------------------------------------------------------------------------------- show-config


def test_show_config_resolves_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("rounds: 3\nreward:\n  beta: 0.5\n")
    assert dispatch(["show-config", str(path), "rounds=4", "reward.learning_rate=1e-5"]) == 0
    text = capsys.readouterr().out
    assert "rounds: 4" in text
    assert "beta: 0.5" in text
    assert dispatch(["show-config", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rounds"] == 3
    assert found["reward"]["objective"] == "residual_logistic"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("ronds: 3\n", [], "rounds"),
        ("rounds: 3\n", ["reward.betta=1"], "beta"),
        ("rounds: three\n", [], "rounds"),
    ],
)
def test_show_config_refuses_typos(
    tmp_path: Path,
    text: str,
    overrides: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert _exit("show-config", str(path), *overrides) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


# ------------------------------------------------------------------------------- check-data


def test_check_data_reports_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demonstrations.jsonl"
    rows = [{"prompt": f"Question {i}", "completion": f"Answer {i}"} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert dispatch(["check-data", str(path)]) == 0
    assert "5 demonstrations" in capsys.readouterr().out
    assert dispatch(["check-data", str(path), "--json", "--limit", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["kept"]) == ("demonstrations", 2)


def test_check_data_refuses_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": ""}\n')
    assert _exit("check-data", str(path)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "bad.jsonl" in error
    assert "2" in error
    assert dispatch(["check-data", str(path), "--on-bad-rows", "drop"]) == 0
    assert "dropped" in capsys.readouterr().out


def test_check_data_max_length_needs_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--tokenizer"):
        dispatch(["check-data", str(tmp_path / "x.jsonl"), "--max-length", "10"])
