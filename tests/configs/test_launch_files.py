"""What `accelerate launch` and DeepSpeed are given."""

from __future__ import annotations

import json

import pytest
import yaml
from presets import CONFIGS, ROOT, opening

ACCELERATE = sorted((CONFIGS / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda p: p.stem)
def test_accelerate_files_are_what_accelerate_reads(path):
    from accelerate.commands.config.config_args import ClusterConfig

    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = ClusterConfig.from_yaml_file(str(path))
    kinds = {"single": "NO", "ddp": "MULTI_GPU", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
    assert config.distributed_type == kinds[path.stem]
    assert "mixed_precision" not in raw or raw["mixed_precision"] == "no"
    assert f"configs/accelerate/{path.name}" in opening(path)
    if path.stem.startswith("zero"):
        file = ROOT / raw["deepspeed_config"]["deepspeed_config_file"]
        assert json.loads(file.read_text())["zero_optimization"]["stage"] == int(path.stem[-1])


@pytest.mark.parametrize("path", sorted((CONFIGS / "deepspeed").glob("*.json")), ids=str)
def test_deepspeed_files_leave_the_optimiser_to_the_experiment(path):
    """Whatever an experiment's YAML sets must be "auto" here, or the two could disagree."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in (
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
    ):
        assert config[key] == "auto"
    assert config["bf16"]["enabled"] == "auto"
    assert not {"optimizer", "scheduler"} & config.keys()


def test_accelerate_covers_the_promised_strategies():
    assert {p.stem for p in ACCELERATE} == {"single", "ddp", "zero2", "zero3"}
