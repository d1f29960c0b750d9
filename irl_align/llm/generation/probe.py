"""Does the engine hold the policy that the trainer saved? One text's log probabilities tell.

Weights that were not loaded, a stale output layer, a wrong rope setting or a doubled BOS give
plausible text and no error. So every policy that is saved leaves `probe.json` beside it: token ids
of one conversation and the trainer's log probabilities, computed from the saved folder in the
precision of the engine. After each load the engine must find the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.llm.chat import render, response_tokens
from irl_align.llm.config import ModelConfig
from irl_align.llm.data.schema import Message
from irl_align.llm.generation.base import Generator
from irl_align.llm.generation.hf import token_logprobs
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer

__all__ = ["PROBE_NAME", "LogprobProbe", "ProbeDrift", "check_probe", "write_probe"]

PROBE_NAME = "probe.json"
_MAX_TOKENS = 256


class ProbeDrift(RuntimeError):
    """The engine's log probabilities are not the trainer's: it holds other weights."""


@dataclass
class LogprobProbe:
    """`logprobs[i]` belongs to `token_ids[i + 1]`; natural logarithm."""

    token_ids: list[int]
    logprobs: list[float]
    dtype: str

    @classmethod
    def read(cls, path: Path) -> LogprobProbe:
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is no logprob probe ({error}); redo that phase") from error


def write_probe(
    model: Path, out: Path, prompt: Sequence[Message], response: str, *, dtype: str
) -> LogprobProbe:
    """Compute the probe of a saved policy folder and write `out`."""
    tokenizer = load_tokenizer(model)
    text = render(tokenizer, prompt, response)
    ids = response_tokens(tokenizer, text)[:_MAX_TOKENS]
    policy = load_causal_lm(model, ModelConfig(path=str(model)), dtype=dtype).eval()
    probe = LogprobProbe(ids, token_logprobs(policy, ids), dtype)
    atomic_write_json(out, asdict(probe))
    return probe


def check_probe(generator: Generator, probe: LogprobProbe, tolerance: float) -> float:
    """Mean |logprob(engine) - logprob(trainer)| per token; :class:`ProbeDrift` over `tolerance`.

    In bfloat16 two right implementations differ by about 0.02, in float32 by less than 1e-4;
    weights of another round differ by more than `tolerance` or do not matter.
    """
    found = generator.logprobs(probe.token_ids)
    gaps = [abs(a - b) for a, b in zip(found, probe.logprobs, strict=False)]
    gap = sum(gaps) / max(len(gaps), 1)
    if not gap <= tolerance:
        raise ProbeDrift(
            f"the engine's log probabilities differ from the trainer's by {gap:.3f} per token "
            f"(allowed {tolerance}): it does not hold the policy that was saved. Use "
            "sampling.engine=fresh, or sampling.backend=hf."
        )
    return gap
