"""PPO's four models in memory: adapters of one base against four whole models.

Each side is a process of its own that builds its models from the same folders (SmolLM2-135M, a
reward model fitted on it by LoRA), takes one batch of 16 answers of 40 tokens through scoring, old
log probabilities and two optimiser steps with Adam, and reports its peak resident memory, the
interpreter and its libraries included. The peer trains all weights of policy and value model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from eval.bench.workload import base_model
from irl_align.core.errors import UserError

__all__ = ["run", "write_reward"]

ANSWERS, LENGTH = 16, 40
SIDES = ("shared", "separate")
STATUS = Path("/proc/self/status")  # of Linux


def run() -> dict[str, Any]:
    """The benchmark's row: peak GiB of both sides; ratio above 1: ours needs less.

    Raises UserError where there is no /proc.
    """
    if not STATUS.exists():
        raise UserError(
            f"ppo_memory: {STATUS}: no such file; peak memory is measured on Linux only"
        )
    base = base_model()
    with tempfile.TemporaryDirectory() as scratch:
        reward = Path(scratch) / "reward"
        write_reward(base, reward)
        peaks = {side: _measure(side, base, reward) for side in SIDES}
    ours, peer = (peaks[side] / 2**20 for side in SIDES)
    print(f"ppo_memory: {ours:.2f} GiB against {peer:.2f} GiB, a share of {ours / peer:.2f}")
    row = {"ours": ours, "peer": peer, "ratio": peer / ours, "unit": "GiB at the peak", "runs": 1}
    return {"ppo_memory": row}


def write_reward(base: Path, folder: Path, *, top_layers: int | None = None) -> None:
    """A reward model that is an adapter of `base`, on its last layers or on all."""
    import torch

    from irl_align.llm.chat import template_hash
    from irl_align.llm.config import LoraSettings
    from irl_align.llm.models.adapters import add_adapters
    from irl_align.llm.models.loading import load_tokenizer
    from irl_align.llm.models.saving import save_model
    from irl_align.llm.reward.classifier import load_classifier
    from irl_align.llm.reward.info import CONFIG_NAME, RewardModelInfo

    tokenizer = load_tokenizer(base)
    lora = LoraSettings(top_layers=top_layers)
    adapted = add_adapters(load_classifier(base, new_head=True), lora, "SEQ_CLS", 0)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name or name.endswith("score.modules_to_save.default.weight"):
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 1e-3)
    save_model(adapted.merge_and_unload(), tokenizer, folder / "model", dtype="float32")
    info = RewardModelInfo("residual_logistic", 1.0, template_hash(tokenizer), "", 512)
    (folder / "model" / CONFIG_NAME).write_text(json.dumps(info.as_dict()))


def _measure(side: str, base: Path, reward: Path) -> float:
    """Peak resident KiB of one side."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, side, str(base), str(reward)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"ppo_memory, {side}:\n{done.stderr[-3000:]}")
    return float(done.stdout.strip().splitlines()[-1])


def _peak() -> int:
    """Peak resident KiB of this program (Linux).

    Not `getrusage`: its peak outlives exec, so that it is at least what the program that started
    this one held at that moment.
    """
    status = STATUS.read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def _side(side: str, base: Path, reward: Path) -> None:
    import torch

    from irl_align.llm.config import AlignConfig, LoraSettings, PolicyConfig
    from irl_align.llm.policy.artefacts import PolicyRef
    from irl_align.llm.policy.settings import PPOSettings
    from irl_align.llm.ppo.building import build_models
    from irl_align.llm.ppo.experience import Rollout
    from irl_align.llm.ppo.stream import ExperienceStream, StreamShape
    from irl_align.llm.ppo.trainer import train_ppo
    from irl_align.llm.training import training_arguments

    settings = PPOSettings(rollout_batch=ANSWERS, epochs=2)
    lora = LoraSettings() if side == "shared" else None
    config = AlignConfig(
        policy=PolicyConfig(
            method="ppo", reference="base", batch_size=ANSWERS, micro_batch_size=8, lora=lora,
            ppo=settings,
        )
    )  # fmt: skip
    at = PolicyRef.at(base)
    built = build_models(at, at, reward, config, seed=0)
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(100, 10_000, (count,), generator=draw).tolist()

    rollouts = [Rollout(ids(30), ids(LENGTH), False) for _ in range(ANSWERS)]
    scorer = built.scorer
    assert scorer is not None
    stream = ExperienceStream(
        built.models,
        lambda *_: rollouts,
        lambda found: scorer.score_tokens([[*r.prompt, *r.answer] for r in found], range(ANSWERS)),
        settings,
        StreamShape(1, ANSWERS, 8),
        beta=0.1,
        pad_token_id=0,
        seed=0,
        bf16=True,
    )
    with tempfile.TemporaryDirectory() as scratch:
        arguments = training_arguments(
            config.policy, config.model, seed=0, scratch=Path(scratch), max_steps=2
        )
        train_ppo(built.models, stream, settings, arguments)
    print(_peak())


if __name__ == "__main__":
    _side(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
