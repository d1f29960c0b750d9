"""What TRL's DPO trainer does not have: IPO on sums, and RPO's likelihood of demonstrations.

    IPO   (D(chosen) - D(rejected) - 1 / (2 beta))^2,   D = log pi / pi_ref of the whole answer
    RPO   alpha DPO(pairs) - gamma E_demo[log pi(y | x) / |y|]

(Azar et al. 2023, arXiv 2310.12036; Liu et al. 2024, arXiv 2405.16436, as thesis eq. 4.25 has it,
where the likelihood is that of demonstrations and not of the pairs' chosen answers.) TRL's own
`ipo` divides each D by its answer's length, as IPO's authors did in their experiments. RPO's
likelihood is a mean over the answer's tokens: in nats of whole answers it would drown the pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from trl import DPOTrainer

__all__ = ["ANCHOR", "AnchoredDPOTrainer", "SummedIPOTrainer", "collate_anchors"]

ANCHOR = "anchor"  # column of a pair's row: {"ids": prompt and answer, "start": of the answer}


class SummedIPOTrainer(DPOTrainer):
    """IPO as the paper's equation 17 has it; see the module."""

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100),
            use_cache=False,
            fused_lm_head=True,
        )
        chosen, rejected = outputs.log_probs.sum(1).chunk(2)  # [B] each
        frozen = self.ref_model if self.ref_model is not None else self.model
        ref_chosen, ref_rejected = self.compute_ref_log_probs(frozen, inputs)
        margin = (chosen - ref_chosen) - (rejected - ref_rejected)
        won = self.accelerator.gather((margin > 0).float()).mean().item()
        self._metrics["train"]["rewards/accuracies"].append(won)
        loss = ((margin - 1 / (2 * self.beta)) ** 2).mean()
        return (loss, outputs) if return_outputs else loss


class AnchoredDPOTrainer(DPOTrainer):
    """`alpha` times the pairs' loss and `gamma` times the negative log likelihood of anchors, the
    answers that each row of pairs brings along (see :func:`collate_anchors`)."""

    alpha: float = 1.0
    gamma: float = 1.0

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        anchors = {name: inputs.pop(f"{ANCHOR}_{name}") for name in ("ids", "mask", "answer")}
        loss = super()._compute_loss(model, inputs, False)
        outputs = model(
            input_ids=anchors["ids"],
            attention_mask=anchors["mask"],
            labels=anchors["ids"].masked_fill(anchors["answer"] == 0, -100),
            use_cache=False,
            fused_lm_head=True,
        )
        lengths = anchors["answer"][:, 1:].sum(1).clamp(min=1)
        unlikely = -(outputs.log_probs.sum(1) / lengths).mean()
        self._metrics["train"]["nll"].append(self.accelerator.gather(unlikely).mean().item())
        total = self.alpha * loss + self.gamma * unlikely
        return (total, outputs) if return_outputs else total


def collate_anchors(
    collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]], pad_token_id: int
) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]:
    """`collate` for rows that bring an anchor along: adds anchor_ids, anchor_mask and
    anchor_answer, right-padded [B, T]."""

    def with_anchors(examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch = collate(examples)
        anchors = [example[ANCHOR] for example in examples]
        shape = (len(anchors), max(len(a["ids"]) for a in anchors))
        ids = torch.full(shape, pad_token_id)
        mask, answer = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
        for row, anchor in enumerate(anchors):
            length = len(anchor["ids"])
            ids[row, :length] = torch.tensor(anchor["ids"])
            mask[row, :length] = 1
            answer[row, anchor["start"] : length] = 1
        named: dict[str, Tensor] = {"ids": ids, "mask": mask, "answer": answer}
        return batch | {f"{ANCHOR}_{name}": value for name, value in named.items()}

    return with_anchors
