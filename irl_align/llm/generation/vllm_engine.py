"""vLLM, driven in the process that owns it (see :mod:`irl_align.llm.generation.worker`).

Three things need care, and each is checked after every load by the logprob probe:

* A CPU engine packs its weights at start; an in-place reload leaves a *tied* output layer stale
  (wrong text, no error), so the worker extension packs it again.
* The prefix cache belongs to the old weights and is dropped at each reload.
* Per-request seeds crash the CPU engine; the worker's generators are seeded before each call
  instead, which makes a call repeatable whatever ran before it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.llm.chat import render_prompt, response_tokens
from irl_align.llm.config import SamplingConfig
from irl_align.llm.data.schema import Message
from irl_align.llm.generation.base import GenerationSettings, Progress, PromptTooLong
from irl_align.llm.generation.hf import stop_token_ids
from irl_align.llm.generation.samples import Completion
from irl_align.llm.models.loading import load_tokenizer

__all__ = ["VllmGenerator", "WeightSync", "quiet_environment"]


def quiet_environment(sampling: SamplingConfig) -> dict[str, str]:
    """Environment of a process that is about to import vLLM."""
    wanted = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(sampling.cpu_kv_cache_gib),
        "HF_HUB_OFFLINE": "1",
    }
    if sampling.tensor_parallel_size == 1:
        # One process: start in seconds, and nothing is orphaned when it is killed.
        wanted["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return {k: os.environ.get(k, v) for k, v in wanted.items()}


class WeightSync:
    """Mixed into vLLM's worker (`worker_extension_cls`); runs beside the weights."""

    model_runner: Any

    def reload_from(self, folder: str) -> None:
        """Take the weights of a checkpoint folder of the same architecture, in place."""
        self.reload_weights(weights_path=folder)  # type: ignore[attr-defined]
        head = getattr(self.model_runner.get_model(), "lm_head", None)
        if head is not None and hasattr(head, "cpu_linear"):
            head.quant_method.process_weights_after_loading(head)

    def reseed(self, seed: int) -> None:
        import random

        import numpy as np
        import torch

        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)


class VllmGenerator:
    """An engine on one policy folder at a time."""

    def __init__(self, sampling: SamplingConfig) -> None:
        self.sampling = sampling
        self.engine: Any = None
        os.environ.update(quiet_environment(sampling))

    def load(self, model: Path) -> None:
        self.tokenizer = load_tokenizer(model)
        if self.engine is None:
            self._start(model)
        else:
            self.engine.collective_rpc("reload_from", args=(str(model),))
            self.engine.reset_prefix_cache()

    def _start(self, model: Path) -> None:
        import torch
        from transformers import AutoConfig
        from vllm import LLM

        sampling = self.sampling
        length = sampling.max_prompt_tokens + sampling.max_new_tokens
        limit = getattr(AutoConfig.from_pretrained(model), "max_position_embeddings", length)
        if sampling.max_new_tokens >= limit:
            raise UserError(
                f"sampling.max_new_tokens={sampling.max_new_tokens} does not fit the model's "
                f"{limit} positions"
            )
        settings: dict[str, Any] = {
            "model": str(model),
            "dtype": sampling.dtype,
            "max_model_len": min(length, limit),
            "max_num_seqs": sampling.batch_size,
            "seed": 0,
            "enforce_eager": not torch.cuda.is_available(),
            "disable_log_stats": True,
            "logprobs_mode": "processed_logprobs",  # of the distribution that is sampled from
            "worker_extension_cls": f"{WeightSync.__module__}.{WeightSync.__qualname__}",
        }
        if torch.cuda.is_available():
            settings["gpu_memory_utilization"] = sampling.gpu_memory_utilization
            settings["tensor_parallel_size"] = sampling.tensor_parallel_size
        self.engine = LLM(**settings)
        self.max_model_len = settings["max_model_len"]
        self.stops = stop_token_ids(self.tokenizer, _generation_config(model))

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        settings: GenerationSettings,
        progress: Progress | None = None,
    ) -> list[list[Completion] | PromptTooLong]:
        from vllm import SamplingParams

        limit = min(settings.max_prompt_tokens, self.max_model_len - settings.max_new_tokens)
        tokens = [
            response_tokens(self.tokenizer, render_prompt(self.tokenizer, p)) for p in prompts
        ]
        results: list[list[Completion] | PromptTooLong] = [
            PromptTooLong(f"{len(t)} tokens, over max_prompt_tokens={limit}") for t in tokens
        ]
        order = [i for i in range(len(prompts)) if len(tokens[i]) <= limit]
        parameters = SamplingParams(
            n=settings.n,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_new_tokens,
            stop_token_ids=self.stops,
            logprobs=0 if settings.logprobs else None,  # 0: of the sampled tokens alone
        )
        self.engine.reset_prefix_cache()
        self.engine.collective_rpc("reseed", args=(settings.seed,))
        # Chunks much larger than the engine's batch keep it full and let progress be shown.
        step = max(1, 4 * self.sampling.batch_size // settings.n)
        for start in range(0, len(order), step):
            chunk = order[start : start + step]
            outputs = self.engine.generate(
                [{"prompt_token_ids": tokens[i]} for i in chunk], parameters, use_tqdm=False
            )
            for index, output in zip(chunk, outputs, strict=True):
                results[index] = [
                    Completion(
                        str(
                            self.tokenizer.decode(list(o.token_ids), skip_special_tokens=True)
                        ).strip(),
                        "stop" if o.finish_reason == "stop" else "length",
                        len(o.token_ids),
                        token_ids=list(o.token_ids),
                        logprobs=_sampled_logprobs(o) if settings.logprobs else None,
                    )
                    for o in output.outputs
                ]
            if progress:
                progress(len(chunk))
        return results

    def logprobs(self, token_ids: Sequence[int]) -> list[float]:
        from vllm import SamplingParams

        parameters = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        ids = list(token_ids)[: self.max_model_len - 1]
        self.engine.reset_prefix_cache()
        output = self.engine.generate([{"prompt_token_ids": ids}], parameters, use_tqdm=False)[0]
        return [
            float(entry[token].logprob)
            for token, entry in zip(ids[1:], output.prompt_logprobs[1:], strict=True)
        ]

    def close(self) -> None:
        self.engine = None


def _sampled_logprobs(output: Any) -> list[float]:
    return [
        float(entry[token].logprob)
        for token, entry in zip(output.token_ids, output.logprobs, strict=True)
    ]


def _generation_config(model: Path) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(model)
    except OSError:
        return None
