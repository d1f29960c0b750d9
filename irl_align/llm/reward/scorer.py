"""Scores of text by a saved reward model, in batches of like length.

The score is read at the last token of the conversation as the reward model's **own** template
renders it, which is where plain `AutoModelForSequenceClassification` reads it too (its last token
that is no padding), so both give the same number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irl_align.core.errors import UserError
from irl_align.llm.chat import render, response_tokens, template_hash
from irl_align.llm.data.schema import Message
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.packing import PackedBatch, pack, packed_length
from irl_align.llm.reward.classifier import (
    ScoreReader,
    autocast,
    load_classifier,
    read_head_in_float32,
)
from irl_align.llm.reward.info import CONFIG_NAME, RewardModelInfo

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["ConversationTokeniser", "RewardScorer"]


class ConversationTokeniser:
    """(prompt, response) -> token ids of the conversation by the reward model's own template.

    `limit`: the model's positions. The end of a conversation decides its score, so an over-long
    one loses its start.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, limit: int | None = None) -> None:
        self.tokenizer, self.limit = tokenizer, limit

    def __call__(
        self, prompt: Sequence[Message], response: str, *, finished: bool = True
    ) -> list[int]:
        tokens = self._whole(prompt, response, finished)
        return tokens[-self.limit :] if self.limit else tokens

    def too_long(self, prompt: Sequence[Message], response: str) -> bool:
        """Whether this conversation loses its start."""
        return self.limit is not None and len(self._whole(prompt, response, True)) > self.limit

    def _whole(self, prompt: Sequence[Message], response: str, finished: bool) -> list[int]:
        text = render(self.tokenizer, prompt, response, finished=finished)
        return response_tokens(self.tokenizer, text)


