"""vLLM against Hugging Face generate: the same prompts, the same model, tokens per second.

Also checks that both are the same policy: in float32 their greedy tokens must be equal.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

from eval.bench.workload import base_model, quickstart
from irl_align.llm.config import SamplingConfig
from irl_align.llm.generation.base import GenerationSettings
from irl_align.llm.generation.client import EngineProcess
from irl_align.llm.run_data import training_prompts

__all__ = ["run"]

PROMPTS = 32
RUNS = 3


def _engine(sampling: SamplingConfig) -> EngineProcess:
    engine = EngineProcess(sampling)
    engine.load(base_model())
    return engine


def _ask(engine: EngineProcess, prompts: list[Any], settings: GenerationSettings) -> list[Any]:
    return engine.ask({"generate": {"prompts": prompts, "settings": settings.__dict__}})


def run() -> dict[str, Any]:
    config = quickstart()
    prompts = [[dict(m) for m in p.messages] for p in training_prompts(config)[:PROMPTS]]
    rates: dict[str, list[float]] = {}
    greedy: dict[str, list[list[int]]] = {}
    for backend in ("vllm", "hf"):
        exact = replace(config.sampling, backend=backend, dtype="float32", batch_size=16)
        engine = _engine(exact)
        found = _ask(engine, prompts[:16], GenerationSettings(temperature=0.0, max_new_tokens=48))
        greedy[backend] = [completions[0]["token_ids"] for completions in found]
        engine.close()

        # The engine as the quickstart uses it; generate with batches of 32 sequences.
        size = config.sampling.batch_size if backend == "vllm" else 32
        engine = _engine(replace(config.sampling, backend=backend, batch_size=size))
        settings = GenerationSettings(
            n=config.sampling.samples_per_prompt,
            temperature=config.sampling.temperature,
            max_new_tokens=config.sampling.max_new_tokens,
        )
        _ask(engine, prompts[:4], settings)
        rates[backend] = []
        for seed in range(RUNS if backend == "vllm" else 1):
            start = time.perf_counter()
            found = _ask(engine, prompts, replace(settings, seed=seed))
            tokens = sum(c["tokens"] for completions in found for c in completions)
            rates[backend].append(tokens / (time.perf_counter() - start))
        engine.close()
        print(f"generation, {backend}: {[round(r) for r in rates[backend]]} tokens/s")
    same = sum(a == b for a, b in zip(greedy["vllm"], greedy["hf"], strict=True))
    print(f"generation: greedy tokens equal on {same} of {len(greedy['hf'])} prompts (float32)")
    ours, peer = statistics.median(rates["vllm"]), statistics.median(rates["hf"])
    return {
        "generation": {
            "ours": ours,
            "peer": peer,
            "ratio": ours / peer,
            "unit": "tokens/s, vLLM against HF generate (bfloat16, batch 32)",
            "runs": rates,
            "greedy_equal": [same, len(greedy["hf"])],
        }
    }
