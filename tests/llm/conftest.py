"""What the LLM tests share: tiny real models, made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Nothing here may reach for a hub or a proxy, and progress bars hide failures.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A random chat model."""
    from tiny import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "random")


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory) -> Path:
    """A chat model that answers in words and ends its answers."""
    from tiny import write_trained_model

    return write_trained_model(tmp_path_factory.mktemp("tiny") / "trained")


@pytest.fixture(scope="session")
def tokenizer(model_folder):
    from irl_align.llm.models.loading import load_tokenizer

    return load_tokenizer(model_folder)


@pytest.fixture
def classifier(model_folder):
    """A reward model with a head that is not zero, float32."""
    import torch

    from irl_align.llm.reward.classifier import load_classifier

    model = load_classifier(model_folder, new_head=True)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        weight = model.score.weight
        weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5)
    model.config.pad_token_id = 0
    return model.eval()
