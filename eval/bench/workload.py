"""The quickstart's model and prompts, cut to a size that a benchmark can repeat."""

from __future__ import annotations

from pathlib import Path

from irl_align.core.config import load_config
from irl_align.llm.config import AlignConfig
from irl_align.llm.models.package import import_package_model

__all__ = ["FOLDER", "base_model", "quickstart"]

FOLDER = Path(".bench")


def quickstart(*overrides: str) -> AlignConfig:
    """The shipped quickstart configuration with `overrides`."""
    return load_config(AlignConfig, Path("configs/llm/quickstart.yaml"), overrides)


def base_model() -> Path:
    """The quickstart's model with its chat template as a folder, converted once."""
    model = quickstart().model
    folder = FOLDER / f"smollm2-{Path(model.chat_template or 'own').stem}"
    if not (folder / "config.json").exists():
        import_package_model(model.path, folder, template=model.chat_template)
    return folder
