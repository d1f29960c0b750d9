"""KL of policies and log probabilities of answers, by hand and by enumeration."""

from __future__ import annotations

import pytest
import torch
from tiny import WORDS

from irl_align.llm.chat import render_prompt, response_tokens
from irl_align.llm.config import ModelConfig
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.kl import answer_logprobs, kl_estimates

MODEL = ModelConfig(bf16=False)


def prompt_of(i: int):
    return [{"role": "user", "content": f"say {WORDS[i]} {i}"}]


def test_kl_of_a_policy_with_itself_is_nothing(trained_folder):
    policy = PolicyRef.at(trained_folder)
    answers = ["good fish", "bad tree house", "red"]
    found = kl_estimates(
        policy, policy, [prompt_of(i) for i in range(3)], answers, [True, True, False]
    )
    assert found == {"eval/kl": 0.0, "eval/kl_k1": 0.0}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_kl_of_given_answers_by_hand(trained_folder, model_folder, temperature):
    """k3 and k1 over the answer's tokens up to its end, at the sampling temperature, in bfloat16
    as the program computes them. The reference never saw the template, so a token too many shows.
    """
    policy, reference = PolicyRef.at(trained_folder), PolicyRef.at(model_folder)
    answers = [("good fish", True), ("bad tree house", True), ("good warm", False)]
    prompts = [prompt_of(i) for i in range(3)]
    found = kl_estimates(
        policy, reference, prompts, [a for a, _ in answers], [w for _, w in answers],
        temperature=temperature,
    )  # fmt: skip
    tokenizer = load_tokenizer(policy.model)
    models = [load_causal_lm(r.model, MODEL, dtype="bfloat16").eval() for r in (policy, reference)]
    k3, k1 = [], []
    for prompt, (answer, whole) in zip(prompts, answers, strict=True):
        head = response_tokens(tokenizer, render_prompt(tokenizer, prompt))
        ids = head + response_tokens(tokenizer, answer)
        ids += [tokenizer.eos_token_id] if whole else []
        ours, theirs = (
            torch.stack([table[i - 1, ids[i]] for i in range(len(head), len(ids))])
            for table in (
                (m(input_ids=torch.tensor([ids])).logits[0].float() / temperature).log_softmax(-1)
                for m in models
            )
        )
        ratio = (ours - theirs).detach()
        k3.append((torch.exp(-ratio) - 1 + ratio).sum().item())
        k1.append(ratio.sum().item())
    assert found["eval/kl"] == pytest.approx(sum(k3) / 3, rel=0.02)
    assert found["eval/kl_k1"] == pytest.approx(sum(k1) / 3, rel=0.02)
    assert found["eval/kl"] > 1.0


def test_answer_logprobs_by_exact_enumeration():
    """Two-token answers of a tiny vocabulary: probabilities sum to 1, and k3's mean is the KL."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def model(seed: int):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=6, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, initializer_range=0.5,
        )  # fmt: skip
        return LlamaForCausalLM(config).eval()

    head = [1, 2, 3]
    sequences = [[*head, a, b] for a in range(6) for b in range(6)]
    # Different lengths in one batch: padding must not leak into the numbers.
    longer = [[*head, 4, 4, 4, 4]]
    for temperature in (1.0, 0.5):
        policy, reference = (
            torch.stack(
                answer_logprobs(
                    m, sequences + longer, [3] * 37, 0, batch_size=7, temperature=temperature
                )[:36]
            ).double()
            for m in (model(0), model(1))
        )  # [36, 2]
        p = policy.sum(1).exp()
        assert p.sum().item() == pytest.approx(1.0, abs=1e-5)
        kl = (p * (policy.sum(1) - reference.sum(1))).sum()
        ratio = policy - reference
        k3 = (torch.exp(-ratio) - 1 + ratio).sum(1)
        assert (k3 >= 0).all()
        assert (p * k3).sum().item() == pytest.approx(kl.item(), abs=1e-5)


def test_the_output_layer_sees_a_copy_of_the_positions_that_are_asked_of_it(trained_folder):
    """Of a slice as it is a bfloat16 product on a CPU takes ten times as long."""
    model = load_causal_lm(trained_folder, MODEL)
    ids = torch.arange(24).reshape(3, 8)
    seen = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    asked = model(input_ids=ids, logits_to_keep=5).logits
    assert seen[0].shape[1] == 5 and seen[0].is_contiguous()
    torch.testing.assert_close(asked, model(input_ids=ids).logits[:, -5:])
