"""The quickstart's model and prompts, cut to a size that a benchmark can repeat."""

from __future__ import annotations

from pathlib import Path

from irl_align.core.config import load_config
from irl_align.llm.config import AlignConfig
from irl_align.llm.models import import_package_model

__all__ = ["FOLDER", "base_model", "quickstart"]

FOLDER = Path(".bench")


def quickstart(*overrides: str) -> AlignConfig:
    """The shipped quickstart configuration with `overrides`."""
    return load_config(AlignConfig, Path("configs/llm/quickstart.yaml"), overrides)


def base_model() -> Path:
    """SmolLM2-135M-Instruct as a folder, converted once."""
    folder = FOLDER / "smollm2"
    if not (folder / "config.json").exists():
        import_package_model(quickstart().model.path, folder)
    return folder
