"""Layers below every adapter are computed once, and nothing comes out differently for it."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from tiny import WORDS, write_tiny_model
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GPTNeoXConfig,
    GPTNeoXModel,
    LlamaConfig,
    LlamaModel,
)

from irl_align.llm.config import LoraSettings, ModelConfig
from irl_align.llm.models.adapters import add_adapters
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
from irl_align.llm.policy.settings import PPOSettings
from irl_align.llm.ppo.experience import Rollout, pad_lower, pad_rollouts
from irl_align.llm.ppo.halves import LowerHalf
from irl_align.llm.ppo.shared import VALUE, SharedModels
from irl_align.llm.ppo.stream import ExperienceStream, StreamShape
from irl_align.llm.ppo.trainer import READ

LAYERS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("halves") / "model", layers=LAYERS)


def shared(folder, top_layers: int | None) -> SharedModels:
    """Policy and value adapters that do something."""
    lora = LoraSettings(r=4, alpha=8, top_layers=top_layers)
    lm = add_adapters(
        load_causal_lm(folder, ModelConfig(path=str(folder), bf16=False)), lora, "CAUSAL_LM", 1
    )
    lm.add_adapter(VALUE, lm.peft_config["default"])
    head = nn.Linear(32, 1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if ".lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
    return SharedModels(lm, head, temperature=0.7)


def rollouts(folder) -> list[Rollout]:
    tokenizer = load_tokenizer(folder)
    return [
        Rollout(tokenizer(f"say {a}")["input_ids"], tokenizer(f"good {b} {a}")["input_ids"], True)
        for a, b in zip(WORDS[:4], ("x", "yyy", "z", "long words"), strict=True)
    ]


@pytest.mark.parametrize(("top_layers", "depth"), [(1, 2), (2, 1), (3, None), (None, None)])
def test_the_lower_half_ends_below_the_first_adapter(folder, top_layers, depth):
    half = shared(folder, top_layers).lower_half
    assert (half.depth if half else None) == depth


def test_two_halves_and_a_whole_agree_in_numbers_and_gradients(folder):
    batch = pad_rollouts(rollouts(folder), 0)
    mask = batch.mask > 0
    found = []
    for way in ("whole", "once", "kept"):
        models = shared(folder, 1)
        lower = models.lower(batch) if way == "kept" else None
        if way == "whole":
            models.lower_half = None
        logprobs, values = models(**batch.tensors(), lower=lower)
        reference = models.reference_logprobs(batch, lower)
        ((logprobs * batch.mask).sum() + (values * batch.mask).square().sum()).backward()
        gradients = {n: p.grad for n, p in models.named_parameters() if p.grad is not None}
        found.append((logprobs[mask], values[mask], reference[mask], gradients))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=1e-4)
    assert len(found[0][3]) > 4
    assert not torch.allclose(found[0][0], found[0][2], atol=0.01)


def stream_of(models: SharedModels, answers: list[Rollout]) -> ExperienceStream:
    settings = PPOSettings(rollout_batch=4, epochs=2)
    return ExperienceStream(
        models, lambda *_: answers, lambda rows: [0.0] * len(rows), settings,
        StreamShape(1, 4, 2), beta=0.1, pad_token_id=0, seed=0,
    )  # fmt: skip


def test_each_answer_passes_the_lower_layers_once(folder):
    """For old numbers of policy, value model and reference, and two passes of learning."""
    models = shared(folder, 1)
    rows: Counter[int] = Counter()
    for index, layer in enumerate(models.body.layers):
        layer.register_forward_pre_hook(
            lambda _, __, kwargs, i=index: rows.update({i: 1}), with_kwargs=True
        )
    for micro_batch in stream_of(models, rollouts(folder)):
        models(**{name: micro_batch[name] for name in READ})
    batches = 2  # of two answers each
    assert rows[0] == rows[1] == batches
    assert rows[2] == batches * (3 + 2 * 2)  # three roles before; then two roles, two passes


def test_what_is_kept_stands_where_its_tokens_stand(folder):
    models = shared(folder, 1)
    answers = rollouts(folder)
    for micro_batch in stream_of(models, answers):
        real = micro_batch["attention_mask"] > 0
        again = models.lower_half.body  # the whole body's own lower layers
        states = again(
            input_ids=micro_batch["input_ids"],
            attention_mask=micro_batch["attention_mask"],
            position_ids=micro_batch["position_ids"],
            output_hidden_states=True,
        ).hidden_states[2]
        torch.testing.assert_close(micro_batch["lower"][real], states[real], atol=1e-5, rtol=1e-4)
        assert not micro_batch["lower"][~real].any()
    one = pad_rollouts(answers[:1], 0)
    assert pad_lower([models.lower(one)[0]], one).shape == (*one.input_ids.shape, 32)


SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
ADAPTED = ["layers.1.mlp.up_proj.lora_A.default.weight"]


class Scaling(LlamaModel):
    """Its upper half would scale hidden states as if they were embeddings."""

    def forward(self, input_ids=None, inputs_embeds=None, **rest):
        states = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        return super().forward(inputs_embeds=3 * states, **rest)


def test_a_body_that_cannot_be_cut_is_left_whole():
    plain, body = (
        kind(LlamaConfig(**SIZES, num_attention_heads=2)) for kind in (LlamaModel, Scaling)
    )
    layers, norm = body.layers, body.norm
    assert LowerHalf.below(plain, ADAPTED) is not None
    assert LowerHalf.below(body, ADAPTED) is None
    assert body.layers is layers and body.norm is norm and body.training
    assert LowerHalf.below(nn.Linear(2, 2), ADAPTED) is None
    assert LowerHalf.below(plain, ["embed_tokens.lora_A.default"]) is None


@pytest.mark.parametrize(
    "body",
    [
        Gemma2Model(
            Gemma2Config(**SIZES, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
        ),
        GPTNeoXModel(GPTNeoXConfig(**SIZES, num_attention_heads=2)),
    ],
    ids=["gemma2", "gpt_neox"],
)
def test_other_houses_are_cut_as_well(body):
    assert LowerHalf.below(body, ADAPTED).depth == 1
