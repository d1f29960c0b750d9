"""Methods beside each other: what they share, what each may set, the budget, table and figure."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest
from tiny import write_demonstrations, write_prompts

from irl_align.core.config import load_config
from irl_align.core.errors import UserError
from irl_align.evaluation.method_table import MethodRun, report_methods
from irl_align.llm.alignment import Alignment
from irl_align.llm.config import AlignConfig
from irl_align.llm.method_comparison import Cell, CompareConfig, check, grid, run_cells, same_setup
from irl_align.llm.policy.artefacts import PolicyRef

ROOT = Path(__file__).parents[2]
CONFIG = """
run_dir: {home}/compare
seeds: 1
rounds: 2
budget_hours: 1.0e-9
model: {{path: {model}, bf16: false}}
demonstrations: {{path: {home}/demonstrations.jsonl}}
sft: {{enabled: false}}
sampling:
  {{backend: hf, samples_per_prompt: 4, max_new_tokens: 8, dtype: float32, engine: persistent}}
reward: {{batch_size: 4, micro_batch_size: 4, lora: {{r: 2, alpha: 4}}, max_length: 64}}
policy:
  {{learning_rate: 5.0e-3, warmup_ratio: 0.0, batch_size: 4, micro_batch_size: 4, reference: base,
    lora: {{r: 2, alpha: 4}}}}
evaluation: {{prompts: {home}/prompts.jsonl, hidden_reward: vader, samples_per_prompt: 2}}
launch: {{inline: true, tensorboard: false}}
methods:
  spin: {{policy: {{method: spin, reference: previous}}}}
  raft: {{policy: {{method: raft}}}}
