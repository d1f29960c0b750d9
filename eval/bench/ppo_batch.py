"""A batch of PPO's answers, from sampled to learned: each answer passes the layers below all
adapters once, against once for every role and pass.

The models are the PPO quickstart's: adapters on the last 15 of SmolLM2's 30 layers. 48 answers of
25 tokens to prompts of 30 get old log probabilities of policy and reference and old values, and
are learned from twice, gradients included. Sampling, scoring and the optimiser are not on the
clock: they are the same.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from eval.bench.ppo_memory import write_reward
from eval.bench.workload import base_model

__all__ = ["run"]

ANSWERS, PROMPT, LENGTH, MICRO = 48, 30, 25, 12
TOP_LAYERS = 15
TURNS = 3


def run() -> dict[str, Any]:
    """The benchmark's row: median seconds of both ways, in turn."""
    models, settings, rollouts = _workload()
    half = models.lower_half
    assert half is not None and half.depth == TOP_LAYERS
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for turn in range(TURNS + 1):
        for side, lower in (("ours", half), ("peer", None)):
            models.lower_half = lower
            found = _seconds(models, settings, rollouts)
            if turn > 0:  # the first warms up
                seconds[side].append(found)
    ours, peer = (statistics.median(seconds[side]) for side in ("ours", "peer"))
    print(f"ppo_batch: {ours:.1f} s against {peer:.1f} s, ratio {peer / ours:.2f}")
    unit = f"s for {ANSWERS} answers learned from twice"
    return {
        "ppo_batch": {
            "ours": ours, "peer": peer, "ratio": peer / ours, "unit": unit, "runs": TURNS,
        }
    }  # fmt: skip


def _workload() -> tuple[Any, Any, list[Any]]:
    import torch

    from irl_align.llm.config import AlignConfig, LoraSettings, PolicyConfig
    from irl_align.llm.policy.artefacts import PolicyRef
    from irl_align.llm.policy.settings import PPOSettings
    from irl_align.llm.ppo.building import build_models
    from irl_align.llm.ppo.experience import Rollout

    settings = PPOSettings(rollout_batch=ANSWERS, epochs=2)
    config = AlignConfig(
        policy=PolicyConfig(
            method="ppo", reference="base", batch_size=ANSWERS, micro_batch_size=MICRO,
            lora=LoraSettings(top_layers=TOP_LAYERS), ppo=settings,
        )
    )  # fmt: skip
    base = base_model()
    with tempfile.TemporaryDirectory() as scratch:
        write_reward(base, Path(scratch), top_layers=TOP_LAYERS)
        at = PolicyRef.at(base)
        built = build_models(at, at, Path(scratch), config, seed=0)
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(100, 10_000, (count,), generator=draw).tolist()

    return built.models, settings, [Rollout(ids(PROMPT), ids(LENGTH), True) for _ in range(ANSWERS)]


def _seconds(models: Any, settings: Any, rollouts: list[Any]) -> float:
    import torch

    from irl_align.llm.ppo.stream import ExperienceStream, StreamShape
    from irl_align.llm.ppo.trainer import READ, ppo_loss
    from irl_align.llm.reward.classifier import autocast

    stream = ExperienceStream(
        models,
        lambda *_: rollouts,
        lambda found: [0.0] * len(found),
        settings,
        StreamShape(1, ANSWERS, MICRO),
        beta=0.1,
        pad_token_id=0,
        seed=0,
        bf16=True,
    )
    start = time.perf_counter()
    for micro_batch in stream:
        with autocast(torch.device("cpu"), True):
            found = models(**{name: micro_batch[name] for name in READ if name in micro_batch})
        loss, _ = ppo_loss(*found, micro_batch, settings)
        loss.backward()
    models.zero_grad()
    return time.perf_counter() - start
