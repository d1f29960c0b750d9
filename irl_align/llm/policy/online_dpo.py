"""One round of online DPO: pairs from the current policy, the stable DPOTrainer, a named reference.

loss = -log sigmoid(beta [log pi/pi_ref (chosen) - log pi/pi_ref (rejected)])

or what `policy.loss_type` says, and with policy.method=rpo the demonstrations' likelihood beside it
(see `dpo_trainers`).

The reference is pi_0 in every round (`reference="sft"` or "base") or the policy at the start of the
round ("previous", mirror descent). With LoRA, TRL copies an adapter that it is handed into the
reference, which would silently make it "previous"; so pi_0 goes in bare, TRL adds a fresh adapter
(reference = adapters off = pi_0), and pi_t's adapter weights are put into that.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irl_align.llm.chat import render, response_tokens
from irl_align.llm.data.schema import Demonstration
from irl_align.llm.models.adapters import adapter_base_dtype, load_adapted_lm, lora_config
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef, continue_adapter, save_policy
from irl_align.llm.policy.fused_head import completions_only
from irl_align.llm.policy.kl import answer_tokens
from irl_align.llm.policy.pairs import PolicyPair
from irl_align.llm.training import (
    run_training,
    training_arguments,
    whole_batches,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from irl_align.llm.config import ModelConfig, PolicyConfig

__all__ = ["fit_dpo", "make_dpo_trainer", "split_over_long"]


def _rows(pairs: Sequence[PolicyPair]) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [dict(m) for m in p.prompt],
            "chosen": [{"role": "assistant", "content": p.chosen}],
            "rejected": [{"role": "assistant", "content": p.rejected}],
        }
        for p in pairs
    ]


def _leave_open(
    dataset: Dataset, pairs: Sequence[PolicyPair], tokenizer: PreTrainedTokenizerBase
) -> Dataset:
    """TRL's tokens of `pairs`, without the end that its template gave to answers that had none.

    With it, to reject an answer that was cut off would teach not to end it.
    """
    if all(pair.rejected_finished for pair in pairs):
        return dataset

    def cut(row: dict[str, Any], index: int) -> dict[str, Any]:
        pair = pairs[index]
        if pair.rejected_finished:
            return {"rejected_ids": row["rejected_ids"]}
        ids, _ = answer_tokens(tokenizer, pair.prompt, pair.rejected, finished=False)
        return {"rejected_ids": ids[len(row["prompt_ids"]) :]}

    return dataset.map(cut, with_indices=True)


def split_over_long(
    pairs: Sequence[PolicyPair], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[PolicyPair], int]:
    """(pairs that fit, number of those with a side over `max_length` tokens, prompt included)."""

    def tokens(pair: PolicyPair, answer: str) -> int:
        return len(response_tokens(tokenizer, render(tokenizer, pair.prompt, answer)))

    fit = [p for p in pairs if max(tokens(p, p.chosen), tokens(p, p.rejected)) <= max_length]
    return fit, len(pairs) - len(fit)


def make_dpo_trainer(
    policy: PolicyRef,
    initial: PolicyRef,
    pairs: Sequence[PolicyPair],
    config: PolicyConfig,
    model_config: ModelConfig,
    *,
    seed: int,
    scratch: Path,
    anchors: Sequence[Demonstration] = (),
    weights: tuple[float, float] = (1.0, 1.0),
) -> Any:
    """A DPOTrainer whose policy is pi_t and whose reference is the one that `config` names.

    With `anchors` the loss is alpha DPO + gamma NLL, `weights` = (alpha, gamma).
    """
    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from irl_align.llm.policy.dpo_trainers import (
        ANCHOR,
        AnchoredDPOTrainer,
        SummedIPOTrainer,
        collate_anchors,
    )

    summed = config.loss_type == "ipo_sum"
    arguments = training_arguments(
        config,
        model_config,
        seed=seed,
        scratch=scratch,
        kind=DPOConfig,
        beta=config.beta,
        loss_type=["ipo" if summed else config.loss_type],
        label_smoothing=config.label_smoothing,
        max_length=None,  # TRL would cut in silence; `split_over_long` has left the long out
    )
    tokenizer = load_tokenizer(policy.model, model_config)
    fixed = config.reference != "previous"
    ordered = whole_batches(
        pairs,
        config.batch_size,
        seed,
        epochs=config.epochs,
        length=lambda p: max(len(p.chosen), len(p.rejected)),
    )
    rows = _rows(ordered)
    trainer_class: Any = SummedIPOTrainer if summed else DPOTrainer
    if anchors:
        trainer_class = AnchoredDPOTrainer
        for row, anchor in zip(rows, _cycled(anchors, len(rows), seed), strict=True):
            ids, first = answer_tokens(tokenizer, anchor.prompt, anchor.response)
            row[ANCHOR] = {"ids": ids, "start": first}
    common: dict[str, Any] = {
        "args": arguments,
        "train_dataset": Dataset.from_list(rows),
        "processing_class": tokenizer,
    }

    def finished(trainer: Any) -> Any:
        trainer.train_dataset = _leave_open(trainer.train_dataset, ordered, tokenizer)
        if anchors:
            trainer.alpha, trainer.gamma = weights
            trainer.data_collator = collate_anchors(
                trainer.data_collator, int(tokenizer.pad_token_id)
            )
        return trainer

    if config.lora is None:
        reference = initial if fixed else policy
        return finished(
            trainer_class(
                model=load_causal_lm(policy.model, model_config),
                ref_model=load_causal_lm(reference.model, model_config),
                **common,
            )
        )
    start = _start(policy, initial, config)
    model = load_causal_lm(start.model, model_config, dtype=adapter_base_dtype(model_config))
    torch.manual_seed(seed)  # the adapters' start must depend on nothing drawn before
    trainer = trainer_class(
        model=model, peft_config=lora_config(config.lora, model, "CAUSAL_LM"), **common
    )
    continue_adapter(trainer.model, policy, initial, config.reference)
    return finished(trainer)


def _cycled(anchors: Sequence[Demonstration], count: int, seed: int) -> list[Demonstration]:
    """`count` of them, each as often as the others, in an order drawn by `seed`."""
    generator = random.Random(seed)
    found: list[Demonstration] = []
    while len(found) < count:
        found += generator.sample(list(anchors), len(anchors))
    return found[:count]


def _start(policy: PolicyRef, initial: PolicyRef, config: PolicyConfig) -> PolicyRef:
    """Whose weights the trained model is loaded from: under adapters, the reference's."""
    return initial if config.lora is not None and config.reference != "previous" else policy


