"""Saving a reward model so that anybody can load it, and proving it before returning.

The folder is plain Hugging Face: `AutoModelForSequenceClassification(num_labels=1)`, tokenizer
with chat template and a pad token of its own, and `reward_config.json`. After writing, a fresh
process that uses transformers alone scores a few conversations and must find the same numbers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from irl_align.core.files import atomic_write_json
from irl_align.llm.chat import render
from irl_align.llm.data.schema import Message
from irl_align.llm.models.saving import save_model
from irl_align.llm.reward.info import CONFIG_NAME, RewardModelInfo
from irl_align.llm.reward.scorer import RewardScorer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["PROBE_NAME", "save_reward_model"]

PROBE_NAME = "reward_probe.json"

# What a stranger would write: torch and transformers only, nothing of this package.
_PLAIN_LOADER = """
import json, sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, probe = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8"))
torch.set_num_threads(int(sys.argv[3]))
tokenizer = AutoTokenizer.from_pretrained(folder)
model, report = AutoModelForSequenceClassification.from_pretrained(
    folder, num_labels=1, dtype=torch.float32, output_loading_info=True)
model.eval()
scores = []
with torch.no_grad():
    for text in probe["texts"]:
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        scores.append(model(**ids).logits.squeeze().item())
bad = sorted(report.get("missing_keys", [])) + sorted(report.get("unexpected_keys", []))
print(json.dumps({"scores": scores, "bad_keys": bad}))
"""


class RewardSaveError(RuntimeError):
    """A saved reward model did not give back the scores it had in memory."""


def save_reward_model(
    classifier: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    info: RewardModelInfo,
    probe: Sequence[tuple[Sequence[Message], str]],
    *,
    dtype: str = "float32",
    state_dict: dict[str, torch.Tensor] | None = None,
    tolerance: float | None = None,
) -> float:
    """Write the folder, reload it in a fresh process, compare; returns the largest difference.

    `classifier` has its adapters merged. `probe`: up to 8 (prompt, response) whose scores are
    compared; expected scores are computed here in float32 from the weights as saved, so rounding
    to a `dtype` of bfloat16 is part of what was saved and not a difference. Raises
    :class:`RewardSaveError` when a score differs by more than `tolerance` (default 1e-4 of the
    scores' size) or when weights are missing or left over.
    """
    classifier.config.num_labels = 1
    classifier.config.problem_type = "regression"
    save_model(classifier, tokenizer, folder, dtype=dtype, state_dict=state_dict)
    atomic_write_json(folder / CONFIG_NAME, info.as_dict())

    texts = [render(tokenizer, prompt, response) for prompt, response in probe[:8]]
    rounded = (state_dict or classifier.state_dict()) if dtype == "bfloat16" else state_dict
    if rounded is not None:
        # Score what was saved: the given weights, through the saved precision.
        wanted = getattr(torch, dtype)
        classifier.load_state_dict({k: v.to(wanted).float() for k, v in rounded.items()})
    scorer = RewardScorer(classifier.float().cpu().eval(), tokenizer)
    tokens = [scorer.tokenise(prompt, response) for prompt, response in probe[:8]]
    expected = scorer.score_tokens(tokens, list(range(len(tokens))), batch_size=1)
    atomic_write_json(folder / PROBE_NAME, {"texts": texts, "scores": expected})
    return verify_reload(folder, expected, tolerance=tolerance)


def verify_reload(
    folder: Path, expected: Sequence[float], *, tolerance: float | None = None
) -> float:
    """Score the probe texts of `folder` in a fresh process; returns the largest difference."""
    environment = {
        k: v
        for k, v in os.environ.items()
        # A worker's distributed set-up must not leak into a program that is alone.
        if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    }
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _PLAIN_LOADER,
            str(folder),
            str(folder / PROBE_NAME),
            str(torch.get_num_threads()),
        ],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise RewardSaveError(f"{folder}: the saved reward model does not load:\n{done.stderr}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["bad_keys"]:
        raise RewardSaveError(f"{folder}: weights missing or left over: {found['bad_keys']}")
    difference = max(
        (abs(a - b) for a, b in zip(expected, found["scores"], strict=True)), default=0.0
    )
    size = max((abs(x) for x in expected), default=0.0)
    allowed = tolerance if tolerance is not None else 1e-4 * max(1.0, size)
    if not difference <= allowed:
        raise RewardSaveError(
            f"{folder}: reloaded scores differ by {difference:.3g} (allowed {allowed:.3g}); "
            f"expected {list(expected)}, found {found['scores']}"
        )
    return difference
