"""The control recipes as programs, on a pendulum of twelve steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAC = ["sac.hidden=[8]", "sac.batch_size=6", "sac.update_every=2", "sac.compile=never"]
TINY = [
    *SAC,
    "environment.max_episode_steps=12",
    "environment_steps=60",
    "evaluation.every=2",
    "evaluation.episodes=2",
]


@pytest.fixture
def run(tmp_path):
    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *[str(ROOT / arguments[0]), *arguments[1:]]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return start


def test_from_an_expert_to_a_plot(run, tmp_path):
    expert = str(ROOT / "configs/control/pendulum_expert.yaml")
    config = str(ROOT / "configs/control/pendulum.yaml")
    done = run("recipes/collect_expert.py", expert, *TINY, "episodes=3")
    assert done.returncode == 0, done.stderr
    assert "demonstrations.npz: 3 episodes" in done.stdout
    command = ("recipes/control_ml_irl.py", config, *TINY, "--seeds", "2")
    done = run(*command, "--expert", "runs/pendulum_expert")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "runs/pendulum/returns.json").read_text())
    assert [run["name"] for run in found["runs"]] == ["seed-0", "seed-1"]
    assert found["expert"] < 0 and found["runs"][0]["steps"][-1] == 60
    assert (tmp_path / "runs/pendulum/returns.png").is_file()
    again = run(*command)  # nothing is left to do
    assert again.returncode == 0, again.stderr
    assert (
        json.loads((tmp_path / "runs/pendulum/returns.json").read_text())["runs"] == found["runs"]
    )


def test_mistakes_end_with_one_line(run):
    done = run("recipes/control_ml_irl.py", str(ROOT / "configs/control/thesis/hopper.yaml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no value for demonstrations.path" in done.stderr
    assert "Traceback" not in done.stderr
