"""Supervised fine-tuning on the demonstrations: -mean_D log pi(y | x) over the answers' tokens.

The initial policy of the rounds and the baseline that they must beat. The loss is the mean over
the batch's answer tokens (prompt tokens carry none), by TRL's stable SFTTrainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irl_align.core.errors import UserError
from irl_align.llm.chat import render, response_tokens
from irl_align.llm.data.schema import Demonstration
from irl_align.llm.models.adapters import load_adapted_lm
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef, continue_adapter, save_policy
from irl_align.llm.training import run_training, training_arguments, whole_batches

if TYPE_CHECKING:
    from irl_align.llm.config import ModelConfig, PolicyConfig, SFTConfig

__all__ = ["fit_answers", "fit_sft"]


def fit_sft(
    base: PolicyRef,
    demonstrations: Sequence[Demonstration],
    out: Path,
    config: SFTConfig,
    model_config: ModelConfig,
    *,
    seed: int,
    scratch: Path,
    save_dtype: str = "bfloat16",
) -> dict[str, float]:
    """Fine-tune `base` and save the policy into `out`; returns `sft/*` metrics.

    Demonstrations over `config.max_length` tokens are left out and counted; raises
    :class:`UserError` when none is left.
    """
    metrics = fit_answers(
        base, base, demonstrations, out, config, model_config,
        reference="base", seed=seed, scratch=scratch, save_dtype=save_dtype, phase="sft",
    )  # fmt: skip
    return metrics | {"sft/demonstrations": metrics.pop("sft/answers")}


def fit_answers(
    policy: PolicyRef,
    initial: PolicyRef,
    answers: Sequence[Demonstration],
    out: Path,
    config: SFTConfig | PolicyConfig,
    model_config: ModelConfig,
    *,
    reference: str,
    seed: int,
    scratch: Path,
    save_dtype: str,
    phase: str,
) -> dict[str, float]:
    """Supervised steps from `policy` on `answers`; `<phase>/*` metrics.

    Under LoRA with a fixed `reference` the adapters are on `initial` and go on from the policy's.
    """
    from datasets import Dataset
    from trl import SFTConfig as TrlSFTConfig
    from trl import SFTTrainer

    tokenizer = load_tokenizer(policy.model, model_config)
    arguments = training_arguments(
        config,
        model_config,
        seed=seed,
        scratch=scratch,
        kind=TrlSFTConfig,
        max_length=None,
        packing=False,
        shuffle_dataset=False,
        eos_token=None,
    )
    rows: list[dict[str, Any]] = []
    too_long = 0
    for answer in answers:
        text = render(tokenizer, answer.prompt, answer.response)
        if len(response_tokens(tokenizer, text)) > config.max_length:
            too_long += 1
            continue
        completion = [{"role": "assistant", "content": answer.response}]
        rows.append({"prompt": [dict(m) for m in answer.prompt], "completion": completion})
    if not rows:
        what = "demonstrations" if phase == "sft" else "answers"
        raise UserError(
            f"all {too_long} {what} are over {phase}.max_length={config.max_length} tokens; "
            "raise it"
        )
    ordered = whole_batches(
        rows,
        config.batch_size,
        seed,
        epochs=config.epochs,
        length=lambda row: len(row["completion"][0]["content"]),
    )
    start = initial if config.lora is not None and reference != "previous" else policy
    build = partial(load_adapted_lm, start.model, model_config, config.lora, seed)
    model = build()
    if config.lora is not None:
        continue_adapter(model, policy, initial, reference)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(ordered),
        processing_class=tokenizer,
    )
    metrics = run_training(
        trainer, phase, out, description="SFT" if phase == "sft" else "best answers"
    )
    save_policy(
        trainer.accelerator.unwrap_model(trainer.model),
        build,
        tokenizer,
        out,
        answers[0],
        dtype=save_dtype,
    )
    return metrics | {
        f"{phase}/answers": float(len(rows)),
        f"{phase}/over_max_length": float(too_long),
    }