class RewardScorer:
    """A reward model ready to score text.

    >>> scorer = RewardScorer.load("runs/quickstart/rounds/0001/reward/model")   # doctest: +SKIP
    >>> scorer.score([[{"role": "user", "content": "Hi"}]], ["Hello!"])          # doctest: +SKIP
    """

    def __init__(
        self,
        classifier: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        bf16: bool = False,
        shared_prefix: bool = True,
        info: RewardModelInfo | None = None,
        max_length: int | None = None,
    ) -> None:
        self.reader = ScoreReader(classifier)
        self.tokenizer = tokenizer
        positions = getattr(classifier.config, "max_position_embeddings", None)
        limits = [limit for limit in (positions, max_length) if limit is not None]
        self.tokenise = ConversationTokeniser(tokenizer, min(limits, default=None))
        self.bf16 = bf16
        self.shared_prefix = shared_prefix
        self.info = info

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        dtype: str = "float32",
        bf16: bool = False,
        device: str | None = None,
        shared_prefix: bool = True,
        max_length: int | None = None,
    ) -> RewardScorer:
        """Load a folder that `AutoModelForSequenceClassification` can load.

        `dtype`: of the weights. `bf16`: bfloat16 matmuls over them. `max_length`: tokens of a
        conversation (its end is kept), by default as many as the model has positions.

        Raises :class:`UserError` when it is no such folder, has more than one label, lacks a chat
        template or a pad token of its own, or its template is not the one it was trained with.
        """
        path = Path(folder)
        if not (path / "config.json").exists():
            raise UserError(
                f"{path} is no reward model: it has no config.json. A run's reward models are in "
                "RUN/rounds/NNNN/reward/model"
            )
        classifier: Any = load_classifier(path, dtype=dtype)
        tokenizer = load_tokenizer(path)
        info = RewardModelInfo.read(path)
        if info is not None and info.template_hash != template_hash(tokenizer):
            raise UserError(
                f"{path}: the chat template is not the one the reward model was trained with "
                f"({CONFIG_NAME} has {info.template_hash}, the tokenizer "
                f"{template_hash(tokenizer)}); its scores would mean nothing. Restore "
                "chat_template.jinja."
            )
        if classifier.config.pad_token_id is None:
            classifier.config.pad_token_id = tokenizer.pad_token_id
        if not hasattr(classifier, "score"):
            raise UserError(
                f"{path} holds {type(classifier).__name__}, whose head is not the linear score of "
                "a decoder; such reward models are not supported"
            )
        if dtype != "float32":
            read_head_in_float32(classifier)
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        classifier.to(place).eval()
        return cls(
            classifier,
            tokenizer,
            bf16=bf16,
            shared_prefix=shared_prefix,
            info=info,
            max_length=max_length,
        )

    def too_long(self, prompt: Sequence[Message], response: str) -> bool:
        """Whether the conversation is longer than the model reads, so that its start is lost."""
        return self.tokenise.too_long(prompt, response)

    @property
    def device(self) -> torch.device:
        return next(self.reader.parameters()).device

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        *,
        finished: Sequence[bool] | None = None,
        batch_size: int = 32,
    ) -> list[float]:
        """Score of each response, in the order given. `batch_size`: responses per forward pass.

        Responses to the same prompt share one pass over it; texts are sorted by length so that
        little is computed on padding. Results do not depend on `batch_size` beyond rounding.
        """
        if len(prompts) != len(responses):
            raise ValueError(f"{len(prompts)} prompts for {len(responses)} responses")
        whole = finished if finished is not None else [True] * len(responses)
        tokens = [
            self.tokenise(p, r, finished=f)
            for p, r, f in zip(prompts, responses, whole, strict=True)
        ]
        return self.score_tokens(tokens, self._same_prompt(prompts), batch_size=batch_size)

    @staticmethod
    def _same_prompt(prompts: Sequence[Sequence[Message]]) -> list[int]:
        keys: dict[str, int] = {}
        return [keys.setdefault(json.dumps([dict(m) for m in p]), len(keys)) for p in prompts]

    def score_tokens(
        self, tokens: Sequence[Sequence[int]], group_of: Sequence[int], *, batch_size: int = 32
    ) -> list[float]:
        """Scores of tokenised texts; texts with the same `group_of` share their prompt."""
        rows = self._read(self.reader.read, tokens, group_of, batch_size)
        return [float(row) for row in rows]

    def features_of_tokens(
        self, tokens: Sequence[Sequence[int]], group_of: Sequence[int], *, batch_size: int = 32
    ) -> list[NDArray[np.float32]]:
        """What the head sees of each text: the body's last hidden state at its last token, [H]."""
        rows = self._read(self.reader.read_features, tokens, group_of, batch_size)
        return [row.numpy() for row in rows]

    @torch.no_grad()
    def _read(
        self,
        forward: Callable[[PackedBatch], Tensor],
        tokens: Sequence[Sequence[int]],
        group_of: Sequence[int],
        batch_size: int,
    ) -> list[Tensor]:
        """`forward`'s row for each text, in the order given, in batches of like length."""
        members: dict[int, list[int]] = {}
        for index, group in enumerate(group_of):
            members.setdefault(group, []).append(index)
        chunks: list[list[int]] = []
        for indices in members.values():
            indices.sort(key=lambda i: len(tokens[i]))
            step = batch_size if self.shared_prefix else 1
            chunks += [indices[i : i + step] for i in range(0, len(indices), step)]
        chunks.sort(key=lambda c: packed_length([tokens[i] for i in c]), reverse=True)
        found: dict[int, Tensor] = {}
        was_training = self.reader.training
        self.reader.eval()
        batch: list[list[int]] = []
        for position, chunk in enumerate(chunks):
            batch.append(chunk)
            upcoming = len(chunks[position + 1]) if position + 1 < len(chunks) else batch_size
            if sum(map(len, batch)) + upcoming <= batch_size and position + 1 < len(chunks):
                continue
            packed = pack(
                [[tokens[i] for i in c] for c in batch],
                int(self.tokenizer.pad_token_id),
                shared_prefix=self.shared_prefix,
            ).to(self.device)
            with autocast(self.device, self.bf16):
                rows = forward(packed).float().cpu()
            found |= zip((i for c in batch for i in c), rows, strict=True)
            batch = []
        self.reader.train(was_training)
        return [found[i] for i in range(len(tokens))]
