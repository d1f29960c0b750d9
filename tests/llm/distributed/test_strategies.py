"""Two processes (DDP, ZeRO-2, ZeRO-3; CPU) take the very steps of one with the same global batch.

One launch for all jobs of a strategy; a program's outcome is judged by what it wrote.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import (
    WORDS,
    write_demonstrations,
    write_preferences,
    write_tiny_model,
    write_trained_model,
)

from irl_align.core.config import to_dict
from irl_align.llm.config import (
    AlignConfig,
    DataConfig,
    LoraSettings,
    ModelConfig,
    PolicyConfig,
    PreferenceConfig,
    RewardConfig,
    SamplingConfig,
    SFTConfig,
)
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.generation.samples import (
    SAMPLES_NAME,
    Completion,
    PromptSamples,
    read_samples,
    write_samples,
)
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.policy.settings import GroupSettings, PPOSettings
from irl_align.llm.reward.scorer import RewardScorer
from irl_align.llm.training import STEPS_NAME

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith(("RANK", "WORLD", "LOCAL_"))},
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "DS_ACCELERATOR": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
TORCHRUN = [str(BIN / "torchrun"), "--standalone", "--nproc_per_node", "2"]
ACCELERATE = [
    str(BIN / "accelerate"), "launch", "--config_file", str(ROOT / "configs/accelerate/zero2.yaml"),
    "--num_processes", "2", "--main_process_port", "0",
]  # fmt: skip
SFT, FIRST, TASTE = "sft-lora", "reward-first", "taste-lora"
# Launcher, the phases' DeepSpeed file, ZeRO stage, jobs. ZeRO-2 comes from accelerate's own file.
STRATEGIES = {
    "ddp": (
        TORCHRUN,
        None,
        0,
        (SFT, FIRST, "policy-lora", "ppo-lora", "ppo-full", "rpo-lora", "grpo-lora", "nash-lora"),
    ),
    "zero2": (
        ACCELERATE,
        None,
        2,
        ("reward-full", "policy-full", "ppo-lora", "ppo-full", "rpo-full", "nash-full"),
    ),
    "zero3": (
        TORCHRUN,
        str(ROOT / "configs/deepspeed/zero3.json"),
        3,
        ("sft-full", "reward-lora", "reward-full", "policy-lora", "policy-full", "rpo-full"),
    ),
}
# What one process does: the preferences that Nash-MD needs, and every job of the strategies.
ALL = tuple(
    dict.fromkeys((SFT, FIRST, TASTE, *(n for *_, names in STRATEGIES.values() for n in names)))
)
# Learners of a policy: their method, and passes over their data that make enough steps.
LEARNERS = {
    "policy": ("online_dpo", 2),
    "ppo": ("ppo", 1),
    "rpo": ("rpo", 6),
    "grpo": ("grpo", 2),
    "nash": ("nash_md", 2),
}
# Their advantages have mean 0 in every step, and so has their loss.
LEVEL = ("grpo", "nash")


def launch(command: list[str], *, seconds: int = 400) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=seconds
    )


class Phases:
    """Writes job files for a strategy and runs them; outputs are in `home`/STRATEGY/JOB."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.model = write_tiny_model(home / "model")
        path = write_demonstrations(home / "demonstrations.jsonl", rows=11)
        demonstrations, _ = load_demonstrations(str(path))
        samples = [
            PromptSamples(
                d.id,
                d.prompt,
                [Completion(f"bad {WORDS[(5 * i + k) % len(WORDS)]}", "stop", 3) for k in range(3)],
            )
            for i, d in enumerate(demonstrations)
        ]
        (home / "samples").mkdir()
        write_samples(home / "samples" / SAMPLES_NAME, samples)
        self.config = AlignConfig(
            model=ModelConfig(path=str(self.model), bf16=False),
            demonstrations=DataConfig(path=str(path)),
            preferences=PreferenceConfig(path=str(write_preferences(home / "pairs.jsonl", rows=4))),
            sampling=SamplingConfig(dtype="float32", backend="hf"),
        )

    def job(self, strategy: str, name: str, deepspeed: str | None) -> Path:
        learner, kind = name.split("-")
        phase = _phase(name)
        method, passes = LEARNERS.get(learner, ("nash_md" if name == TASTE else "online_dpo", 2))
        one = self.home / "one"
        # 11 demonstrations and 4 pairs make no whole batches of 4; two epochs shuffle again.
        common = {
            "epochs": 2, "learning_rate": 1e-2, "batch_size": 4, "micro_batch_size": 1,
            "deepspeed": deepspeed, "lora": None if kind == "full" else LoraSettings(r=4, alpha=8),
        }  # fmt: skip
        config = replace(
            self.config,
            sft=SFTConfig(**common),
            # A probe would solve these few words at once and leave nothing to compare.
            reward=RewardConfig(holdout=0.2, head="zero", **common),
            policy=PolicyConfig(
                method=method,
                # PPO's passes over a batch are its own epochs, here two of two steps.
                ppo=PPOSettings(rollout_batch=8, epochs=2),
                group=GroupSettings(answers=2),
                **(common | {"epochs": passes}),
            ),
        )
        inputs = {
            "sft": {"base": self.model},
            "reward": {"samples": self.home / "samples", "body": one / SFT},
            "policy": {
                "policy": one / SFT,
                "initial": one / SFT,
                "reward": one / (TASTE if method == "nash_md" else FIRST),
                "samples": self.home / "samples",
            },
        }[phase]
        if phase == "reward" and name not in (FIRST, TASTE):
            inputs["reward"] = one / FIRST / "model"
        out = self.home / strategy / name
        out.mkdir(parents=True)
        file = out.with_suffix(".json")
        paths = {k: str(v) for k, v in inputs.items()}
        PhaseJob(phase, to_dict(config), paths, str(out), 7, int(name not in (FIRST, TASTE))).write(
            file
        )
        return file

    def run(
        self, command: list[str], strategy: str, names: tuple[str, ...], deepspeed: str | None
    ) -> None:
        files = [str(self.job(strategy, name, deepspeed)) for name in names]
        program = str(Path(__file__).with_name("run_jobs.py"))
        done = launch([*command, program, *files])
        for name in names:
            assert (self.home / strategy / f"{name}.metrics.json").exists(), done.stderr[-4000:]

    def metrics(self, strategy: str, name: str) -> dict[str, float]:
        return json.loads((self.home / strategy / f"{name}.metrics.json").read_text())

    def steps(self, strategy: str, name: str) -> list[dict[str, float]]:
        lines = (self.home / strategy / name / STEPS_NAME).read_text().splitlines()
        return [json.loads(line) for line in lines]

    def weights(self, strategy: str, name: str) -> dict[str, torch.Tensor]:
        return load_file(self.home / strategy / name / "model" / "model.safetensors")


