"""Log-likelihood and implicit reward against plain transformers, whatever the batches."""

from __future__ import annotations

import pytest
import torch
from tiny import WORDS, write_tiny_model

from irl_align.core.errors import UserError
from irl_align.llm.chat import render_prompt, response_tokens
from irl_align.llm.policy.likelihood import ImplicitRewardScorer, LikelihoodScorer

PROMPTS = [[{"role": "user", "content": f"say {w} {'x ' * (3 * i)}"}] for i, w in enumerate(WORDS)]
ANSWERS = ["good " * (1 + 5 * (i % 4)) + w for i, w in enumerate(WORDS)]


@pytest.fixture(scope="module")
def scorer(model_folder):
    return LikelihoodScorer.load(model_folder, device="cpu")


def by_hand(scorer, prompt, answer, finished=True):
    head = response_tokens(scorer.tokenizer, render_prompt(scorer.tokenizer, prompt))
    ids = head + response_tokens(scorer.tokenizer, answer)
    ids += [scorer.tokenizer.eos_token_id] if finished else []
    with torch.no_grad():
        table = scorer.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(table[i - 1, ids[i]].item() for i in range(len(head), len(ids)))


def test_the_sum_over_the_answers_tokens_with_its_end(scorer):
    found = scorer.score(PROMPTS, ANSWERS, batch_size=4)
    for value, prompt, answer in zip(found, PROMPTS, ANSWERS, strict=True):
        assert value == pytest.approx(by_hand(scorer, prompt, answer), abs=1e-4)
    cut = scorer.score(PROMPTS[:1], ANSWERS[:1], finished=[False])
    assert cut[0] == pytest.approx(by_hand(scorer, PROMPTS[0], ANSWERS[0], False), abs=1e-4)


def test_neither_batch_size_nor_padding_side_matters(scorer, model_folder):
    one = scorer.score(PROMPTS, ANSWERS, batch_size=1)
    assert scorer.score(PROMPTS, ANSWERS, batch_size=16) == pytest.approx(one, abs=1e-4)
    left = LikelihoodScorer.load(model_folder, device="cpu")
    left.tokenizer.padding_side = "left"
    assert left.score(PROMPTS, ANSWERS, batch_size=16) == pytest.approx(one, abs=1e-4)


def test_the_implicit_reward_is_the_scaled_log_ratio(scorer, tmp_path):
    other = LikelihoodScorer.load(write_tiny_model(tmp_path / "other", seed=5), device="cpu")
    implicit = ImplicitRewardScorer(scorer, other, beta=0.3)
    expected = [
        0.3 * (a - b)
        for a, b in zip(scorer.score(PROMPTS, ANSWERS), other.score(PROMPTS, ANSWERS), strict=True)
    ]
    assert implicit.score(PROMPTS, ANSWERS, batch_size=5) == pytest.approx(expected, abs=1e-4)
    assert ImplicitRewardScorer(scorer, scorer).score(PROMPTS, ANSWERS) == [0.0] * len(PROMPTS)
    with pytest.raises(ValueError, match="beta"):
        ImplicitRewardScorer(scorer, other, beta=0.0)


def test_an_over_long_conversation_keeps_its_end_and_is_told(model_folder):
    short = LikelihoodScorer.load(model_folder, device="cpu", max_length=12)
    prompt, answer = PROMPTS[-1], ANSWERS[-1]
    assert short.too_long(prompt, answer)
    assert not LikelihoodScorer.load(model_folder, device="cpu").too_long(prompt, answer)
    assert torch.isfinite(torch.tensor(short.score([prompt], [answer]))).all()


def test_clear_errors(tmp_path):
    bare = write_tiny_model(tmp_path / "bare", template=None)
    with pytest.raises(UserError, match="chat template"):
        LikelihoodScorer.load(bare)
    with pytest.raises(UserError, match="nowhere"):
        LikelihoodScorer.load(tmp_path / "nowhere")
