"""Policies: pairs for online DPO, the reference that it really uses, merging, SFT, KL."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import WORDS, write_demonstrations

from irl_align.core.errors import UserError
from irl_align.llm.chat import render, render_prompt, response_tokens
from irl_align.llm.config import LoraSettings, ModelConfig, PolicyConfig, SFTConfig
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.generation.probe import LogprobProbe
from irl_align.llm.generation.samples import Completion, PromptSamples
from irl_align.llm.models import load_causal_lm, load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.fused_head import completions_only
from irl_align.llm.policy.kl import answer_logprobs, kl_estimates
from irl_align.llm.policy.online_dpo import fit_dpo, make_dpo_trainer
from irl_align.llm.policy.pairs import PolicyPair, best_against_worst
from irl_align.llm.policy.sft import fit_sft

MODEL = ModelConfig(bf16=False)
LORA = LoraSettings(r=4, alpha=8)
BETA = 0.3


def prompt_of(i: int):
    return [{"role": "user", "content": f"say {WORDS[i]} {i}"}]


# Pairs


def samples_of(*completions: tuple[str, float, bool]) -> PromptSamples:
    return PromptSamples(
        "p",
        prompt_of(0),
        [
            Completion(t, "stop" if f else "length", 3, scores={"reward": r})
            for t, r, f in completions
        ],
    )


def texts(pairs) -> list[tuple[str, str]]:
    return [(p.chosen, p.rejected) for p in pairs]


def test_argmax_against_argmin():
    item = samples_of(("b", 1.0, True), ("a", 3.0, True), ("d", -2.0, True), ("c", 0.5, True))
    pairs, dropped = best_against_worst([item])
    assert texts(pairs) == [("a", "d")]
    assert pairs[0].margin == 5.0
    assert not +dropped
    pairs, _ = best_against_worst([item], pairs_per_prompt=9)
    assert texts(pairs) == [("a", "d"), ("b", "c")]


def test_ties_and_single_answers_are_dropped_and_counted():
    tie = samples_of(("a", 1.0, True), ("b", 1.0, True))
    same = samples_of(("a", 1.0, True), ("a", 1.0, True), ("", 0.0, True))
    skipped = PromptSamples("s", prompt_of(1), [], skipped="too long")
    pairs, dropped = best_against_worst([tie, same, skipped])
    assert pairs == []
    assert +dropped == {"ties": 1, "fewer_than_two_completions": 1, "over_long_prompt": 1}


def test_cut_off_answers_are_excluded_or_rejected_but_never_chosen():
    item = samples_of(("a", 1.0, True), ("b", 0.0, True), ("cut", 9.0, False))
    pairs, dropped = best_against_worst([item], truncated="exclude")
    assert texts(pairs) == [("a", "b")]
    assert dropped == {"cut_off_completions": 1}
    pairs, dropped = best_against_worst([item], truncated="reject")
    assert texts(pairs) == [("a", "cut")], "however high it scored"
    only_cut = samples_of(("cut", 9.0, False), ("cut too", 1.0, False))
    for truncated in ("exclude", "reject"):
        assert best_against_worst([only_cut], truncated=truncated)[0] == []
    itself = samples_of(("a", 1.0, True), ("a", 1.0, False))
    assert best_against_worst([itself], truncated="reject")[0] == []


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(-3, 3), st.booleans()), max_size=10
    ),
    st.sampled_from(["exclude", "reject"]),
    st.integers(1, 4),
)
def test_pairs_keep_their_promises(completions, truncated, per_prompt):
    score = {text: value for text, value, _ in completions}  # a text has one score
    whole = {text for text, _, finished in completions if finished}
    item = samples_of(*((t, float(score[t]), f) for t, _, f in completions))
    pairs, _ = best_against_worst([item], truncated=truncated, pairs_per_prompt=per_prompt)
    assert len(pairs) <= per_prompt
    used = [t for p in pairs for t in (p.chosen, p.rejected)]
    assert len(used) == len(set(used)), "no text stands in two pairs or on both sides"
    for pair in pairs:
        assert pair.chosen in whole
        assert pair.margin == score[pair.chosen] - score[pair.rejected]
        if pair.rejected in whole:
            assert pair.margin > 0
        else:
            assert truncated == "reject"
    if pairs and truncated == "exclude":
        assert score[pairs[0].chosen] == max(score[t] for t in whole)
        assert score[pairs[0].rejected] == min(score[t] for t in whole)


# Training


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    path = write_demonstrations(tmp_path_factory.mktemp("demos") / "d.jsonl", rows=8)
    return load_demonstrations(str(path))[0]


@pytest.fixture(scope="module")
def sft(trained_folder, demonstrations, tmp_path_factory):
    """(the SFT policy, its metrics)."""
    out = tmp_path_factory.mktemp("sft")
    config = SFTConfig(
        epochs=3, learning_rate=5e-3, batch_size=4, micro_batch_size=2, warmup_ratio=0.0, lora=LORA
    )
    metrics = fit_sft(
        PolicyRef.at(trained_folder), demonstrations, out, config, MODEL,
        seed=1, scratch=out / "scratch", save_dtype="float32",
    )  # fmt: skip
    return PolicyRef.at(out), metrics


PAIRS = [
    PolicyPair(f"p{i}", prompt_of(i), f"good {WORDS[i]}", f"bad {WORDS[i + 1]} fish", 1.0)
    for i in range(6)
]


def policy_config(**changes) -> PolicyConfig:
    settings = {
        "epochs": 4, "learning_rate": 5e-3, "batch_size": 6, "micro_batch_size": 6,
        "warmup_ratio": 0.0, "lora": LORA, "beta": BETA,
    }  # fmt: skip
    return PolicyConfig(**(settings | changes))


@pytest.fixture(scope="module")
def improved(sft, demonstrations, tmp_path_factory):
    """The policy after one round of DPO with LoRA: an adapter that is not zero."""
    out = tmp_path_factory.mktemp("policy")
    metrics = fit_dpo(
        sft[0], sft[0], PAIRS, out, demonstrations[0], policy_config(), MODEL,
        seed=1, scratch=out / "scratch", save_dtype="float32",
    )  # fmt: skip
    return PolicyRef.at(out), metrics


def sequence_logprobs(model, tokenizer, texts) -> torch.Tensor:
    """log p(answer | prompt), end included, one text at a time; [N]."""
    found = []
    for prompt, answer in texts:
        head = response_tokens(tokenizer, render_prompt(tokenizer, prompt))
        ids = response_tokens(tokenizer, render(tokenizer, prompt, answer))
        assert ids[: len(head)] == head
        with torch.no_grad():
            table = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        found.append(sum(table[i - 1, ids[i]] for i in range(len(head), len(ids))))
    return torch.stack(found)


def folder_logprobs(ref: PolicyRef, texts) -> torch.Tensor:
    model = load_causal_lm(ref.model, MODEL).eval()
    return sequence_logprobs(model, load_tokenizer(ref.model), texts)


def hand_loss(policy: PolicyRef, reference: PolicyRef) -> float:
    """-mean log sigmoid(beta [log pi/ref (chosen) - log pi/ref (rejected)])."""
    chosen, rejected = (
        [(p.prompt, getattr(p, side)) for p in PAIRS] for side in ("chosen", "rejected")
    )
    gain = [
        folder_logprobs(policy, side) - folder_logprobs(reference, side)
        for side in (chosen, rejected)
    ]
    return torch.nn.functional.softplus(-BETA * (gain[0] - gain[1])).mean().item()


def loss_at_start(policy, sft, tmp_path, **changes) -> float:
    """What DPOTrainer computes before any step."""
    trainer = make_dpo_trainer(
        policy, sft, PAIRS, policy_config(**changes), MODEL, seed=1, scratch=tmp_path
    )
    batch = next(iter(trainer.get_train_dataloader()))  # all pairs: one batch is an epoch
    trainer.model.eval()
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch))


def test_completions_only_changes_no_loss_and_no_gradient(sft, improved, tmp_path, monkeypatch):
    """TRL's fused layer projects fewer positions; what is learned from them is the same."""
    from trl.trainer import utils

    trainer = make_dpo_trainer(
        improved[0], sft[0], PAIRS, policy_config(), MODEL, seed=1, scratch=tmp_path
    )
    batch = next(iter(trainer.get_train_dataloader()))
    projected: list[int] = []
    apply = utils._ChunkedLogProbFunction.apply
    monkeypatch.setattr(
        utils._ChunkedLogProbFunction,
        "apply",
        lambda hidden, *rest: projected.append(len(hidden)) or apply(hidden, *rest),
    )

    def loss_and_gradient() -> tuple[float, torch.Tensor]:
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
        return loss.item(), torch.cat(gradients)

    loss, gradient = loss_and_gradient()
    with completions_only(torch.device("cpu")):
        compact_loss, compact_gradient = loss_and_gradient()
    assert compact_loss == pytest.approx(loss, abs=1e-6)
    torch.testing.assert_close(compact_gradient, gradient, atol=1e-5, rtol=1e-4)
    assert gradient.abs().max() > 1e-4
    # policy and reference: all positions but the last, then those of the answers alone
    labelled = int(batch["completion_mask"][:, 1:].sum())
    assert projected == [batch["input_ids"][:, 1:].numel()] * 2 + [labelled] * 2
    assert labelled < batch["input_ids"][:, 1:].numel()


