"""Checks that need a fresh Python: imports that may crash, hang or print, and what they can do.

Each probe is a small program in a process of its own, because a broken compiled package can abort
the interpreter. It prints one JSON object as its last line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

TORCH = """
import json, torch
torch.manual_seed(0)
a, b = torch.randn(96, 64), torch.randn(64, 32)
exact = a.double() @ b.double()
error = ((a @ b).double() - exact).abs().max().item()
half = ((a.bfloat16() @ b.bfloat16()).double() - exact).abs().max().item()
x = torch.randn(8, 4, requires_grad=True); (x * x).sum().backward()
gradient = (x.grad - 2 * x).abs().max().item()
gpus = []
for i in range(torch.cuda.device_count()):
    free, total = torch.cuda.mem_get_info(i)
    with torch.cuda.device(i):
        wrong = ((a.cuda() @ b.cuda()).double().cpu() - exact).abs().max().item()
        gpus.append({"name": torch.cuda.get_device_name(i), "free": free, "total": total,
                     "error": wrong, "bf16": torch.cuda.is_bf16_supported()})
print(json.dumps({"version": torch.__version__, "error": error, "bf16_error": half,
                  "gradient_error": gradient, "threads": torch.get_num_threads(),
                  "cuda_build": torch.version.cuda, "gpus": gpus}))
"""

TRAINERS = """
import json
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForSequenceClassification
from trl import DPOTrainer, SFTTrainer
import torch
config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                     num_attention_heads=2, num_key_value_heads=2, num_labels=1, pad_token_id=0)
model = LlamaForSequenceClassification(config)
model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"]))
score = model(torch.tensor([[1, 2, 3]])).logits
assert score.shape == (1, 1) and bool(score.isfinite().all()), "a tiny reward model gave no score"
print(json.dumps({"ok": True}))
"""

VLLM = """
import json
from vllm import LLM, SamplingParams
from vllm.platforms import current_platform
print(json.dumps({"platform": current_platform.device_type}))
"""

DEEPSPEED = """
import json, deepspeed
print(json.dumps({"version": deepspeed.__version__,
                  "accelerator": deepspeed.accelerator.get_accelerator()._name}))
"""

TORCHVISION = """
import json, torchvision
print(json.dumps({"version": torchvision.__version__}))
"""

TOKENIZER = """
import json, sys
from transformers import AutoTokenizer
t = AutoTokenizer.from_pretrained(sys.argv[1])
print(json.dumps({"pad": t.pad_token, "eos": t.eos_token, "template": bool(t.chat_template)}))
"""


@dataclass(frozen=True)
class Outcome:
    """What a probe printed, or why it failed (one line)."""

    value: dict[str, Any] | None
    error: str = ""


def run_probe(code: str, *arguments: str, timeout: float = 240.0) -> Outcome:
    """Run `code` in a fresh interpreter; never raises for what the code does."""
    environment = os.environ | {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "DS_LOG_LEVEL": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Outcome(None, f"no answer within {timeout:.0f} s")
    if done.returncode < 0:
        return Outcome(None, f"the process died of {signal.Signals(-done.returncode).name}")
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        try:
            return Outcome(json.loads(lines[-1]))
        except json.JSONDecodeError:
            return Outcome(None, f"unexpected output: {lines[-1][:200]}")
    errors = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return Outcome(None, errors[-1].strip()[:300] if errors else f"exit code {done.returncode}")
