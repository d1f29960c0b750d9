"""The recipes of offline learning as programs, on a pendulum of twelve steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs/control/offline"
SAC = ["sac.hidden=[8]", "sac.batch_size=6", "sac.update_every=2", "sac.compile=never"]
TINY = [*SAC, "environment.max_episode_steps=12", "evaluation.every=2", "evaluation.episodes=2"]
MODEL = [
    *("world_model.members=2", "world_model.elites=1", "world_model.hidden=[8]"),
    *("world_model.weight_decay=[0.0]", "world_model.max_epochs=2", "rounds=2"),
    *("imagination.epochs=1", "imagination.starts=10", "imagination.updates=4"),
]


def test_from_an_expert_s_training_to_a_reward_and_its_transfer(run, tmp_path):
    expert = [str(CONFIGS / "pendulum_expert.yaml"), *TINY, "environment_steps=120"]
    command = ("recipes/make_offline_dataset.py", *expert, "--out", "data", "--steps", "30")
    code, out, err = run(*command, "--episodes", "2", "--share", "0.01")
    if code == 2 and "train it for longer" in err:
        pytest.skip("so short a training made no expert")
    assert code == 0, err
    assert "medium.npz: 30 steps" in out and "medium-expert.npz: 60 steps" in out
    assert (tmp_path / "data/medium-replay.npz").is_file()

    data = ["dataset.path=data/medium-expert.npz"]
    demonstrations = "demonstrations.path=data/medium-expert.npz"
    config = str(CONFIGS / "pendulum.yaml")
    offline = ("recipes/control_offline_ml_irl.py", config, *TINY, *MODEL, *data, demonstrations)
    code, out, err = run(*offline, "comparison.horizon=6")
    assert code == 0, err
    assert "model/expert_covered" in out and "of expert pairs are predicted as well" in out
    home = tmp_path / "runs/offline/pendulum"
    found = json.loads((home / "returns.json").read_text())
    assert found["runs"][0]["steps"] == [8] and found["runs"][0]["returns"][0] < 0
    said = json.loads((home / "seed-0/setup/world_model/calibration.json").read_text())
    assert said["expert"]["count"] == 60

    base = str(CONFIGS / "mopo/hopper.yaml")
    other = [*TINY, *MODEL, "environment.name=Pendulum", "dataset.path=data/medium.npz"]
    mopo = ("recipes/control_mopo.py", base, *other, "sac.learning_rate=1e-3")
    code, out, err = run(*mopo, "reward=runs/offline/pendulum", "run_dir=runs/transfer")
    assert code == 0, err
    code, out, err = run(*mopo, "reward=true_reward", "run_dir=runs/yardstick")
    assert code == 0, err
    assert "reward/explained" in out


def test_references_are_measured(run, tmp_path):
    code, _, err = run("eval/control_references.py", "Pendulum", "--demonstrations", "none.npz")
    assert code == 2 and "none.npz: no such file" in err
    code, _, err = run("eval/control_references.py", "Pendulum", "--policy", "none.npz")
    assert code == 2 and "none.npz: no such file" in err
    steps = {"observations": np.zeros((6, 3)), "actions": np.zeros((5, 1)), "terminated": [False]}
    np.savez(tmp_path / "best.npz", **steps, lengths=[5], rewards=-np.ones(5))
    expert = ("eval/control_references.py", "Pendulum", "--demonstrations", "best.npz")
    code, out, err = run(*expert, "--episodes", "2", "--out", "mine.json")
    assert code == 0, err
    assert "mine.json: Pendulum-v1: random -" in out and "expert -5.00" in out
    found = json.loads((tmp_path / "mine.json").read_text())["Pendulum-v1"]
    assert found["expert"] == -5 and found["episodes"] == 2 and len(found["sha256"]) == 64
    np.savez(tmp_path / "silent.npz", **steps, lengths=[5])
    code, _, err = run(*expert[:3], "silent.npz")
    assert code == 2 and "silent.npz: no rewards in it" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kinds", "large"], "--kinds large: known are medium, medium-replay, medium-expert"),
        (["--share", "1"], "--share between 0 and 1"),
        (["environment.absorbing=true"], "without absorbing states"),
        (["sac.capacity=50"], "sac.capacity=50 may forget some of"),
    ],
)
def test_what_makes_no_data_set_is_refused_before_it_runs(run, tmp_path, arguments, said):
    config = str(CONFIGS / "pendulum_expert.yaml")
    code, _, err = run("recipes/make_offline_dataset.py", config, "--out", "data", *arguments)
    assert code == 2 and said in err
    assert not list(tmp_path.iterdir())


def test_mistakes_end_with_one_line(run):
    config = str(CONFIGS / "ours/hopper.yaml")
    code, out, err = run("recipes/control_offline_ml_irl.py", config, "demonstrations.path=x")
    assert (code, out) == (2, "") and "no value for dataset.path" in err
    code, out, err = run("recipes/control_mopo.py", str(CONFIGS / "mopo/hopper.yaml"))
    assert (code, out) == (2, "") and "no value for" in err
