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
from irl_align.llm.models import load_adapted_lm, load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef, save_policy
from irl_align.llm.training import run_training, training_arguments, whole_batches

if TYPE_CHECKING:
    from irl_align.llm.config import ModelConfig, SFTConfig

__all__ = ["fit_sft"]


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
    from datasets import Dataset
    from trl import SFTConfig as TrlSFTConfig
    from trl import SFTTrainer

    tokenizer = load_tokenizer(base.model, model_config)
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
    for demo in demonstrations:
        text = render(tokenizer, demo.prompt, demo.response)
        if len(response_tokens(tokenizer, text)) > config.max_length:
            too_long += 1
            continue
        answer = {"role": "assistant", "content": demo.response}
        rows.append({"prompt": [dict(m) for m in demo.prompt], "completion": [answer]})
    if not rows:
        raise UserError(
            f"all {too_long} demonstrations are over sft.max_length={config.max_length} tokens; "
            "raise it"
        )
    ordered = whole_batches(
        rows,
        config.batch_size,
        seed,
        epochs=config.epochs,
        length=lambda row: len(row["completion"][0]["content"]),
    )
    build = partial(load_adapted_lm, base.model, model_config, config.lora, seed)
    trainer = SFTTrainer(
        model=build(),
        args=arguments,
        train_dataset=Dataset.from_list(ordered),
        processing_class=tokenizer,
    )
    metrics = run_training(trainer, "sft", out, description="SFT")
    save_policy(
        trainer.accelerator.unwrap_model(trainer.model),
        build,
        tokenizer,
        out,
        demonstrations[0],
        dtype=save_dtype,
    )
    return metrics | {
        "sft/demonstrations": float(len(rows)),
        "sft/over_max_length": float(too_long),
    }