def fit_dpo(
    policy: PolicyRef,
    initial: PolicyRef,
    pairs: Sequence[PolicyPair],
    out: Path,
    probe: Demonstration,
    config: PolicyConfig,
    model_config: ModelConfig,
    *,
    seed: int,
    scratch: Path,
    save_dtype: str = "bfloat16",
    anchors: Sequence[Demonstration] = (),
    weights: tuple[float, float] = (1.0, 1.0),
) -> dict[str, float]:
    """Improve `policy` on `pairs` and save pi_{t+1} into `out`; returns `policy/*` metrics."""
    trainer = make_dpo_trainer(
        policy, initial, pairs, config, model_config, seed=seed, scratch=scratch, anchors=anchors,
        weights=weights,
    )  # fmt: skip
    with completions_only(trainer.args.device):
        metrics = run_training(trainer, "policy", out, description=config.method.replace("_", " "))
    start = _start(policy, initial, config)
    save_policy(
        trainer.accelerator.unwrap_model(trainer.model),
        partial(load_adapted_lm, start.model, model_config, config.lora, seed),
        trainer.processing_class,
        out,
        probe,
        dtype=save_dtype,
    )
    metrics["policy/pairs"] = float(len(pairs))
    unlikely = [row["nll"] for row in trainer.state.log_history if "nll" in row]
    if unlikely:
        metrics["policy/first_nll"], metrics["policy/nll"] = unlikely[0], unlikely[-1]
    accuracies = [
        row["rewards/accuracies"]
        for row in trainer.state.log_history
        if "rewards/accuracies" in row
    ]
    if accuracies:
        metrics["policy/implicit_accuracy"] = float(accuracies[-1])
    return metrics
