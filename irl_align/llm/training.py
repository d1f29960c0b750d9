"""TrainingArguments shared by the three training phases (SFT, reward, policy)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from irl_align.core.errors import UserError
from irl_align.llm.distributed import world

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from irl_align.llm.config import ModelConfig, OptimConfig

__all__ = ["training_arguments", "training_settings"]


def training_settings(
    optim: OptimConfig, model: ModelConfig, *, seed: int, scratch: Path
) -> dict[str, Any]:
    """Keyword arguments for `TrainingArguments` and TRL's configs that inherit from it.

    `optim.batch_size` is global: it is split over processes and accumulation steps, and a split
    that does not come out even is an error, because losses would then depend on the machine.
    """
    processes = world().size
    per_step = optim.micro_batch_size * processes
    if optim.batch_size % per_step:
        raise UserError(
            f"batch_size={optim.batch_size} cannot be split over {processes} processes with "
            f"micro_batch_size={optim.micro_batch_size}; make it a multiple of {per_step}"
        )
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(scratch),
        "num_train_epochs": optim.epochs,
        "learning_rate": optim.learning_rate,
        "per_device_train_batch_size": optim.micro_batch_size,
        "gradient_accumulation_steps": optim.batch_size // per_step,
        "warmup_steps": optim.warmup_ratio,  # a float below 1 is a share of all steps
        "lr_scheduler_type": optim.lr_scheduler,
        "adam_epsilon": optim.adam_epsilon,
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.max_grad_norm,
        "gradient_checkpointing": optim.gradient_checkpointing,
        "deepspeed": optim.deepspeed,
        "bf16": model.bf16,
        "use_cpu": not gpu,
        "seed": seed,
        "data_seed": seed,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": gpu,
        "dataloader_drop_last": False,
        "log_level": "error",
        "ddp_find_unused_parameters": False,
    }


def training_arguments(
    optim: OptimConfig, model: ModelConfig, *, seed: int, scratch: Path
) -> TrainingArguments:
    from transformers import TrainingArguments

    return TrainingArguments(**training_settings(optim, model, seed=seed, scratch=scratch))
