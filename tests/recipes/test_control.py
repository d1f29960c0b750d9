"""The control recipes as programs, on a pendulum of twelve steps."""

from __future__ import annotations

import json
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


def test_from_an_expert_to_a_plot(run, tmp_path):
    expert = str(ROOT / "configs/control/pendulum_expert.yaml")
    config = str(ROOT / "configs/control/pendulum.yaml")
    code, out, err = run("recipes/collect_expert.py", expert, *TINY, "episodes=3")
    assert code == 0, err
    assert "demonstrations.npz: 3 episodes" in out
    command = ("recipes/control_ml_irl.py", config, *TINY, "--seeds", "2")
    code, out, err = run(*command, "--expert", "runs/pendulum_expert")
    assert code == 0, err
    found = json.loads((tmp_path / "runs/pendulum/returns.json").read_text())
    assert [run["name"] for run in found["runs"]] == ["seed-0", "seed-1"]
    assert found["expert"] < 0 and found["runs"][0]["steps"][-1] == 60
    assert (tmp_path / "runs/pendulum/returns.png").is_file()
    code, _, err = run(*command)  # nothing is left to do
    assert code == 0, err
    again = json.loads((tmp_path / "runs/pendulum/returns.json").read_text())
    assert again["runs"] == found["runs"]


def test_mistakes_end_with_one_line(run):
    thesis = str(ROOT / "configs/control/thesis/hopper.yaml")
    code, out, err = run("recipes/control_ml_irl.py", thesis)
    assert (code, out) == (2, "")
    assert "no value for demonstrations.path" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        # Options stand before and behind key=value.
        (["--seeds", "0", "seed=5"], "--seeds 0: ask for 1 or more"),
        (["evaluation.every=0"], "evaluation.every=0 leaves nothing to report"),
        (["--expert", "nowhere", "seed=5"], "nowhere"),
        (["demonstrations.path=nowhere.npz"], "nowhere.npz: no such file"),
    ],
)
def test_what_cannot_be_reported_is_refused_before_it_runs(run, tmp_path, arguments, said):
    config = str(ROOT / "configs/control/pendulum.yaml")
    code, _, err = run("recipes/control_ml_irl.py", config, *arguments)
    assert code == 2 and said in err
    assert not list(tmp_path.iterdir())


def test_only_npz_is_recorded(run, tmp_path):
    expert = str(ROOT / "configs/control/pendulum_expert.yaml")
    code, _, err = run("recipes/collect_expert.py", expert, *TINY, "demonstrations=demos.h5")
    assert code == 2 and "demos.h5: they are saved as .npz" in err
    assert not list(tmp_path.iterdir())


BICQL = [
    *("critic.hidden=[8]", "critic.batch_size=6", "critic.steps=2", "critic.compile=never"),
    *("reward.hidden=[8]", "reward.batch_size=5", "reward.steps=2", "proposals.clone_steps=3"),
    *("environment.max_episode_steps=12", "evaluation.every=2", "evaluation.episodes=2"),
    *("rounds=4", "monitor.every=2"),
]


def test_offline_from_an_expert_to_a_plot(run, tmp_path):
    expert = str(ROOT / "configs/control/pendulum_expert.yaml")
    config = str(ROOT / "configs/control/bicql/pendulum.yaml")
    folder = "runs/pendulum_soft"
    where = f"run_dir={folder}", f"demonstrations={folder}/demonstrations.npz"
    code, _, err = run("recipes/collect_expert.py", expert, *TINY, *where, "deterministic=false")
    assert code == 0, err
    command = ("recipes/control_bicql.py", config, *BICQL, "--seeds", "2")
    code, out, err = run(*command, "--expert", folder)
    assert code == 0, err
    assert "returns.png" in out
    found = json.loads((tmp_path / "runs/bicql_pendulum/returns.json").read_text())
    assert [one["steps"] for one in found["runs"]] == [[4, 8]] * 2
    code, _, err = run(*command)  # nothing is left to do
    assert code == 0, err
    again = json.loads((tmp_path / "runs/bicql_pendulum/returns.json").read_text())
    assert again["runs"] == found["runs"]
    # Data of somebody else, given on the command line where the file names none.
    dataset = f"dataset.path={folder}/demonstrations.npz"
    code, _, err = run("recipes/control_bicql.py", config, *BICQL, dataset, "run_dir=runs/other")
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "bicq"], "unknown method 'bicq'; did you mean bicql?"),
        (["conservative.states=all"], "states is 'all'; it must be one of mixture, data"),
        (["conservative.expert_wait=1"], "did you mean expert_weight?"),
        (["environment.absorbing=true"], "environment.absorbing is for learners that collect"),
        (["dataset.path=nowhere.npz"], "no such file"),
    ],
)
def test_what_offline_cannot_do_is_refused_before_it_runs(run, tmp_path, arguments, said):
    config = str(ROOT / "configs/control/bicql/pendulum.yaml")
    code, _, err = run("recipes/control_bicql.py", config, *arguments)
    assert code == 2 and said in err
    assert not list(tmp_path.iterdir())
