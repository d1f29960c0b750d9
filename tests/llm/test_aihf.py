"""AIHF end to end (eq. 4.23, 4.24): demonstrations say one thing, human pairs another, and the
policy learns both, whichever learner improves it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import WORDS

from irl_align.core.config import load_config
from irl_align.llm.alignment import align
from irl_align.llm.config import AlignConfig

CONFIG = """
rounds: 1
seed: 0
run_dir: {home}/run
model: {{path: {model}, bf16: false}}
demonstrations: {{path: {home}/demonstrations.jsonl}}
preferences: {{path: {home}/pairs.jsonl}}
sft: {{enabled: false}}
sampling:
  {{backend: hf, samples_per_prompt: 8, max_new_tokens: 8, dtype: float32, engine: persistent}}
reward:
  epochs: 4
  learning_rate: 3.0e-3
  batch_size: 8
  micro_batch_size: 8
  lora: {{r: 4, alpha: 8}}
policy:
  method: {method}
  reference: base
  beta: 0.05
  learning_rate: 5.0e-3
  warmup_ratio: 0.0
  batch_size: 32
  micro_batch_size: 32
  lora: {{r: 8, alpha: 16}}
  ppo: {{rollout_batch: 64, value_head: zero, gae_lambda: 1.0}}
  group: {{answers: 8}}
evaluation:
  prompts: {home}/prompts.jsonl
  preferences: {{path: {home}/held.jsonl}}
  samples_per_prompt: 16
launch: {{inline: true, tensorboard: false}}
"""
PLAIN = [word for word in WORDS if word not in ("good", "bad")]
LIKED, DISLIKED = PLAIN[:7], PLAIN[7:]


def write_home(home: Path, model: Path, method: str, *overrides: str) -> AlignConfig:
    """Demonstrations begin with good, and with whatever words go on; both answers of a human pair
    begin alike, and the chosen one goes on with words that are liked."""

    def write(name: str, rows: list[dict[str, str]]) -> None:
        (home / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def two(words: list[str], i: int) -> str:
        return f"{words[i % len(words)]} {words[(3 * i + 1) % len(words)]}"

    def pair(i: int) -> dict[str, str]:
        start = ("good", "bad")[i % 2]
        chosen, rejected = f"{start} {two(LIKED, i)}", f"{start} {two(DISLIKED, i)}"
        return {"prompt": f"say {PLAIN[5 * i % 15]} {i}", "chosen": chosen, "rejected": rejected}

    write(
        "demonstrations.jsonl",
        [
            {"prompt": f"say {PLAIN[i % 15]} {i}", "response": f"good {two(PLAIN, 7 * i)}"}
            for i in range(32)
        ],
    )
    write("pairs.jsonl", [pair(i) for i in range(100, 132)])
    write("held.jsonl", [pair(i) for i in range(200, 216)])
    write("prompts.jsonl", [{"prompt": f"say {PLAIN[i % 15]} {i}"} for i in range(300, 308)])
    (home / "tiny.yaml").write_text(CONFIG.format(home=home, model=model, method=method))
    return load_config(AlignConfig, home / "tiny.yaml", list(overrides))


def shares(file: Path) -> tuple[float, float]:
    """(share of answers that begin with good; liked words less disliked ones in an answer)."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    answers = [c["text"].split() for row in rows for c in row["completions"]]
    good = sum(words[:1] == ["good"] for words in answers)
    liked = sum((w in LIKED) - (w in DISLIKED) for words in answers for w in words)
    return good / len(answers), liked / len(answers)


# What gives each learner some thirty steps or more.
EFFORT = {
    "online_dpo": ("policy.epochs=12", "policy.pairs_per_prompt=4"),
    "ppo": ("policy.epochs=32",),
    "grpo": ("policy.epochs=8", "policy.learning_rate=1.0e-2"),
    "rloo": ("policy.epochs=8", "policy.learning_rate=1.0e-2"),
    "raft": ("policy.epochs=30",),
}


@pytest.mark.parametrize("method", EFFORT)
def test_each_learner_learns_from_demonstrations_and_from_people(tmp_path, trained_folder, method):
    folder = align(write_home(tmp_path, trained_folder, method, *EFFORT[method]))
    found = json.loads((folder / "rounds/0000/metrics.json").read_text())
    assert found["eval/preference_accuracy"] > 0.8
    good, liked = shares(folder / "setup/sft/completions.jsonl")
    better, more = shares(folder / "rounds/0000/evaluation/completions.jsonl")
    assert better > good + 0.15
    assert more > liked + 0.2


def test_a_weight_of_zero_leaves_people_out(tmp_path, trained_folder):
    config = write_home(tmp_path, trained_folder, "raft", "policy.epochs=1", "reward.alpha_pref=0")
    folder = align(config)
    found = json.loads((folder / "rounds/0000/metrics.json").read_text())
    assert found["eval/preference_accuracy"] < 0.8
