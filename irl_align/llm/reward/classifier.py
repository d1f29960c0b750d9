"""A sequence classifier with one label: loaded, and read at the ends of packed texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from irl_align.core.errors import UserError
from irl_align.llm.models.sharded import gathered
from irl_align.llm.packing import PackedBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ScoreReader", "autocast", "load_classifier", "read_head_in_float32"]


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """bfloat16 matmuls over float32 weights."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


class ScoreReader(nn.Module):
    """One forward pass over a :class:`PackedBatch`; scores [R] in float32.

    Wraps a sequence classifier (adapted by LoRA or not) so that trainers, DDP and ZeRO see one
    module whose forward does everything.
    """

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.classifier: Any = classifier
        self.config = classifier.config  # DeepSpeed sizes its buckets by it

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        end_rows: Tensor,
        end_columns: Tensor,
    ) -> Tensor:
        batch = PackedBatch(input_ids, position_ids, attention_mask, end_rows, end_columns)
        scores: Tensor = self.classifier.score(self.read_features(batch))
        return scores.float().squeeze(-1)

    def read_features(self, batch: PackedBatch) -> Tensor:
        """[R, H]: the body's last hidden state at each text's last token, what the head sees."""
        hidden = self.classifier.base_model(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=batch.attention_mask,
            use_cache=False,
        ).last_hidden_state  # [B, L, H]
        ends: Tensor = hidden[batch.end_rows, batch.end_columns]
        return ends

    def read(self, batch: PackedBatch) -> Tensor:
        scores: Tensor = self(*batch.tensors())
        return scores


def read_head_in_float32(classifier: Any) -> None:
    """Eight bits of mantissa would make ties of scores that differ: the head gets all of them."""
    classifier.score.float()
    classifier.score.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))


def load_classifier(
    path: str | Path,
    *,
    dtype: str = "float32",
    attn_implementation: str = "sdpa",
    new_head: bool = False,
    head: Tensor | None = None,
) -> PreTrainedModel:
    """A sequence classifier with one label, or a clear error.

    `new_head`: `path` is a language model whose body starts a reward model. Its head is `head`
    [1, H], or zero: r_0 = 0 exactly (pi_ref exp(r_0 / beta) is the reference, and the first
    residual fit is the plain logistic one).
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        config = AutoConfig.from_pretrained(str(path))
        labels = getattr(config, "num_labels", 1)
        architectures = config.architectures or []
        foreign = architectures and not any("SequenceClassification" in a for a in architectures)
        if foreign and not new_head:
            raise UserError(
                f"{path} holds {architectures[0]}, no reward model (a sequence classifier with "
                "one label). Fit one with recipes/fit_reward.py"
            )
        if labels != 1 and not new_head:
            raise UserError(f"{path} has {labels} labels; a reward model has one score")
        classifier: Any = AutoModelForSequenceClassification.from_pretrained(
            str(path),
            num_labels=1,
            dtype=getattr(torch, dtype),
            attn_implementation=attn_implementation,
        )
        if new_head and foreign:
            with gathered(classifier.score.parameters(), write=True):
                torch.nn.init.zeros_(classifier.score.weight)
                if head is not None and classifier.score.weight.shape == head.shape:
                    classifier.score.weight.data.copy_(head)
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path} cannot be loaded as a reward model ({first}); check that its files are whole"
        ) from error
    except Exception as error:  # safetensors raises its own type on a damaged file
        if type(error).__name__ != "SafetensorError":
            raise
        raise UserError(f"{path}: damaged weights file ({error}); restore the folder") from error
    return classifier
