from __future__ import annotations

import dataclasses
import shutil

import pytest

from irl_align.control import grid as grids
from irl_align.control.grid import CompareConfig, check, grid, run_cell
from irl_align.core.config import build_config
from irl_align.core.errors import UserError

BASE = {
    "environment_steps": 30,
    "demonstrations": {"path": "???"},
    "environment": {"max_episode_steps": 12},
    "sac": {"hidden": [8], "batch_size": 6, "update_every": 2, "compile": "never"},
    "evaluation": {"every": 1, "episodes": 2},
    "environments": {"Pendulum": None},
    "methods": {"bc": {"epochs": 4, "epochs_per_round": 2}, "sqil": {}},
    "seeds": 2,
}


def compare(path: str, **changes) -> CompareConfig:
    content = {**BASE, "demonstrations": {"path": path}, **changes}
    return build_config(CompareConfig, [("test", content)])


def test_later_layers_win(demonstrations, tmp_path):
    config = compare(
        demonstrations,
        run_dir=str(tmp_path),
        seed=5,
        environments={"Pendulum": {"sac": {"gamma": 0.9}, "environment_steps": 24}, "Hopper": {}},
        methods={"bc": {"epochs": 9}, "sqil": {"sac": {"gamma": 0.8}}},
        cells={"Pendulum/sqil": {"sac": {"gamma": 0.7}}},
    )
    cells = {(c.task.environment, c.method, c.seed): c for c in grid(config)}
    assert len(cells) == 8 and {seed for *_, seed in cells} == {5, 6}
    gammas = {k[:2]: c.config.sac.gamma for k, c in cells.items()}
    assert gammas == {
        ("Pendulum", "bc"): 0.9,
        ("Pendulum", "sqil"): 0.7,
        ("Hopper", "bc"): 0.99,
        ("Hopper", "sqil"): 0.8,
    }
    one = cells["Pendulum", "bc", 6]
    assert one.config.epochs == 9 and one.config.environment_steps == 24 and one.config.seed == 6
    assert one.config.environment.name == "Pendulum" and one.config.sac.hidden == [8]
    assert one.folder == tmp_path / "Pendulum" / "bc" / "seed-6"


def test_a_method_may_stand_there_under_other_names(demonstrations, tmp_path):
    methods = {
        "bc": {"epochs": 4},
        "long": {"method": "bc", "epochs": 9, "epochs_per_round": 3},
        "own": {"method": "sqil"},
    }
    config = compare(
        demonstrations,
        run_dir=str(tmp_path),
        methods=methods,
        seeds=1,
        cells={"Pendulum/long": {"epochs": 3}},
    )
    bc, long, own = grid(config)
    assert (bc.learner, long.learner, own.learner) == ("bc", "bc", "sqil")
    assert (bc.config.epochs, long.config.epochs, long.config.epochs_per_round) == (4, 3, 3)
    assert long.folder == tmp_path / "Pendulum" / "long" / "seed-0"
    assert own.config.sac.hidden == [8] and config.methods == methods
    run_cell(long)
    assert long.finished() and not bc.finished()


