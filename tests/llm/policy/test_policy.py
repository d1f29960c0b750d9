"""Policies: SFT, online DPO and the reference that it really uses, merging."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny import WORDS, write_demonstrations

from irl_align.core.errors import UserError
from irl_align.llm.chat import render, render_prompt, response_tokens
from irl_align.llm.config import LoraSettings, ModelConfig, PolicyConfig, SFTConfig
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.generation.probe import LogprobProbe
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.fused_head import completions_only
from irl_align.llm.policy.online_dpo import fit_dpo, make_dpo_trainer
from irl_align.llm.policy.pairs import PolicyPair
from irl_align.llm.policy.sft import fit_sft

MODEL = ModelConfig(bf16=False)
LORA = LoraSettings(r=4, alpha=8)
BETA = 0.3


def prompt_of(i: int):
    return [{"role": "user", "content": f"say {WORDS[i]} {i}"}]


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


def test_a_rejected_answer_that_was_cut_off_has_no_end_token(sft, tmp_path):
    """Else rejecting it would make ends less likely, which is the opposite of what is wanted."""
    pairs = [replace(p, rejected_finished=i % 2 == 0) for i, p in enumerate(PAIRS)]
    trainer = make_dpo_trainer(
        sft[0], sft[0], pairs, policy_config(), MODEL, seed=1, scratch=tmp_path
    )
    tokenizer = load_tokenizer(sft[0].model)
    finished = {pair.rejected: pair.rejected_finished for pair in pairs}
    assert len(finished) == len(pairs)
    for row in trainer.train_dataset:
        text = row["rejected"][0]["content"]
        assert tokenizer.eos_token_id in row["chosen_ids"]
        if finished[text]:
            assert tokenizer.eos_token_id in row["rejected_ids"]
        else:
            assert tokenizer.decode(row["rejected_ids"]) == text
