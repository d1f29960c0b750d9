"""Chat templates, pad tokens and what a finished and an open conversation look like."""

from __future__ import annotations

import pytest
from tiny import TEMPLATE, tiny_tokenizer

from irl_align.core.errors import UserError
from irl_align.llm.chat import (
    prepare_tokenizer,
    render,
    render_prompt,
    response_tokens,
    template_hash,
)
from irl_align.llm.models.loading import load_tokenizer

PROMPT = [{"role": "user", "content": "say red"}]


def test_tokenizer_without_a_template_is_named_with_the_mend(tmp_path):
    tiny_tokenizer(template=None).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"no chat template.*chat_template\.jinja") as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_pad_token_of_its_own_is_kept():
    tokenizer = tiny_tokenizer()
    before = tokenizer.pad_token_id
    assert prepare_tokenizer(tokenizer, "here").pad_token_id == before


@pytest.mark.parametrize("pad", ["<|im_end|>", None])
def test_pad_that_is_eos_or_missing_gets_a_spare_token(pad):
    tokenizer = tiny_tokenizer()
    size = len(tokenizer)
    tokenizer.pad_token = pad
    assert tokenizer.pad_token_id in (tokenizer.eos_token_id, None)
    prepare_tokenizer(tokenizer, "here")
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id, tokenizer.bos_token_id)
    assert len(tokenizer) == size, "embeddings must keep their size"


def test_no_spare_token_is_an_error():
    tokenizer = tiny_tokenizer(TEMPLATE + "{# <|endoftext|> #}")
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.unk_token = None
    with pytest.raises(UserError, match="pad token is its EOS"):
        prepare_tokenizer(tokenizer, "here")


def test_finished_and_open_rendering(tokenizer):
    finished = render(tokenizer, PROMPT, "good fish")
    cut = render(tokenizer, PROMPT, "good fish", finished=False)
    assert cut == "<|im_start|>user\nsay red<|im_end|>\n<|im_start|>assistant\ngood fish"
    assert finished == cut + "<|im_end|>\n"
    assert cut.startswith(render_prompt(tokenizer, PROMPT))
    eos = tokenizer.eos_token_id
    count = [response_tokens(tokenizer, text).count(eos) for text in (finished, cut)]
    assert count == [2, 1], "an open answer shows no end"


def test_rendered_text_gets_no_second_bos():
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    bos = ("<|im_start|>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[bos]
    )
    text = render(tokenizer, PROMPT, "good")
    assert tokenizer(text)["input_ids"].count(bos[1]) == 3, "this tokenizer adds one by itself"
    tokens = response_tokens(tokenizer, text)
    assert tokens.count(bos[1]) == text.count("<|im_start|>") == 2
    assert tokenizer.decode(tokens) == text


def test_template_hash_is_the_templates():
    one, same, other = (tiny_tokenizer(t) for t in (TEMPLATE, TEMPLATE, TEMPLATE + " "))
    assert template_hash(one) == template_hash(same) != template_hash(other)
    assert len(template_hash(one)) == 16
