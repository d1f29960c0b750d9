"""The generation process: owns an engine, obeys JSON lines on stdin, answers on stdout.

An engine wants memory, threads and environment of its own, and the operating system takes all of
it back when the process ends. The process ends with its parent, also when that is killed.

Requests: {"load": folder}, {"generate": {"prompts": [...], "settings": {...}}},
{"logprobs": [ids]}; answers: {"progress": n} any number of times, then {"result": ...} or
{"error": text, "mendable": bool}.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError, explain
from irl_align.llm.config import SamplingConfig
from irl_align.llm.generation.base import GenerationSettings, Generator, PromptTooLong
from irl_align.llm.processes import die_with_parent
from irl_align.llm.quiet import quiet_libraries

__all__ = ["make_generator"]


def make_generator(sampling: SamplingConfig) -> Generator:
    """The generator of an explicit backend ("vllm", "hf" or "endpoint"), in this process."""
    if sampling.backend == "vllm":
        from irl_align.llm.generation.vllm_engine import VllmGenerator

        return VllmGenerator(sampling)
    if sampling.backend == "hf":
        from irl_align.llm.generation.hf import HfGenerator

        return HfGenerator(sampling)
    if sampling.backend == "endpoint":
        from irl_align.llm.generation.endpoint import EndpointGenerator

        return EndpointGenerator(sampling)
    raise UserError(f"sampling.backend={sampling.backend!r} is not one of vllm, hf, endpoint")


def _answer(out: Any, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


def _obey(generator: Generator, request: dict[str, Any], out: Any) -> Any:
    if "load" in request:
        generator.load(Path(request["load"]))
        return None
    if "logprobs" in request:
        return generator.logprobs(request["logprobs"])
    job = request["generate"]
    found = generator.generate(
        job["prompts"],
        GenerationSettings(**job["settings"]),
        lambda n: _answer(out, {"progress": n}),
    )
    return [
        {"too_long": str(f)} if isinstance(f, PromptTooLong) else [asdict(c) for c in f]
        for f in found
    ]


def main() -> int:
    die_with_parent()
    # Libraries print to stdout; the answers get a channel that they do not know.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    quiet_libraries()
    generator = make_generator(SamplingConfig(**json.loads(sys.argv[1])))
    for line in sys.stdin:
        try:
            _answer(out, {"result": _obey(generator, json.loads(line), out)})
        except Exception as error:
            message = explain(error)
            text = message or "".join(traceback.format_exception(error))
            _answer(out, {"error": text, "mendable": message is not None})
    # An engine's tear-down can hang or print; nothing is left that it could save.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
