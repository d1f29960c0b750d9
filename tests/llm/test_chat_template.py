"""Base models without a chat template: `model.chat_template` brings one, on the way to disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import write_demonstrations, write_tiny_model

from irl_align.core.config import to_dict
from irl_align.core.errors import UserError
from irl_align.llm.chat import render, render_prompt, response_tokens
from irl_align.llm.config import AlignConfig, DataConfig, ModelConfig, SamplingConfig
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.phases.table import run_job

TLDR = str(Path(__file__).parents[2] / "configs/llm/templates/tldr.jinja")
PROMPT = [{"role": "user", "content": "SUBREDDIT: r/birds\n\nTITLE: red\n\nPOST: old\n\nTL;DR:"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base") / "model", template=None)


def test_the_plain_template_adds_a_space_and_eos(base):
    tokenizer = load_tokenizer(base, template=TLDR)
    text = PROMPT[0]["content"]
    assert render_prompt(tokenizer, PROMPT) == text
    whole = render(tokenizer, PROMPT, "small bird")
    assert whole == text + " small bird" + tokenizer.eos_token
    assert render(tokenizer, PROMPT, "small bird", finished=False) == text + " small bird"
    assert response_tokens(tokenizer, whole)[-1] == tokenizer.eos_token_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_a_missing_template_is_a_clear_error(base, tmp_path):
    with pytest.raises(UserError, match=r"Set model\.chat_template"):
        load_tokenizer(base)
    with pytest.raises(UserError, match="no such file"):
        load_tokenizer(base, template=str(tmp_path / "no.jinja"))


def test_the_base_of_a_run_carries_the_template(base, tmp_path):
    """Later phases and engines load folders and know nothing of the configuration's file."""
    demonstrations = write_demonstrations(tmp_path / "demonstrations.jsonl", rows=2)
    config = AlignConfig(
        model=ModelConfig(path=str(base), chat_template=TLDR, bf16=False),
        demonstrations=DataConfig(path=str(demonstrations)),
        sampling=SamplingConfig(dtype="float32"),
    )
    out = tmp_path / "base"
    out.mkdir()
    run_job(PhaseJob("prepare", to_dict(config), {}, str(out), 0))
    tokenizer = load_tokenizer(out / "model")
    assert render(tokenizer, PROMPT, "x").endswith("TL;DR: x" + tokenizer.eos_token)
    probe = json.loads((out / "probe.json").read_text())
    assert len(probe["logprobs"]) == len(probe["token_ids"]) - 1
