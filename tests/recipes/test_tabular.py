"""The tabular recipe as a program, killed and started again."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from irl_align.core.run import RunDirectory

ROOT = Path(__file__).parents[2]
PROGRAM = "recipes/tabular_ml_irl.py"
GARNET = str(ROOT / "configs/tabular/garnet.yaml")
TINY = [
    *("problem.states=8", "problem.branching=3", "demonstrations.count=20"),
    *("episodes=2", "rounds=12", "alpha0=0.1", "evaluate_every=4", "save_every=2"),
]


def outcome(folder: Path):
    """All that a run leaves behind, but for times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    history = [{k: v for k, v in row.items() if not k.startswith("time")} for row in rows]
    last = folder / "rounds/0011"
    arrays = [np.load(last / part).tolist() for part in ("reward/theta.npy", "policy/q.npy")]
    return history, arrays, json.loads((folder / "results.json").read_text())


def killed(arguments: list[str]) -> None:
    """The program in a process that dies behind the reward phase of round 7."""
    child = os.fork()
    if child == 0:
        commit = RunDirectory.commit_phase

        def fatal(self, round, phase, *rest, **options):
            done = commit(self, round, phase, *rest, **options)
            if (round, phase) == (7, "reward"):
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        RunDirectory.commit_phase = fatal
        sys.argv = [str(ROOT / PROGRAM), *arguments]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("optimiser", ["gradient", "adam"])
def test_killed_and_started_again_it_ends_the_same(run, tmp_path, optimiser):
    whole, broken = (
        [GARNET, *TINY, f"optimiser={optimiser}", f"run_dir={name}"] for name in ("whole", "broken")
    )
    code, out, err = run(PROGRAM, *whole)
    assert code == 0, err
    assert "likelihood gap" in out and "numbers: whole/results.json" in out
    killed(broken)
    assert not (tmp_path / "broken/results.json").exists()
    code, _, err = run(PROGRAM, *broken)
    assert code == 0, err
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")
    found = outcome(tmp_path / "whole")[2]
    assert found["learned"]["likelihood_gap"] < found["start"]["likelihood_gap"]

    code, _, err = run(PROGRAM, *broken, "rounds=14")  # it sets the size of a step
    assert code == 2 and "rounds: 12 in the run, 14" in err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("problem.kind=maze", "kind is 'maze'; it must be one of gridworld, garnet"),
        ("problem.states=2", "branching is 3; it must lie in [1, states]"),
        ("problem.gamma=1", "gamma is 1.0; it must lie strictly between 0 and 1"),
        ("demonstrations.count=null", "set demonstrations.count"),
        ("demonstrations.count=0", "count is 0; it must be 1 or more, or null"),
        ("reward.family=forest", "family is 'forest'; it must be one of linear, tabular, neural"),
        ("optimiser=sgd", "optimiser is 'sgd'; it must be one of gradient, adam"),
        ("sigma=1", "sigma is 1.0"),
        ("rewards.family=neural", "unknown key rewards; did you mean reward?"),
    ],
)
def test_a_bad_configuration_ends_with_one_line(run, tmp_path, override, said):
    code, out, err = run(PROGRAM, GARNET, *TINY, override)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_demonstrations_that_are_cut_short_need_sampled_gradients(run, tmp_path):
    short = ["episodes=null", "demonstrations.horizon=3"]
    code, _, err = run(PROGRAM, GARNET, *TINY, *short)
    assert code == 2 and "of the discounted mass" in err


def test_bicql_ends_at_the_mixture(run):
    tiny = ["problem.states=8", "problem.branching=3", "--rounds", "60"]
    code, out, err = run("recipes/tabular_bicql.py", GARNET, *tiny, "--alphas", "1", "3")
    assert code == 0, err
    rows = {
        line[:18].strip(): [float(x) for x in line[18:].split()] for line in out.splitlines()[1:]
    }
    assert set(rows) == {"alpha = 1", "alpha = 3", "the mixture"}
    for alpha in ("alpha = 1", "alpha = 3"):
        np.testing.assert_allclose(rows[alpha], rows["the mixture"], atol=2e-3)
    assert rows["the mixture"][0] > 0.05
    code, _, err = run("recipes/tabular_bicql.py", GARNET, "--share", "2")
    assert code == 2 and "--share 2.0: give a share in [0, 1]" in err