def test_paths_of_demonstrations_are_patterns_or_folders(demonstrations, tmp_path):
    shutil.copy(demonstrations, tmp_path / "Pendulum.npz")
    for path in (str(tmp_path / "{environment}.npz"), str(tmp_path)):
        (cell, *_) = grid(compare(path))
        assert cell.config.demonstrations.path == str(tmp_path / "Pendulum.npz")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": {"bcc": {}}}, r"unknown method 'bcc'; did you mean bc\?"),
        ({"methods": {"bc": {"epoch": 3}}}, r"methods\.bc: unknown key epoch; did you mean epochs"),
        ({"methods": {"bc": 3}}, r"methods\.bc = 3: expected a section"),
        ({"methods": {"b": {"method": "bcc"}}}, r"unknown method 'bcc'; did you mean bc\?"),
        ({"methods": {"b": {"method": 3}}}, r"methods\.b: .*as its method a learner's"),
        ({"methods": {"a/b": {"method": "bc"}}}, r"methods\.a/b: give a name without /"),
        ({"environments": {"Pendulum": {"sac": {"gamma": 2}}}}, r"sac: need gamma in"),
        ({"environments": {"Pendulumm": {}}}, r"Pendulumm bc seed-0: unknown environment"),
        ({"environments": {}}, "name one or more environments and methods"),
        ({"cells": {"Hopper/bc": {}}}, r"cells has 'Hopper/bc', which is no"),
        ({"seeds": 0}, "seeds is 0"),
        ({"methods": {"bc": {"evaluation": {"every": 0}}}}, r"Pendulum bc seed-0: evaluation\."),
        ({"demonstrations": {"path": "no/{environment}.npz"}}, r"no/Pendulum\.npz: no such file"),
        # The second environment of the grid is looked at, too.
        ({"environments": {"Pendulum": {}, "Hopper": {}}}, r"Hopper bc seed-0: .*"),
        ({"environments": {"CartPole": {}}}, "CartPole bc seed-0: .*bounded box"),
    ],
)
def test_what_could_not_run_is_named_before_anything_does(demonstrations, tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        check(grid(compare(demonstrations, run_dir=str(tmp_path / "runs"), **changes)))
    assert not (tmp_path / "runs").exists()


def test_the_whole_grid_is_looked_at_once(demonstrations, tmp_path, monkeypatch):
    looked, real = [], grids._look
    monkeypatch.setattr(grids, "_look", lambda config: looked.append(1) or real(config))
    (expert,) = check(grid(compare(demonstrations, run_dir=str(tmp_path)))).values()
    assert len(looked) == 1 and expert < 0


def test_a_finished_run_is_known_by_its_configuration(demonstrations, tmp_path):
    (cell, *_) = grid(compare(demonstrations, run_dir=str(tmp_path)))
    assert not cell.finished()
    run_cell(cell)
    assert cell.finished() and (cell.folder / "rounds" / "0001" / "policy" / "actor.npz").exists()
    (longer, *_) = grid(compare(demonstrations, run_dir=str(tmp_path), environment_steps=60))
    assert not longer.finished()
    check([longer])  # but it may go on
    other = compare(
        demonstrations, run_dir=str(tmp_path), methods={"bc": {"epochs": 8, "epochs_per_round": 2}}
    )
    with pytest.raises(UserError, match=r"Pendulum bc seed-0: .*another configuration:\n  epochs"):
        check(grid(other))


OFFLINE = {
    "dataset": {"path": "{dataset}.npz"},
    "datasets": ["poor", "good"],
    "scores": "d4rl",
    "methods": {
        "bc": {"epochs": 4, "epochs_per_round": 2},
        "value_dice": {"rounds": 2, "hidden": [8], "steps": 2, "batch_size": 6},
        "bicql": {"critic": {"hidden": [8]}},
        "mopo": {"reward": "true_reward", "rounds": 3},
    },
    "seeds": 1,
}


def test_offline_a_task_is_an_environment_with_a_data_set(demonstrations, tmp_path):
    pattern = {"path": str(tmp_path / "{environment}-{dataset}.npz")}
    config = compare(
        demonstrations,
        **{**OFFLINE, "dataset": pattern},
        run_dir=str(tmp_path / "runs"),
        environments={"Pendulum": {"environment_steps": 7, "dataset": {"count": 1}}},
        cells={"Pendulum/bicql": {"rounds": 5}, "Pendulum/good/bicql": {"rounds": 9}},
    )
    cells = {(c.task.name, c.method): c for c in grid(config)}
    assert {task for task, _ in cells} == {"Pendulum/poor", "Pendulum/good"} and len(cells) == 8
    bicql = cells["Pendulum/good", "bicql"]
    assert bicql.folder == tmp_path / "runs" / "Pendulum-good" / "bicql" / "seed-0"
    assert (bicql.config.rounds, cells["Pendulum/poor", "bicql"].config.rounds) == (9, 5)
    assert bicql.config.dataset.path == str(tmp_path / "Pendulum-good.npz")
    assert bicql.config.dataset.count == 1 and bicql.config.environment.max_episode_steps == 12
    # What a method has no use for is left out; SAC is the online learners' alone.
    assert cells["Pendulum/good", "value_dice"].config.dataset is None
    # Nor does it run once more for the other data set, but where it is told something else there.
    alone = tmp_path / "runs" / "Pendulum" / "value_dice" / "seed-0"
    assert {cells[f"Pendulum/{kind}", "value_dice"].folder for kind in ("poor", "good")} == {alone}
    config.cells["Pendulum/good/value_dice"] = {"rounds": 3}
    folders = {c.task.name: c.folder for c in grid(config) if c.method == "value_dice"}
    assert folders["Pendulum/poor"] == alone and "Pendulum-good" in str(folders["Pendulum/good"])
    mopo = cells["Pendulum/poor", "mopo"].config
    assert mopo.dataset.path.endswith("poor.npz") and not hasattr(mopo, "demonstrations")
    assert mopo.sac.hidden == [64, 64] and mopo.rounds == 3
    assert mopo.scores is None  # only the report's, or finished runs would be others with it
    with pytest.raises(UserError, match="no reference returns for Pendulum-v1"):
        config.references()
    robots = dataclasses.replace(config, environments={"Hopper": {}}, cells={})
    assert set(robots.references()) == {"Hopper/poor", "Hopper/good"}
    assert mopo.world_model.store == str(tmp_path / "runs" / "world_models")
    with pytest.raises(
        UserError, match=r"Pendulum/poor bicql seed-0: .*Pendulum-poor\.npz: no such"
    ):
        check(grid(config))
    for kind in ("poor", "good"):
        shutil.copy(demonstrations, tmp_path / f"Pendulum-{kind}.npz")
    (poor, good) = check(grid(config)).values()
    assert poor == good < 0


def test_rewards_and_world_models_of_an_earlier_comparison(demonstrations, tmp_path):
    mopo = {"reward": "old/{environment}-{dataset}/mine", "world_model": {"store": "old/models"}}
    pattern = {"path": str(tmp_path / "{dataset}.npz")}
    options = {**OFFLINE, "dataset": pattern, "methods": {"mopo": mopo}}
    for cell in grid(compare(demonstrations, **options)):
        assert cell.config.reward == f"old/Pendulum-{cell.task.dataset}/mine"
        assert cell.config.world_model.store == "old/models"


def test_offline_cells_are_run_and_found_finished(demonstrations, tmp_path):
    for kind in ("poor", "good"):
        shutil.copy(demonstrations, tmp_path / f"{kind}.npz")
    config = compare(
        demonstrations,
        **{**OFFLINE, "dataset": {"path": str(tmp_path / "{dataset}.npz")}, "datasets": ["good"]},
        run_dir=str(tmp_path / "runs"),
    )
    value_dice = next(cell for cell in grid(config) if cell.method == "value_dice")
    run_cell(value_dice)
    assert value_dice.finished()


@pytest.mark.parametrize(
    "dataset", [None, {"path": "always-the-same.npz"}], ids=["none", "no pattern"]
)
def test_data_sets_need_a_pattern(demonstrations, dataset):
    with pytest.raises(UserError, match=r"datasets needs \{dataset\} in dataset\.path"):
        compare(demonstrations, **{**OFFLINE, "dataset": dataset})
