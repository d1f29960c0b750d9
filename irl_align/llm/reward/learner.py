"""Fitting a reward model on groups of texts (the outer level of the bi-level problem).

One optimiser step minimises, over a batch of groups,

    mean_g  w_g * mean_j  l(r(demo_g), r(sample_gj))          (demonstration groups)
    mean_g  w_g * -log sigmoid(r(chosen_g) - r(rejected_g))   (human pairs, AIHF eq. 4.23)

with l one of :mod:`irl_align.core.objectives`. The Hugging Face Trainer runs the steps, so DDP,
ZeRO, accumulation and schedules are its own; a group is one example, so equal numbers of groups a
process make the loss equal to one process with the same global batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from irl_align.core.errors import UserError
from irl_align.core.objectives import DemonstrationObjective, bradley_terry, demonstration_loss
from irl_align.llm.distributed import all_gather_objects, world
from irl_align.llm.packing import pack
from irl_align.llm.reward.pairs import PairGroup, fill_batches
from irl_align.llm.reward.scorer import RewardScorer
from irl_align.llm.training import run_training

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from irl_align.llm.config import RewardConfig

__all__ = ["batch_loss", "fit_reward", "group_accuracy", "read_groups", "score_groups"]


def collate(pad_token_id: int, shared_prefix: bool) -> Callable[[list[PairGroup]], dict[str, Any]]:
    def make(groups: list[PairGroup]) -> dict[str, Any]:
        packed = pack([g.texts for g in groups], pad_token_id, shared_prefix=shared_prefix)
        previous = [p for g in groups for p in (g.previous or [0.0] * len(g.texts))]
        return {
            "input_ids": packed.input_ids,
            "position_ids": packed.position_ids,
            "attention_mask": packed.attention_mask,
            "end_rows": packed.end_rows,
            "end_columns": packed.end_columns,
            "previous": torch.tensor(previous),
            "groups": [(g.kind, len(g.texts), g.weight) for g in groups],
        }

    return make


def batch_loss(
    scores: Tensor,
    groups: Sequence[tuple[str, int, float]],
    previous: Tensor,
    objective: DemonstrationObjective,
    beta: float,
) -> Tensor:
    """Mean over groups of weight times the group's mean pair loss; `scores`, `previous` [R]."""
    losses = []
    at = 0
    for kind, size, weight in groups:
        best, rest = scores[at : at + 1], scores[at + 1 : at + size]
        if kind == "preference":
            loss = bradley_terry(best, rest)
        else:
            loss = demonstration_loss(
                objective,
                best.expand_as(rest),
                rest,
                previous[at : at + 1].expand_as(rest),
                previous[at + 1 : at + size],
                beta=beta,
            )
        losses.append(weight * loss)
        at += size
    return torch.stack(losses).mean()


Row = TypeVar("Row")


def read_groups(
    read: Callable[..., list[Row]], groups: Sequence[PairGroup], *, batch_size: int = 36
) -> list[list[Row]]:
    """`read`'s row (a score, features) for every text of every group, shared out over the
    processes. `read`: a method of the scorer that takes (tokens, group_of, batch_size=)."""
    place = world()
    mine = list(range(place.rank, len(groups), place.size))
    tokens = [text for i in mine for text in groups[i].texts]
    owner = [i for i in mine for _ in groups[i].texts]
    found: dict[int, list[Row]] = {i: [] for i in mine}
    for i, row in zip(owner, read(tokens, owner, batch_size=batch_size), strict=True):
        found[i].append(row)
    merged: dict[int, list[Row]] = {}
    for part in all_gather_objects(found):
        merged |= part
    return [merged[i] for i in range(len(groups))]


def score_groups(
    scorer: RewardScorer, groups: Sequence[PairGroup], *, batch_size: int = 36
) -> list[list[float]]:
    """Scores of every text of every group."""
    return read_groups(scorer.score_tokens, groups, batch_size=batch_size)


def group_accuracy(
    groups: Sequence[PairGroup], scores: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Share of pairs with score(best) > score(other), strict, mean margin and ties."""
    margins = [s[0] - other for s in scores for other in s[1:]]
    if not margins:
        return {}
    values = torch.tensor(margins)
    return {
        "accuracy": (values > 0).double().mean().item(),
        "margin": values.double().mean().item(),
        "ties": (values == 0).double().mean().item(),
        "pairs": float(len(margins)),
    }


def fit_reward(
    scorer: RewardScorer,
    groups: Sequence[PairGroup],
    held_out: Sequence[PairGroup],
    config: RewardConfig,
    arguments: TrainingArguments,
    out: Path | None = None,
) -> dict[str, float]:
    """Train `scorer`'s model in place (adapters included) and return metrics `reward/*`.

    Groups carry the scores of r_t (`previous`) when the residual objective needs them. With
    `config.early_stop` the weights of the epoch with the best held-out accuracy are kept. Losses
    of all steps go into the folder `out`.
    """
    from transformers import Trainer

    reader = scorer.reader
    objective = cast(DemonstrationObjective, config.objective)  # checked by the configuration

    class _RewardTrainer(Trainer):
        def compute_loss(
            self,
            model: nn.Module,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Tensor | int | None = None,
        ) -> Any:
            kinds, previous = inputs.pop("groups"), inputs.pop("previous")
            scores = model(**inputs)
            loss = batch_loss(scores, kinds, previous, objective, config.beta)
            return (loss, scores) if return_outputs else loss

    if config.early_stop and any(hasattr(p, "ds_id") for p in reader.parameters()):
        raise UserError(
            "reward.early_stop looks at whole models between epochs, which ZeRO-3 has in shards; "
            "set reward.early_stop=false, or use ZeRO-2"
        )
    filled = fill_batches(groups, config.batch_size, arguments.seed, config.epochs)
    steps_an_epoch = math.ceil(len(groups) / config.batch_size)
    best = _BestEpoch(scorer, held_out, steps_an_epoch) if config.early_stop and held_out else None
    trainer = _RewardTrainer(
        model=reader,
        args=arguments,
        train_dataset=filled,
        data_collator=collate(int(scorer.tokenizer.pad_token_id), config.shared_prefix),
        callbacks=[best.callback()] if best else None,
    )
    metrics = run_training(trainer, "reward", out, description="fitting the reward model")
    if best:
        best.restore()
    trainer.accelerator.free_memory()
    return metrics | {
        "reward/groups": float(len(groups)),
        "reward/train_pairs": float(sum(g.pairs for g in groups)),
    }


class _BestEpoch:
    """Keeps a copy of the trained weights at the best held-out accuracy so far."""

    def __init__(
        self, scorer: RewardScorer, held_out: Sequence[PairGroup], steps_an_epoch: int
    ) -> None:
        self.scorer, self.held_out, self.steps_an_epoch = scorer, held_out, steps_an_epoch
        self.accuracy = -1.0
        self.weights: dict[str, Tensor] = {}

    def look(self) -> None:
        scores = score_groups(self.scorer, self.held_out)
        accuracy = group_accuracy(self.held_out, scores)["accuracy"]
        if accuracy > self.accuracy:
            self.accuracy = accuracy
            self.weights = {
                n: p.detach().clone()
                for n, p in self.scorer.reader.named_parameters()
                if p.requires_grad
            }

    def restore(self) -> None:
        parameters = dict(self.scorer.reader.named_parameters())
        with torch.no_grad():
            for name, value in self.weights.items():
                parameters[name].copy_(value)

    def callback(self) -> Any:
        from transformers import TrainerCallback

        outer = self

        class _Look(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step % outer.steps_an_epoch == 0:
                    outer.look()

        return _Look()
