"""Reward transfer from one ant to the other as a program, with episodes of twenty steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANTS = ROOT / "configs/control/ants"
SAC = [
    *("sac.hidden=[8]", "sac.batch_size=6", "sac.update_every=2", "sac.compile=never"),
    *("environment.max_episode_steps=20", "environment_steps=80"),
    *("evaluation.every=2", "evaluation.episodes=2"),
]
PROGRAM = "eval/reward_transfer.py"
FRESH = ("--config", str(ANTS / "disabled_expert.yaml"), *SAC)


@pytest.fixture
def study(run):
    """An expert in CustomAnt; ML-IRL there (two seeds, states and actions) and in DisabledAnt."""
    learner = [*SAC, "reward.hidden=[8]", "save_every=1", "--seeds", "2"]
    irl = "recipes/control_ml_irl.py"
    for command in (
        ["recipes/collect_expert.py", str(ANTS / "custom_expert.yaml"), *SAC, "episodes=2"],
        [irl, str(ANTS / "custom.yaml"), *learner, "reward.inputs=state_action"],
        [irl, str(ANTS / "disabled.yaml"), *learner],
    ):
        code, _, err = run(*command)
        assert code == 0, err


def test_the_whole_table(run, study, tmp_path):
    command = (PROGRAM, *FRESH, "--reward", "runs/ants/custom", "--seeds", "2")
    command += ("--data-transfer", "runs/ants/disabled")
    code, out, err = run(*command)
    assert code == 0, err
    # The last round's reward, of each seed its own, with the motors of the other ant.
    rounds = sorted((tmp_path / "runs/ants/custom/seed-1/rounds").iterdir())
    last = f"runs/ants/custom/seed-1/rounds/{rounds[-1].name}/reward/reward.pt"
    assert f"{last}: r(s, a), learned in irl_align/CustomAnt-v0, actions permuted: [6, 7, " in out
    assert "DisabledAnt, 2 episodes a seed" in out
    path = tmp_path / "runs/ants/transfer/transfer.json"
    found = json.loads(path.read_text())
    assert [one["permutation"] for one in found["rewards"]] == [[6, 7, 0, 1, 2, 3, 4, 5]] * 2
    rows = found["rows"]
    assert list(rows) == ["random policy", "reward transfer", "data transfer", "true reward"]
    for row in rows.values():
        assert row["low"] <= row["mean"] <= row["high"] and len(row["returns"]) == 2
    assert (
        rows["data transfer"]["runs"]
        == (json.loads((tmp_path / "runs/ants/disabled/returns.json").read_text())["runs"])
    )
    for name in ("reward transfer", "true reward"):
        assert [one["steps"][-1] for one in rows[name]["runs"]] == [80, 80]
    assert rows["reward transfer"]["returns"] != rows["true reward"]["returns"]
    written = sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("learner.pt"))

    code, _, err = run(*command)  # nothing is left to do
    assert code == 0, err
    again = json.loads(path.read_text())
    for row in (again, found):  # the clock of the random policy's episodes
        row["rows"]["random policy"]["runs"] = None
    assert again == found
    assert sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("learner.pt")) == written

    refused = [
        (["environment.name=Pendulum"], "a reward of 111 observation numbers, but Pendulum-v1 has"),
        (["evaluation.seed=5"], "runs/ants/disabled/seed-0: evaluation.seed is 10000 there and 5"),
        (["--seeds", "3"], "runs/ants/custom: no run, and no seed-2 in it"),
        (["--seeds", "1", "--data-transfer", "runs/ants/x"], "runs/ants/x/seed-0: no such run"),
        (["reward=other.pt"], "reward=other.pt: here it is given as --reward"),
        (["evaluation.every=0"], "evaluation.every=0 leaves nothing to report"),
        (["--seeds", "0"], "--seeds 0: ask for 1 or more"),
        (["--reward", "runs/ants/custom_expert"], "has no reward/reward.pt"),
        (["--reward", "runs/nothing"], "runs/nothing: no such file or folder"),
        (["--reward", "runs/ants/custom_expert/demonstrations.npz"], "not a reward net"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for more, said in refused:
        code, out, err = run(*command, *more, "run_dir=runs/never")
        assert code == 2 and said in err, (more, err)
    assert sorted(tmp_path.rglob("*")) == before


def test_any_reward_in_any_environment_that_it_fits(run, tmp_path):
    pendulum = str(ROOT / "configs/control/pendulum_expert.yaml")
    small = [*SAC, "environment.max_episode_steps=12"]
    assert run("recipes/collect_expert.py", pendulum, *small, "episodes=2")[0] == 0
    config = str(ROOT / "configs/control/pendulum.yaml")
    assert run("recipes/control_ml_irl.py", config, *small)[0] == 0
    command = (PROGRAM, *small, "--reward", "runs/pendulum/seed-0", "--without-true-reward")
    code, out, err = run(*command, "--environment", "Pendulum")
    assert code == 0, err
    assert "r(s), learned in Pendulum-v1" in out and "permuted" not in out
    found = json.loads((tmp_path / "runs/reward_transfer/transfer.json").read_text())
    assert list(found["rows"]) == ["random policy", "reward transfer"]

    code, _, err = run(*command)
    assert code == 2 and "--environment NAME, or --config FILE" in err
    code, _, err = run(*command, "--environment", "Pendulum", "environment.absorbing=true")
    assert code == 2 and "is it environment.absorbing" in err
