"""What the three training phases (SFT, reward, policy) share: arguments, batches, the run itself.

A step's loss must not depend on how many processes share its batch. The Hugging Face Trainer deals
micro-batches of one order out to the processes in turn, so whole global batches are the same sets
of examples for any number of processes; :func:`whole_batches` leaves no broken one at the end.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_text, to_json
from irl_align.llm.distributed import join, join_deepspeed, world
from irl_align.llm.quiet import show_progress

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from irl_align.llm.config import ModelConfig, OptimConfig

__all__ = [
    "STEPS_NAME",
    "join_for",
    "run_training",
    "training_arguments",
    "uses_deepspeed",
    "zero_stage",
    "whole_batches",
]

STEPS_NAME = "steps.jsonl"

Item = TypeVar("Item")


def uses_deepspeed(optim: OptimConfig) -> bool:
    """By the phase's own DeepSpeed file, or by what `accelerate launch` was configured with."""
    launched = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    return optim.deepspeed is not None or launched


def zero_stage(optim: OptimConfig) -> int:
    """The stage of ZeRO that a phase will train under, known before it starts; 0 without DeepSpeed.

    UserError when the DeepSpeed file cannot be read.
    """
    if not uses_deepspeed(optim):
        return 0
    path = optim.deepspeed or os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    if not path or not Path(path).is_file():  # Accelerate takes other things than files, too
        return int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return int(content.get("zero_optimization", {}).get("stage", 0))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no DeepSpeed configuration that can be read ({error})") from error


def join_for(optim: OptimConfig) -> None:
    """Enter the process group the way the phase's strategy wants it."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise UserError(
            "the accelerate configuration asks for FSDP, which these phases do not run under; "
            "use configs/accelerate/zero3.yaml, which shards the same things"
        )
    if uses_deepspeed(optim):
        join_deepspeed()
    else:
        join()


def whole_batches(
    items: Sequence[Item],
    batch_size: int,
    seed: int,
    *,
    length: Callable[[Item], int],
    epochs: float = 1.0,
) -> list[Item]:
    """The items of all `epochs` in the order of training, in whole global batches.

    Each epoch is an order of its own drawn by `seed`, filled up from its start: a broken last batch
    would weigh its examples by how they fall on processes and micro-batches. Fewer than
    `batch_size` examples come twice in an epoch. Inside a batch the items are sorted by `length`,
    so that micro-batches hold items of like length: the gradient is the same, the padding less.
    """
    generator = random.Random(seed)
    result: list[Item] = []
    for _ in range(math.ceil(epochs)):
        order = list(items)
        generator.shuffle(order)
        wanted = -(-len(order) // batch_size) * batch_size
        filled = [order[i % len(order)] for i in range(wanted)]
        for start in range(0, wanted, batch_size):
            result += sorted(filled[start : start + batch_size], key=length, reverse=True)
    batches = max(1, round(len(result) / batch_size * epochs / math.ceil(epochs)))
    return result[: batches * batch_size]


def training_arguments(
    optim: OptimConfig,
    model: ModelConfig,
    *,
    seed: int,
    scratch: Path,
    kind: type[TrainingArguments] | None = None,
    **more: Any,
) -> Any:
    """`TrainingArguments`, or TRL's `kind` of them with what `more` it takes.

    `optim.batch_size` is global: it is split over processes and accumulation steps, and a split
    that does not come out even is an error, because losses would then depend on the machine.
    Raises RuntimeError when the Trainer sees another number of processes than were launched.
    """
    from transformers import TrainingArguments

    processes = world().size
    per_step = optim.micro_batch_size * processes
    if optim.batch_size % per_step:
        raise UserError(
            f"batch_size={optim.batch_size} cannot be split over {processes} processes with "
            f"micro_batch_size={optim.micro_batch_size}; make it a multiple of {per_step}"
        )
    gpu = torch.cuda.is_available()
    arguments = (kind or TrainingArguments)(
        output_dir=str(scratch),
        num_train_epochs=1,  # the data come with all their epochs, see `whole_batches`
        train_sampling_strategy="sequential",
        learning_rate=optim.learning_rate,
        per_device_train_batch_size=optim.micro_batch_size,
        gradient_accumulation_steps=optim.batch_size // per_step,
        warmup_steps=optim.warmup_ratio,  # a float below 1 is a share of all steps
        lr_scheduler_type=optim.lr_scheduler,
        adam_epsilon=optim.adam_epsilon,
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.max_grad_norm,
        gradient_checkpointing=optim.gradient_checkpointing,
        deepspeed=optim.deepspeed,
        bf16=model.bf16,
        use_cpu=not gpu,
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        dataloader_drop_last=False,
        log_level="error",
        ddp_find_unused_parameters=False,
        **more,
    )
    if arguments.world_size != processes:
        raise RuntimeError(
            f"{processes} processes were launched, the Trainer sees {arguments.world_size}"
        )
    return arguments


def run_training(
    trainer: Trainer, phase: str, out: Path | None, *, description: str
) -> dict[str, float]:
    """`trainer.train()` behind a progress bar.

    Metrics `<phase>/{loss,steps,first_loss,last_loss,processes,zero_stage}`.

    Loss, gradient norm and learning rate of every step go into `out`/steps.jsonl.
    """
    show_progress(trainer, description)
    output = trainer.train()
    plugin = trainer.accelerator.state.deepspeed_plugin
    steps = [row for row in trainer.state.log_history if "loss" in row]
    if out is not None and world().is_main:
        rows = "".join(to_json(row, indent=None) + "\n" for row in steps)
        atomic_write_text(out / STEPS_NAME, rows)
    metrics = {
        f"{phase}/loss": float(output.training_loss),
        f"{phase}/steps": float(output.global_step),
        f"{phase}/processes": float(trainer.args.world_size),
        f"{phase}/zero_stage": float(plugin.zero_stage if plugin is not None else 0),
    }
    if steps:
        metrics[f"{phase}/first_loss"] = float(steps[0]["loss"])
        metrics[f"{phase}/last_loss"] = float(steps[-1]["loss"])
    return metrics