"""


@pytest.fixture
def file(tmp_path, trained_folder) -> Path:
    write_demonstrations(tmp_path / "demonstrations.jsonl", rows=6)
    write_prompts(tmp_path / "prompts.jsonl", rows=3)
    path = tmp_path / "compare.yaml"
    path.write_text(CONFIG.format(home=tmp_path, model=trained_folder))
    return path


def test_a_method_sets_its_own_part_and_nothing_that_is_shared(file):
    cells = grid(load_config(CompareConfig, file, ["seeds=2", "seed=5", "policy.beta=0.3"]))
    assert [(c.method, c.seed) for c in cells] == [
        ("spin", 5), ("raft", 5), ("spin", 6), ("raft", 6)
    ]  # fmt: skip
    assert [c.config.policy.method for c in cells[:2]] == ["spin", "raft"]
    assert [c.config.policy.reference for c in cells[:2]] == ["previous", "base"]
    assert {c.config.policy.beta for c in cells} == {0.3}
    assert type(cells[0].config) is AlignConfig
    assert cells[3].folder.parts[-3:] == ("compare", "raft", "seed-6")
    check(cells)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("methods.raft.sft.epochs=2", "methods.raft sets sft, which all methods have in common"),
        ("methods.raft.policy.method=rat", "rat"),
        ("methods.raft.polcy.beta=1", "polcy"),
        ("methods.raft.policy.method=dpo", r"raft: policy\.method=dpo learns from human pairs"),
        ("evaluation.prompts=null", r"evaluation\.prompts is not set"),
        ("methods.raft=3", "expected a section"),
        ("seeds=0", "seeds"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_runs(file, override, message):
    with pytest.raises(UserError, match=message):
        check(grid(load_config(CompareConfig, file, [override])))
    assert not (file.parent / "compare").exists()


def test_one_failure_ends_one_run(file):
    def run(config: AlignConfig, setup_of: Path | None) -> None:
        if config.policy.method == "spin":
            raise UserError("no luck")
        done.append(config.run_dir)

    done: list[str] = []
    cells = grid(load_config(CompareConfig, file, ["seeds=2"]))
    failed = run_cells(cells, run, say=lambda text: None)
    assert failed == {"spin seed-0": "no luck", "spin seed-1": "no luck"}
    assert len(done) == 2


def test_a_policy_that_points_to_its_neighbour_moves_with_it(tmp_path):
    (tmp_path / "first/base/model").mkdir(parents=True)
    (tmp_path / "first/sft").mkdir()
    PolicyRef.point_to(tmp_path / "first/base/model", tmp_path / "first/sft")
    (tmp_path / "first").rename(tmp_path / "second")
    assert PolicyRef.at(tmp_path / "second/sft").model == tmp_path / "second/base/model"
    (tmp_path / "far").mkdir()
    PolicyRef.point_to(tmp_path / "far", tmp_path / "second/sft")
    assert PolicyRef.at(tmp_path / "second/sft").model == tmp_path / "far"


def test_a_setup_is_taken_where_it_would_be_made_the_same(file):
    cells = grid(load_config(CompareConfig, file, ["seeds=2", "methods.raft.sampling.top_p=0.5"]))
    by_name = {(c.method, c.seed): c for c in cells}
    (by_name["spin", 0].folder / "setup" / "sft").mkdir(parents=True)
    assert same_setup(by_name["spin", 0], cells) is None, "its own"
    assert same_setup(by_name["raft", 0], cells) is None, "sampled otherwise"
    assert same_setup(by_name["spin", 1], cells) is None, "another seed"
    cells = grid(load_config(CompareConfig, file, ["seeds=2"]))
    assert same_setup(cells[1], cells) == cells[0].folder
    assert same_setup(cells[3], cells) is None


@pytest.mark.parametrize(
    ("budget", "seconds", "over"), [(None, 9e9, False), (1.0, 3599.0, False), (1.0, 3600.0, True)]
)
def test_the_budget_counts_sampling_and_learning(budget, seconds, over):
    alignment = Alignment.__new__(Alignment)
    alignment.config = AlignConfig(budget_hours=budget)
    history = [
        {"time/sample": seconds / 4, "time/reward": seconds / 4, "time/evaluate": 1e6},
        {"time/policy": seconds / 2, "reward/accuracy": 0.1},
    ]
    assert alignment._enough(history) is over


def test_recipe_from_the_file_to_table_and_figure(file, monkeypatch, capsys):
    main = runpy.run_path(str(ROOT / "recipes/compare.py"))["main"]
    monkeypatch.setattr(sys, "argv", ["compare.py", str(file)])
    assert main() == 0
    home = file.parent / "compare"
    found = json.loads((home / "compare.json").read_text())
    assert found["measure"] == "hidden_reward"
    assert list(found["methods"]) == ["sft", "spin", "raft"]
    for name in ("spin", "raft"):
        row = found["methods"][name]
        alone = json.loads((home / name / "seed-0/results.json").read_text())
        assert len(alone["rounds"]) == row["rounds"] == 1, "the budget allows one round of two"
        assert row["mean"] == alone["rounds"][-1]["hidden_reward"]["mean"]
        assert row["seeds"] == 1 and row["hours"] > 0 and row["failed"] == []
    first, second = (home / name / "seed-0" / "setup" for name in ("spin", "raft"))
    for folder in ("base", "sft"):
        records = [json.loads((s / folder / "phase.json").read_text()) for s in (first, second)]
        assert records[1].pop("taken_from") == str(home / "spin" / "seed-0")
        assert records[0] == records[1], "made once for the seed"
    assert (home / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert main() == 0
    assert "2 of them finished before" in capsys.readouterr().out


def test_seeds_side_by_side_and_one_run_that_fails(file, monkeypatch, capsys):
    """The folder of one run holds rounds without a configuration; the other three go on."""
    home = file.parent / "compare"
    (home / "spin/seed-1/rounds").mkdir(parents=True)
    main = runpy.run_path(str(ROOT / "recipes/compare.py"))["main"]
    monkeypatch.setattr(sys, "argv", ["compare.py", str(file), "--jobs", "2", "seeds=2"])
    assert main() == 1
    assert f"failed: spin seed-1: see {home / 'seed-1.log'}" in capsys.readouterr().err
    rows = json.loads((home / "compare.json").read_text())["methods"]
    assert (rows["spin"]["seeds"], rows["spin"]["failed"]) == (1, [1])
    assert (rows["raft"]["seeds"], rows["raft"]["failed"]) == (2, [])
    assert "no config.yaml" in (home / "seed-1.log").read_text()
    assert "finished" in (home / "seed-0.log").read_text()
    monkeypatch.setattr(sys, "argv", ["compare.py", str(file), "--jobs", "0"])
    with pytest.raises(UserError, match="--jobs 0"):
        main()


def results(value: float, rounds: int = 2) -> dict:
    def interval(mean: float) -> dict[str, float]:
        return {"mean": mean, "low": mean - 1, "high": mean + 1}

    return {
        "sft": {"hidden_reward": interval(0.1), "length": 20.0},
        "rounds": [
            {"round": n, "hidden_reward": interval(value * (n + 1)), "kl": n + 1.0, "length": 30.0}
            for n in range(rounds)
        ],
        "seconds": {
            "sft": 1e6,
            **{f"round{n}/{p}": 1800.0 for n in range(rounds) for p in ("sample", "reward")},
            **{f"round{n}/policy": 3600.0 for n in range(rounds)},
            **{f"round{n}/evaluate": 1e6 for n in range(rounds)},
        },
    }


def test_numbers_of_the_table(tmp_path):
    runs = [
        MethodRun("one", 0, results(0.2)),
        MethodRun("one", 1, results(0.4)),
        MethodRun("two", 0, results(0.5, rounds=1)),
        MethodRun("two", 1, None, "no luck"),
    ]
    text = report_methods(tmp_path, runs)
    rows = json.loads((tmp_path / "compare.json").read_text())["methods"]
    assert rows["sft"]["mean"] == pytest.approx(0.1) and rows["sft"]["seeds"] == 2
    one, two = rows["one"], rows["two"]
    assert (one["mean"], one["hours"], one["rounds"]) == pytest.approx((0.6, 4.0, 2.0))
    assert one["low"] >= 0.4 - 1e-9 and one["high"] <= 0.8 + 1e-9 and one["kl"] == 2.0
    assert (two["mean"], two["hours"], two["seeds"], two["failed"]) == (0.5, 2.0, 1, [1])
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["sft", "one", "two"]
    table = list(csv.DictReader((tmp_path / "compare.csv").open()))
    assert [(r["method"], r["seed"], r["round"], r["hours"]) for r in table] == [
        ("one", "0", "0", "2.0"), ("one", "0", "1", "4.0"), ("one", "1", "0", "2.0"),
        ("one", "1", "1", "4.0"), ("two", "0", "0", "2.0"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="hidden_reward"):
        report_methods(tmp_path, [MethodRun("two", 1, None, "no luck")])


def test_the_shipped_comparison_could_run():
    config = load_config(CompareConfig, ROOT / "configs/llm/compare/quickstart.yaml")
    cells = grid(config)
    methods = {c.method for c in cells}
    asked_for = {"dpo_once", "spin", "raft", "online_dpo", "ppo", "grpo", "rloo", "reverse_kl"}
    assert asked_for <= methods == set(config.methods)
    assert len(cells) == len(methods) * config.seeds and config.seeds >= 3
    shared = {
        json.dumps([vars(c.config.demonstrations), vars(c.config.model), c.config.budget_hours])
        for c in cells
    }
    assert len(shared) == 1
    assert isinstance(cells[0], Cell)