def _phase(name: str) -> str:
    learner = name.split("-")[0]
    return "policy" if learner in LEARNERS else "reward" if name == TASTE else learner


@pytest.fixture(scope="module")
def phases(tmp_path_factory) -> Phases:
    found = Phases(tmp_path_factory.mktemp("phases"))
    found.run([sys.executable], "one", ALL, None)
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_take_the_steps_of_one(phases, strategy):
    command, deepspeed, stage, names = STRATEGIES[strategy]
    phases.run(command, strategy, names, deepspeed)
    for name in names:
        phase = _phase(name)
        alone, together = phases.metrics("one", name), phases.metrics(strategy, name)
        assert alone[f"{phase}/processes"] == 1
        assert together[f"{phase}/processes"] == 2, "the launcher started one process"
        assert together[f"{phase}/zero_stage"] == stage
        expected, found = phases.steps("one", name), phases.steps(strategy, name)
        assert len(expected) == len(found) == alone[f"{phase}/steps"] >= 6
        losses = [[row["loss"] for row in rows] for rows in (expected, found)]
        assert losses[1] == pytest.approx(losses[0], abs=1e-4), f"{strategy} {name}"
        if not name.startswith(LEVEL):
            assert max(losses[0]) - min(losses[0]) > 0.05, "nothing was learned"
        ours, theirs = phases.weights("one", name), phases.weights(strategy, name)
        assert ours.keys() == theirs.keys()
        if phase == "policy":
            before = phases.weights("one", SFT)
            moved = max((ours[key] - before[key]).abs().max() for key in ours)
            assert moved > 0.01, "nothing was learned"
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, atol=2e-4, rtol=1e-3, msg=key)
        if phase == "reward":
            assert together["reward/accuracy"] == alone["reward/accuracy"]
            assert together["reward/centre"] == pytest.approx(alone["reward/centre"], abs=1e-4)
            scores = [
                RewardScorer.load(phases.home / s / name / "model").score(
                    [[{"role": "user", "content": f"say {w} 3"}] for w in WORDS], ["good fish"] * 17
                )
                for s in ("one", strategy)
            ]
            assert scores[1] == pytest.approx(scores[0], abs=1e-4)


def test_a_lost_rank_ends_the_others(tmp_path):
    """Else a phase would hold its GPUs until somebody looks."""
    program = str(Path(__file__).with_name("lost_rank.py"))
    done = launch([*TORCHRUN, program, str(tmp_path / "error.txt")], seconds=120)
    assert (tmp_path / "error.txt").exists(), done.stderr[-4000:]
    assert "ended without an answer" in (tmp_path / "error.txt").read_text()


CONFIG = """
rounds: 1
seed: 3
run_dir: {run}
model: {{path: {model}, bf16: false}}
demonstrations: {{path: {demonstrations}}}
sft: {{enabled: false}}
sampling:
  {{backend: hf, samples_per_prompt: 6, max_new_tokens: 6, dtype: float32, engine: persistent}}
reward: {{batch_size: 4, micro_batch_size: 2, lora: {{r: 4, alpha: 8}}, truncated: match}}
policy: {{batch_size: 4, micro_batch_size: 2, lora: {{r: 4, alpha: 8}}}}
launch: {{tensorboard: false}}
"""


def test_a_whole_round_under_torchrun(tmp_path):
    """Two supervisors; every phase's children form a group of their own; ranks share sampling."""
    config = tmp_path / "tiny.yaml"
    config.write_text(
        CONFIG.format(
            run=tmp_path / "run",
            model=write_trained_model(tmp_path / "model"),
            demonstrations=write_demonstrations(tmp_path / "demonstrations.jsonl", rows=9),
        )
    )
    align = [*TORCHRUN, str(ROOT / "recipes/align.py"), str(config)]
    done = launch(align)
    run = tmp_path / "run"
    assert (run / "results.json").exists(), done.stderr[-4000:]
    results = json.loads((run / "results.json").read_text())
    assert len(results["rounds"]) == 1
    record = json.loads((run / "rounds/0000/metrics.json").read_text())
    assert record["reward/processes"] == record["policy/processes"] == 2
    assert json.loads((run / "rounds/0000/manifest.json").read_text())["processes"] == 2
    samples = read_samples(run / "rounds/0000/samples" / SAMPLES_NAME)
    assert [s.id for s in samples] == [f"d{i}" for i in range(9)], "shared out, put back in order"
    assert all(len(s.completions) == 6 for s in samples)