def test_sft_learns_and_leaves_a_probe(sft, trained_folder, demonstrations):
    ref, metrics = sft
    assert metrics["sft/demonstrations"] == 8
    assert metrics["sft/steps"] == 6
    assert metrics["sft/last_loss"] < metrics["sft/first_loss"]
    texts = [(d.prompt, d.response) for d in demonstrations]
    before = folder_logprobs(PolicyRef.at(trained_folder), texts).mean()
    assert folder_logprobs(ref, texts).mean() > before + 0.3
    probe = LogprobProbe.read(ref.probe)
    assert probe.dtype == "float32"
    assert ref.adapter is not None


def test_sft_first_loss_is_the_answers_mean_token_loss(trained_folder, demonstrations, tmp_path):
    """Answer tokens only: the prompt carries no loss."""
    config = SFTConfig(
        epochs=1, learning_rate=1e-9, batch_size=8, micro_batch_size=8, warmup_ratio=0.0
    )
    metrics = fit_sft(
        PolicyRef.at(trained_folder), demonstrations, tmp_path, config, MODEL,
        seed=1, scratch=tmp_path / "scratch", save_dtype="float32",
    )  # fmt: skip
    tokenizer = load_tokenizer(trained_folder)
    texts = [(d.prompt, d.response) for d in demonstrations]
    total = folder_logprobs(PolicyRef.at(trained_folder), texts).sum().item()
    tokens = sum(
        len(response_tokens(tokenizer, render(tokenizer, p, r)))
        - len(response_tokens(tokenizer, render_prompt(tokenizer, p)))
        for p, r in texts
    )
    assert metrics["sft/first_loss"] == pytest.approx(-total / tokens, abs=1e-3)


