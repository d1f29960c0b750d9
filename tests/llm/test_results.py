"""results.json: the schema that other programs read, from a real run directory."""

from __future__ import annotations

import json

import pytest

from irl_align.core.run import RunDirectory
from irl_align.llm.results import collect_results, render_results, write_results


def interval(key: str, mean: float) -> dict[str, float]:
    return {key: mean, f"{key}_low": mean - 0.1, f"{key}_high": mean + 0.1}


@pytest.fixture
def run(tmp_path):
    with RunDirectory(tmp_path / "run").open({"seed": 0}) as opened:
        for name, reward in (("base", 0.2), ("sft", 0.3)):
            opened.begin_setup(name)
            metrics = interval("eval/hidden_reward", reward) | {"eval/length": 12.0}
            opened.commit_setup(name, metrics, 1.0, 0)
        metrics = {
            **interval("eval/hidden_reward", 0.5),
            **interval("eval/gain_over_sft", 0.2),
            **interval("eval/win_rate_vs_sft", 0.6),
            **interval("eval/reward_accuracy", 0.7),
            "eval/reward_pairs": 100.0,
            "eval/kl": 1.5,
            "eval/length": 20.0,
            "eval/eos_rate": 0.9,
        }
        for phase in ("sample", "reward", "policy", "evaluate"):
            opened.begin_phase(0, phase)
            opened.commit_phase(0, phase, {}, 2.0, 0)
        opened.append_metrics(0, metrics)
        opened.commit_round(0, metrics)
        yield opened


def test_schema(run, monkeypatch):
    monkeypatch.chdir(run.path.parent)
    results = write_results(run, finished=True)
    assert json.loads((run.path / "results.json").read_text()) == results
    assert results["base"]["hidden_reward"] == {"mean": 0.2, "low": 0.1, "high": pytest.approx(0.3)}
    (row,) = results["rounds"]
    assert row["reward_accuracy"] == 0.7
    assert row["reward_pairs"] == 100
    assert row["gain_over_sft"]["mean"] == 0.2
    assert row["win_rate_vs_sft"]["mean"] == 0.6
    assert (row["kl"], row["length"], row["eos_rate"]) == (1.5, 20.0, 0.9)
    assert row["reward_dir"] == "run/rounds/0000/reward/model"
    assert row["policy_dir"] == "run/rounds/0000/policy/model"
    assert results["seconds"]["total"] == pytest.approx(2 * 1.0 + 4 * 2.0)


def test_the_table_shows_what_there_is(run):
    table = render_results(collect_results(run))
    assert "round 0" in table
    assert "0.500 [0.400, 0.600]" in table
    assert "human-pair accuracy" not in table
    assert "not hidden" not in table
