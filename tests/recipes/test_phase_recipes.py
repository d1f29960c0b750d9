"""One recipe a phase: by hand they make what the same phase made in a whole run, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

REWARD = ("model/model.safetensors", "model/reward_config.json", "steps.jsonl")
POLICY = ("model/model.safetensors", "adapter/adapter_model.safetensors", "pairs.jsonl")


def same_files(one: Path, other: Path, names: tuple[str, ...]) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture
def run(whole) -> Path:
    return whole / "run"


def test_sft(programs, config, run, tmp_path):
    ended = programs("sft.py", str(config), "--out", "made/sft", cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    made = tmp_path / "made" / "sft"
    same_files(made, run / "setup/sft", ("model/model.safetensors", "probe.json", "steps.jsonl"))
    record = json.loads((made / "phase.json").read_text())
    assert record["metrics"]["sft/demonstrations"] == 8
    assert record["processes"] == 1
    assert [p.name for p in made.parent.iterdir()] == ["sft"], "nothing is left aside"


def test_sample(programs, config, run, tmp_path):
    policy = str(run / "setup/sft")
    ended = programs("sample.py", str(config), "--policy", policy, "--out", "s", cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    same_files(tmp_path / "s", run / "rounds/0000/samples", ("samples.jsonl.gz",))
    ended = programs(
        "sample.py", str(config), "evaluation.samples_per_prompt=2", "--policy", policy,
        "--heldout", "--out", "h", cwd=tmp_path,
    )  # fmt: skip
    assert ended.code == 0, ended.stderr
    rows = (tmp_path / "h/completions.jsonl").read_text().splitlines()
    assert [len(json.loads(row)["completions"]) for row in rows] == [2] * 4


def test_fit_reward(programs, config, run, tmp_path):
    """The second round, which goes on from the first one's reward model."""
    ended = programs(
        "fit_reward.py", str(config), "--samples", str(run / "rounds/0001/samples"),
        "--body", str(run / "setup/sft"), "--reward", str(run / "rounds/0000/reward"),
        "--round", "1", "--out", "r", cwd=tmp_path,
    )  # fmt: skip
    assert ended.code == 0, ended.stderr
    same_files(tmp_path / "r", run / "rounds/0001/reward", REWARD)


def test_improve_policy(programs, config, run, tmp_path):
    arguments = [
        str(config), "--policy", str(run / "rounds/0000/policy"),
        "--initial", str(run / "setup/sft"), "--reward", str(run / "rounds/0001/reward"),
        "--samples", str(run / "rounds/0001/samples"), "--round", "1", "--out", "p",
    ]  # fmt: skip
    ended = programs("improve_policy.py", *arguments, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    same_files(tmp_path / "p", run / "rounds/0001/policy", POLICY)
    before = (tmp_path / "p/phase.json").read_bytes()
    ended = programs("improve_policy.py", *arguments, cwd=tmp_path)
    assert ended.code == 2
    assert "nothing is overwritten" in ended.stderr
    assert (tmp_path / "p/phase.json").read_bytes() == before


def test_a_failed_phase_leaves_nothing_and_can_be_repeated(programs, config, run, tmp_path):
    arguments = [
        "fit_reward.py", str(config), "--samples", str(run / "rounds/0000/samples"),
        "--body", str(run / "setup/sft"), "--out", "r",
    ]  # fmt: skip
    ended = programs(*arguments, "reward.max_length=1", cwd=tmp_path)
    assert ended.code == 2
    assert "nothing to learn from" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "r").exists()
    ended = programs(*arguments, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    same_files(tmp_path / "r", run / "rounds/0000/reward", REWARD)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample.py", "--policy", "nowhere"], "--policy nowhere: no such folder"),
        (["fit_reward.py", "--samples", ".", "--body", "."], "holds no samples.jsonl.gz"),
        (
            [
                "improve_policy.py",
                "--policy",
                ".",
                "--initial",
                ".",
                "--reward",
                ".",
                "--samples",
                ".",
            ],
            "--reward . holds no model",
        ),
        (["sft.py", "sft.batch_sise=2"], "batch_size"),
        (["sample.py", "--policy", ".", "--heldout", "evaluation.prompts=null"], "evaluation"),
    ],
)
def test_wrong_inputs_end_with_one_clear_message(programs, config, tmp_path, arguments, message):
    program, *rest = arguments
    ended = programs(program, str(config), *rest, "--out", "new", cwd=tmp_path)
    assert ended.code == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []
