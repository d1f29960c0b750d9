"""Every experiment in configs/{control,tabular} loads; presets hold the papers' values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from presets import CONFIGS, ROOT, check_opening, value_at

from irl_align.control.bicql.config import BiCQLConfig
from irl_align.control.config import ExpertConfig, MLIRLConfig
from irl_align.control.environments.making import make
from irl_align.control.grid import CompareConfig, grid
from irl_align.control.methods import ONLINE
from irl_align.control.offline.config import MOPOConfig, OfflineMLIRLConfig
from irl_align.core.config import load_config, to_dict
from irl_align.tabular.config import TabularConfig

CONTROL = sorted(p for p in (CONFIGS / "control").rglob("*.yaml") if p.stem != "base")
TABULAR = sorted((CONFIGS / "tabular").glob("*.yaml"))

# Section 2's table of settings; "code" is the authors' public code.
CONTROL_PAPER: dict[str, dict[str, Any]] = {
    "thesis": {
        "sac.hidden": [64, 64],
        "sac.learning_rate": 3e-3,
        "round.episodes": 10,
        "round.samples": "fresh",
        "round.agent_trajectories": 5,
        "round.expert_trajectories": 5,
        "reward.hidden": [64, 64],
        "reward.learning_rate": 1e-4,
        "reward.steps": 1,
    },
    "reference": {
        "sac.hidden": [256, 256],
        "sac.learning_rate": 1e-3,
        "sac.gamma": 0.99,
        "sac.tau": 0.005,
        "sac.batch_size": 100,
        "sac.capacity": 1_000_000,
        "sac.alpha": 0.2,
        "sac.random_episodes": 1,
        "round.episodes": 5,
        "round.samples": "fresh",
        "round.agent_trajectories": 10,
        "round.expert_trajectories": 1,
        "reward.bound": 10.0,
        "reward.learning_rate": 1e-4,
        "reward.weight_decay": 1e-3,
        "reward.steps": 1,
    },
}
CONTROL_STEPS = {
    "thesis": {"hopper": 10**6, "halfcheetah": 2 * 10**6, "walker2d": 2 * 10**6}
    | {"ant": 2 * 10**6, "humanoid": 2 * 10**6},
    # Rounds of (5 + 10) x 1000 steps.
    "reference": {"hopper": 200 * 15_000, "halfcheetah": 600 * 15_000, "walker2d": 1000 * 15_000}
    | {"ant": 600 * 15_000, "humanoid": 600 * 15_000},
}


def control_config(path: Path) -> Any:
    if path.stem.endswith("_expert") and path.parent.name not in ("thesis", "okit"):
        return load_config(ExpertConfig, path)
    if path.parent.name == "mopo" or path.stem.endswith("_mopo"):
        return load_config(MOPOConfig, path, ["dataset.path=any.npz", "reward=true_reward"])
    if path.parent.name == "offline" or "offline" in path.parent.parent.name:
        given = ["demonstrations.path=any.npz", "dataset.path=other.npz"]
        return load_config(OfflineMLIRLConfig, path, given)
    if path.parent.name == "compare":
        return load_config(
            CompareConfig,
            path,
            [
                "demonstrations.path=any/{environment}.npz",
                "seeds=1",
                *(["dataset.path=any/{dataset}.npz"] if "offline" in path.stem else []),
            ],
        )
    if path.parent.name == "bicql":
        return load_config(BiCQLConfig, path, ["demonstrations.path=any.npz"])
    return load_config(MLIRLConfig, path, ["demonstrations.path=any.npz"])


@pytest.mark.parametrize("path", CONTROL, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_control_experiment_loads_and_says_what_a_reader_needs(path):
    config = control_config(path)
    make(config.environment.name, **config.environment.options()).close()
    check_opening(path)


def test_every_cell_of_a_comparison_is_a_configuration():
    for path in sorted((CONFIGS / "control" / "compare").glob("*.yaml")):
        config = control_config(path)
        cells = grid(config)
        assert len(cells) == len(config.tasks()) * len(config.methods)
        of_folder: dict[Path, Any] = {}
        for cell in cells:
            # One run may stand in several rows, but never two runs in one folder.
            assert of_folder.setdefault(cell.folder, cell.config) == cell.config
            name, kind = cell.task.environment, cell.task.dataset
            shown = getattr(cell.config, "demonstrations", None)
            assert shown is None or shown.path == f"any/{name}.npz"
            others = getattr(cell.config, "dataset", None)
            assert others is None or others.path == f"any/{kind}.npz"
            assert (others is None) == (cell.learner in ONLINE or cell.learner == "value_dice")
            assert (shown is None) == (cell.learner == "mopo")
            assert cell.config.environment.name == name
            make(name, **cell.config.environment.options()).close()


def test_robots_give_iq_learn_its_authors_settings():
    """Section 7: loss and temperature of each robot."""
    config = control_config(CONFIGS / "control" / "compare" / "robots.yaml")
    found = {
        cell.task.environment: (cell.config.loss, cell.config.sac.alpha)
        for cell in grid(config)
        if cell.method == "iq_learn"
    }
    assert found == {
        "Hopper": ("v0", 0.01),
        "HalfCheetah": ("value", 0.01),
        "Walker2d": ("v0", 0.01),
        "Ant": ("value", 0.001),
        "Humanoid": ("v0", 1.0),
    }
    cell = next(cell for cell in grid(config) if cell.method == "iq_learn")
    assert (cell.config.sac.learning_rate, cell.config.sac.actor_learning_rate) == (3e-4, 3e-5)
    assert (cell.config.sac.hidden, cell.config.chi) == ([256, 256], 0.5)


# Section 3's table, [h, N, lambda, penalty] of each data set, and OfflineRL-Kit's [h, lambda].
OFFLINE_PAPER = {
    "halfcheetah_medium": (6, 7, 5.92, "ensemble_var"),
    "halfcheetah_medium_replay": (37, 11, 0.96, "ensemble_var"),
    "halfcheetah_medium_expert": (5, 7, 4.56, "mopo_default"),
    "hopper_medium": (43, 7, 37.28, "ensemble_std"),
    "hopper_medium_replay": (43, 7, 5.90, "mopo_default"),
    "hopper_medium_expert": (43, 12, 5.90, "mopo_default"),
    "walker2d_medium": (37, 8, 0.99, "ensemble_std"),
    "walker2d_medium_replay": (37, 13, 0.99, "ensemble_std"),
    "walker2d_medium_expert": (37, 12, 0.99, "ensemble_std"),
}
OFFLINE_KIT = {
    "halfcheetah_medium": (5, 0.5),
    "hopper_medium": (5, 5.0),
    "walker2d_medium": (5, 0.5),
    "halfcheetah_medium_replay": (5, 0.5),
    "hopper_medium_replay": (5, 2.5),
    "walker2d_medium_replay": (1, 2.5),
    "halfcheetah_medium_expert": (5, 2.5),
    "hopper_medium_expert": (5, 5.0),
    "walker2d_medium_expert": (1, 2.5),
}
OFFLINE_SHARED = {
    "world_model.elites": 5,
    "world_model.hidden": [200] * 4,
    "world_model.learning_rate": 1e-3,
    "world_model.batch_size": 256,
    "world_model.improvement": 0.01,
    "world_model.patience": 5,
    "imagination.epochs": 20,
    "imagination.starts": 50_000,
    "imagination.updates": 1_000,
    "imagination.real_share": 0.05,
    "comparison.horizon": 200,
    "sac.gamma": 0.99,
    "sac.tau": 0.005,
    "sac.batch_size": 256,
    "sac.learning_rate": 3e-4,
    "reward.hidden": [256, 256],
    "reward.learning_rate": 1e-4,
    "reward.weight_decay": 1e-3,
    "reward.inputs": "state_action",
}


@pytest.mark.parametrize("preset", ["thesis", "okit"])
@pytest.mark.parametrize("name", OFFLINE_PAPER)
def test_offline_presets_hold_the_papers_values(preset, name):
    config = to_dict(control_config(CONFIGS / "control" / "offline" / preset / f"{name}.yaml"))
    assert {key: value_at(config, key) for key in OFFLINE_SHARED} == OFFLINE_SHARED
    imagination, members = config["imagination"], config["world_model"]["members"]
    found = imagination["horizon"], members, imagination["penalty_coef"], imagination["penalty"]
    robot = name.partition("_")[0]
    assert config["environment"]["name"].lower() == robot
    if preset == "okit":
        horizon, weight = OFFLINE_KIT[name]
        assert found == (horizon, 7, weight, "mopo_default")
        assert config["sac"]["hidden"] == [256, 256] and config["sac"]["target_entropy"] is None
        assert config["rounds"] * imagination["epochs"] == 3_000
        return
    assert found == OFFLINE_PAPER[name]
    walker = robot == "walker2d"
    assert config["rounds"] * imagination["epochs"] == (2_000 if walker else 1_000)
    assert config["world_model"]["min_epochs"] == (350 if walker else 0)
    assert config["world_model"]["holdout"] == (
        0.05 if name == "halfcheetah_medium_expert" else 0.2
    )
    assert config["sac"]["hidden"] == [256] * 3 and config["reward"]["steps"] == 1
    # Half of the usual -A.
    assert config["sac"]["target_entropy"] == {"hopper": -1.5}.get(robot, -3.0)


@pytest.mark.parametrize("path", TABULAR, ids=lambda p: p.stem)
def test_every_tabular_experiment_loads_and_says_what_a_reader_needs(path):
    assert load_config(TabularConfig, path).run_dir == f"runs/tabular_{path.stem}"
    check_opening(path)
    launch = f"recipes/tabular_ml_irl.py {path.relative_to(ROOT)}"
    assert launch in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("preset", CONTROL_PAPER)
@pytest.mark.parametrize("robot", CONTROL_STEPS["thesis"])
def test_control_presets_hold_the_papers_values(preset, robot):
    config = to_dict(control_config(CONFIGS / "control" / preset / f"{robot}.yaml"))
    expected = dict(CONTROL_PAPER[preset])
    if preset == "reference" and robot in ("ant", "humanoid"):
        expected["reward.hidden"] = [128, 128]
    assert {key: value_at(config, key) for key in expected} == expected
    assert config["environment_steps"] == CONTROL_STEPS[preset][robot]
    assert config["environment"]["name"].lower() == robot


def test_compared_methods_differ_in_their_own_part_only():
    """Whatever is not the method's own is alike, or a comparison compares something else."""
    cells = grid(control_config(CONFIGS / "control" / "compare" / "robots.yaml"))
    shared = ("environment_steps", "environment", "demonstrations", "sac")
    for cell in cells:
        found = to_dict(cell.config)
        first = next(
            to_dict(c.config) for c in cells if c.task.environment == cell.task.environment
        )
        if cell.method in ("f_irl", "bc"):  # where a robot's falls may cut episodes, not theirs
            for config in (found, first):
                config["environment"] = {**config["environment"], "cut_after_fall": None}
        if cell.method != "iq_learn":  # it has its authors' own SAC
            assert {key: found[key] for key in shared} == {key: first[key] for key in shared}
        if cell.method == "ml_irl":
            name = f"{cell.task.environment.lower()}.yaml"
            ours = to_dict(control_config(CONFIGS / "control" / "ours" / name))
            same = ("environment", "sac", "reward", "round")
            assert {key: found[key] for key in same} == {key: ours[key] for key in same}
