"""The comparison as a program: parallel runs, one that fails, a kill, and a second start."""

from __future__ import annotations

import csv
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = str(ROOT / "recipes/control_compare.py")
YAML = """
run_dir: runs
seeds: 1
environment_steps: 48
save_every: 1
demonstrations: {path: "{environment}.npz"}
environment: {max_episode_steps: 12}
sac: {hidden: [8], batch_size: 6, update_every: 2, compile: never}
evaluation: {every: 1, episodes: 1}
environments: {Pendulum: {}}
columns: [eval/length, eval/lenght]
methods:
  bc: {epochs: 4, epochs_per_round: 2}
  sqil: {}
"""


@pytest.fixture
def home(tmp_path) -> Path:
    from irl_align.control.experts import record_demonstrations

    def act(seen):
        return np.zeros(1, np.float32)

    path = tmp_path / "Pendulum.npz"
    record_demonstrations(act, "Pendulum", 2, seed=1, path=path, max_episode_steps=12)
    (tmp_path / "compare.yaml").write_text(YAML)
    return tmp_path


@pytest.fixture
def compare(monkeypatch, capsys, home):
    """The program in this process, its runs in others: (exit code, stdout, stderr)."""
    monkeypatch.chdir(home)

    def start(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", [PROGRAM, "compare.yaml", *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(PROGRAM, run_name="__main__")
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return start


def marks(home: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in home.rglob("finished.json")}


def numbers(folder: Path) -> dict[str, list[float]]:
    found = json.loads((folder / "compare.json").read_text())
    return {run["method"]: run["curve"]["returns"] for run in found["runs"]}


def test_a_cell_that_fails_and_a_second_start(compare, home):
    """SQIL's folder holds rounds without a configuration: that run fails, cloning goes on."""
    rounds = home / "runs/Pendulum/sqil/seed-0/rounds"
    rounds.mkdir(parents=True)
    code, out, err = compare("--jobs", "2")
    assert code == 1, err
    assert "failed: Pendulum sqil seed-0" in err and "no config.yaml" in err
    assert "every run failed" in out
    with open(home / "runs/compare.csv", newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["bc"]
    rounds.rmdir()
    before = marks(home)
    code, out, err = compare("--jobs", "1")
    assert code == 0, err
    assert "2 runs, 1 of them finished before" in out
    assert before.items() < marks(home).items()  # cloning was not repeated
    assert set(numbers(home / "runs")) == {"bc", "sqil"}
    assert "no run has the metric eval/lenght" in out and "metric eval/length" not in out
    assert (home / "runs/Pendulum.png").is_file()
    with open(home / "runs/compare.csv", newline="") as file:
        assert [row["eval/length"] for row in csv.DictReader(file)] == ["12.0", "12.0"]


def test_scores_of_finished_runs_may_be_asked_for_later(compare, home):
    code, out, err = compare("--methods", "bc")
    assert code == 0 and "score" not in out, err
    before = marks(home)
    code, _, err = compare("--methods", "bc", "scores=none.json")
    assert code == 2 and "scores=none.json: no such file" in err
    (home / "table.json").write_text('{"Pendulum-v1": {"random": -200.0, "expert": 0.0}}')
    code, out, err = compare("--methods", "bc", "scores=table.json")
    assert code == 0 and "1 runs, 1 of them finished before" in out, err
    assert marks(home) == before
    (returned,) = numbers(home / "runs").values()
    with open(home / "runs/compare.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["score"]) == pytest.approx(100 + returned[-1] / 2)
    assert f"{100 + returned[-1] / 2:.1f}" in out


def test_killed_and_started_again_it_ends_as_an_unbroken_one(compare, home):
    code, _, err = compare("run_dir=whole", "--methods", "sqil")
    assert code == 0, err
    command = [sys.executable, PROGRAM, "compare.yaml", "--methods", "sqil"]
    program = subprocess.Popen(command, cwd=home, env={**os.environ, "PYTHONPATH": str(ROOT)})
    first = home / "runs/Pendulum/sqil/seed-0/rounds/0000/DONE"
    while not first.exists():
        assert program.poll() is None
        time.sleep(0.002)
    program.send_signal(signal.SIGKILL)
    program.wait()
    code, _, err = compare("--methods", "sqil")
    assert code == 0, err
    assert numbers(home / "runs") == numbers(home / "whole")


def test_mistakes_are_told_before_anything_runs(compare, home):
    for arguments, told in (
        (["methods.sqil.episode=1"], "methods.sqil: unknown key episode"),
        (["demonstrations.path=no.npz"], "no.npz: no such file"),
        (["--methods", "gial"], "--methods gial: the grid has bc, sqil"),
        (["--jobs", "0"], "--jobs 0: ask for 1 or more"),
    ):
        code, _, err = compare(*arguments)
        assert code == 2 and told in err, err
    assert not (home / "runs").exists()
    code, out, _ = compare("--check")
    assert code == 0 and "2 runs, 0 of them finished" in out and not (home / "runs").exists()


def test_what_takes_no_data_set_runs_once_for_all_of_them(compare, home):
    both = "datasets=[poor, good]", "dataset.path=./{dataset}.npz"
    for kind in ("poor", "good"):
        shutil.copy(home / "Pendulum.npz", home / f"{kind}.npz")
    code, out, err = compare("--methods", "bc", *both)
    assert code == 0, err
    assert "1 runs, 0 of them finished" in out
    found = json.loads((home / "runs/compare.json").read_text())["runs"]
    assert [run["environment"] for run in found] == ["Pendulum/poor", "Pendulum/good"]
    assert found[0]["curve"]["returns"] == found[1]["curve"]["returns"]
    assert len(marks(home)) == 1
