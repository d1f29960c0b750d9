"""PPO steps, run by the Hugging Face Trainer: DDP, ZeRO, accumulation and schedules are its own.

loss = sum over a step's tokens of share * (policy loss + value_coef * value loss)

with shares that sum to 1 over the step (all processes, all micro-batches), so a step is the same
however it is split.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from irl_align.core.files import atomic_write_text, to_json
from irl_align.llm.distributed import world
from irl_align.llm.policy.settings import PPOSettings
from irl_align.llm.ppo.actor_critic import ActorCritic
from irl_align.llm.ppo.losses import clipped_policy_loss, clipped_value_loss
from irl_align.llm.ppo.stream import ExperienceStream
from irl_align.llm.training import run_training

if TYPE_CHECKING:
    from transformers import TrainingArguments

__all__ = ["READ", "ROLLOUTS_NAME", "make_ppo_trainer", "ppo_loss", "train_ppo"]

ROLLOUTS_NAME = "rollouts.jsonl"
READ = ("input_ids", "attention_mask", "position_ids", "mask", "lower")  # by the models


def ppo_loss(
    logprobs: Tensor, values: Tensor, inputs: dict[str, Tensor], settings: PPOSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """(this micro-batch's part of the step's loss, its parts of the step's statistics)."""
    shares, old = inputs["shares"], inputs["old_logprobs"]
    policy, clipped = clipped_policy_loss(logprobs, old, inputs["advantages"], settings.clip)
    if "weights" in inputs:
        policy = policy * inputs["weights"]
    value = clipped_value_loss(values, inputs["old_values"], inputs["returns"], settings.value_clip)
    log_ratio = (logprobs - old).detach()
    statistics = {
        "policy_loss": (shares * policy.detach()).sum(),
        "value_loss": (shares * value.detach()).sum(),
        "clip_fraction": (shares * clipped).sum(),
        "approx_kl": (shares * (torch.expm1(log_ratio) - log_ratio)).sum(),  # of the old policy
    }
    return (shares * (policy + settings.value_coef * value)).sum(), statistics


def make_ppo_trainer(
    models: ActorCritic,
    stream: ExperienceStream,
    settings: PPOSettings,
    arguments: TrainingArguments,
) -> Any:
    """A Trainer whose data are `stream` and whose loss is PPO's; `trainer.sums` collects the
    statistics of this process."""
    from transformers import Trainer

    class _PPOTrainer(Trainer):
        sums: dict[str, Tensor]

        def get_train_dataloader(self) -> Any:
            return stream  # as it is: a loader that looked ahead would sample from old weights

        def compute_loss(
            self,
            model: nn.Module,
            inputs: dict[str, Tensor],
            return_outputs: bool = False,
            num_items_in_batch: Tensor | int | None = None,
        ) -> Any:
            logprobs, values = model(**{name: inputs[name] for name in READ if name in inputs})
            loss, statistics = ppo_loss(logprobs, values, inputs, settings)
            for name, value in statistics.items():
                self.sums[name] = self.sums.get(name, 0.0) + value.double()
            # The Trainer takes the mean over micro-batches and processes; shares want the sum.
            return loss * (stream.accumulation * world().size)

    trainer = _PPOTrainer(model=models, args=arguments, train_dataset=_Unread(len(stream)))
    trainer.sums = {}
    return trainer


class _Unread(torch.utils.data.Dataset[Any]):
    """A Trainer wants a dataset; this one is never asked for an item."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


def train_ppo(
    models: ActorCritic,
    stream: ExperienceStream,
    settings: PPOSettings,
    arguments: TrainingArguments,
    out: Path | None = None,
) -> tuple[Any, dict[str, float]]:
    """Run all steps; (trainer, metrics `policy/*`).

    Of the sampled batches the last one's numbers are reported (`policy/{score,kl,return,...}`), and
    all of them go into `out`/rollouts.jsonl; losses are means over all steps.
    """
    trainer = make_ppo_trainer(models, stream, settings, arguments)
    metrics = run_training(trainer, "policy", out, description="PPO")
    steps = max(metrics["policy/steps"], 1.0)
    sums = torch.stack([trainer.sums[k] for k in sorted(trainer.sums)])
    totals = trainer.accelerator.reduce(sums, "sum").cpu()
    for name, total in zip(sorted(trainer.sums), totals, strict=True):
        metrics[f"policy/{name}"] = float(total) / steps
    if out is not None and world().is_main:
        rows = "".join(to_json(row, indent=None) + "\n" for row in stream.history)
        atomic_write_text(out / ROLLOUTS_NAME, rows)
    metrics |= {f"policy/{name}": value for name, value in stream.history[-1].items()}
    metrics["policy/first_score"] = stream.history[0]["score"]
    metrics["policy/episodes"] = float(len(stream.history) * settings.rollout_batch)
    metrics["policy/mean_kl"] = sum(r["kl"] for r in stream.history) / len(stream.history)
    return trainer, metrics