def test_sft_counts_what_is_too_long(trained_folder, demonstrations, tmp_path):
    config = SFTConfig(batch_size=4, micro_batch_size=4, max_length=3)
    with pytest.raises(UserError, match=r"all 8 demonstrations are over sft\.max_length=3"):
        fit_sft(
            PolicyRef.at(trained_folder), demonstrations, tmp_path, config, MODEL,
            seed=1, scratch=tmp_path, save_dtype="float32",
        )  # fmt: skip


def test_first_round_starts_at_log_2_and_learns(sft, improved):
    ref, metrics = improved
    assert metrics["policy/first_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert metrics["policy/last_loss"] < 0.6
    assert hand_loss(ref, sft[0]) < 0.55
    assert LogprobProbe.read(ref.probe).dtype == "float32"


@pytest.mark.parametrize("reference", ["sft", "base"])
@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_the_reference_of_a_later_round_is_where_the_rounds_began(
    sft, improved, tmp_path, lora, reference
):
    found = loss_at_start(improved[0], sft[0], tmp_path, lora=lora, reference=reference)
    assert found == pytest.approx(hand_loss(improved[0], sft[0]), abs=1e-3)
    assert abs(found - math.log(2)) > 0.05


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_reference_previous_starts_at_log_2(sft, improved, tmp_path, lora):
    found = loss_at_start(improved[0], sft[0], tmp_path, lora=lora, reference="previous")
    assert found == pytest.approx(math.log(2), abs=1e-5)


def test_a_lora_round_needs_an_adapter_on_sft(sft, trained_folder, tmp_path):
    with pytest.raises(UserError, match="no adapter/"):
        loss_at_start(PolicyRef.at(trained_folder), sft[0], tmp_path)


def test_another_rank_is_a_clear_error(sft, improved, tmp_path):
    with pytest.raises(UserError, match=r"does not fit policy\.lora"):
        loss_at_start(improved[0], sft[0], tmp_path, lora=LoraSettings(r=2, alpha=8))


def test_the_merged_model_is_the_adapter_on_sft(sft, improved):
    from peft import PeftModel

    tokenizer = load_tokenizer(improved[0].model)
    texts = [(p.prompt, p.chosen) for p in PAIRS]
    base = load_causal_lm(sft[0].model, MODEL)
    adapted = PeftModel.from_pretrained(base, str(improved[0].adapter)).eval()
    with_adapter = sequence_logprobs(adapted, tokenizer, texts)
    merged = folder_logprobs(improved[0], texts)
    torch.testing.assert_close(merged, with_adapter, atol=1e-4, rtol=0)
    assert (merged - folder_logprobs(sft[0], texts)).abs().max() > 0.1


def test_full_fine_tuning_saves_a_plain_policy(sft, demonstrations, tmp_path):
    metrics = fit_dpo(
        sft[0], sft[0], PAIRS, tmp_path, demonstrations[0],
        policy_config(lora=None, learning_rate=1e-3), MODEL,
        seed=1, scratch=tmp_path / "scratch", save_dtype="bfloat16",
    )  # fmt: skip
    ref = PolicyRef.at(tmp_path)
    assert ref.adapter is None
    assert metrics["policy/last_loss"] < metrics["policy/first_loss"]
    assert hand_loss(ref, sft[0]) < math.log(2) - 0.05


# KL


def test_kl_of_a_policy_with_itself_is_nothing(sft):
    answers = ["good fish", "bad tree house", "red"]
    found = kl_estimates(
        sft[0], sft[0], [prompt_of(i) for i in range(3)], answers, [True, True, False]
    )
    assert found == {"eval/kl": 0.0, "eval/kl_k1": 0.0}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_kl_of_given_answers_by_hand(sft, model_folder, temperature):
    """k3 and k1 over the answer's tokens up to its end, at the sampling temperature, in bfloat16
    as the program computes them. The reference never saw the template, so a token too many shows.
    """
    reference = PolicyRef.at(model_folder)
    answers = [("good fish", True), ("bad tree house", True), ("good warm", False)]
    prompts = [prompt_of(i) for i in range(3)]
    found = kl_estimates(
        sft[0], reference, prompts, [a for a, _ in answers], [w for _, w in answers],
        temperature=temperature,
    )  # fmt: skip
    tokenizer = load_tokenizer(sft[0].model)
    models = [load_causal_lm(r.model, MODEL, dtype="bfloat16").eval() for r in (sft[0], reference)]
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


def test_pairs_over_max_length_are_left_out_and_counted(tokenizer):
    from irl_align.llm.policy.online_dpo import split_over_long

    prompt = ({"role": "user", "content": "say red"},)
    short = PolicyPair("a", prompt, "good fish", "bad fish", 1.0)
    long = PolicyPair("b", prompt, "good fish", "bad fish " * 40, 1.0)
    assert split_over_long([short, long], tokenizer, 60) == ([short], 1)
    assert split_over_long([short, long], tokenizer, 1000) == ([short, long], 0)
