"""A world to enumerate: 16 tokens, answers of at most two, a random table of rewards."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from irl_align.llm.ppo.experience import Rollout

VOCABULARY = 16
PAD, BOS, EOS = 0, 1, 2
LENGTH = 2
PROMPTS = ((BOS, 5), (BOS, 6, 7))  # of different length, so that padding has a say


def tiny_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=16,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )


def tiny_policy(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(tiny_config())


def tiny_value(seed: int = 0) -> LlamaForSequenceClassification:
    torch.manual_seed(seed)
    config = tiny_config()
    config.num_labels = 1
    return LlamaForSequenceClassification(config)


TEXTS = tuple(" ".join(f"t{i}" for i in prompt) for prompt in PROMPTS)


def write_world(folder: Path) -> Path:
    """The policy as a model folder whose tokens are the words t0 ... t15; prompts are texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCABULARY)}, unk_token="t3"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="t0", bos_token="t1", eos_token="t2",
        chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}",
    )  # fmt: skip
    tiny_policy().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def all_answers() -> list[Rollout]:
    """Every answer to the first prompt: the end token at once, or a token and then anything."""
    found = [Rollout((), (EOS,), True)]
    for first, second in itertools.product(range(VOCABULARY), repeat=2):
        if first != EOS:
            found.append(Rollout((), (first, second), second == EOS))
    return found


@dataclass(frozen=True)
class World:
    """Rewards [prompt, answer] of all answers, in the order of `all_answers`."""

    rewards: Tensor

    @classmethod
    def random(cls, seed: int = 0) -> World:
        generator = torch.Generator().manual_seed(seed)
        return cls(torch.randn(len(PROMPTS), len(all_answers()), generator=generator))

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        index = {tuple(a.answer): i for i, a in enumerate(all_answers())}
        return [float(self.rewards[r.source, index[tuple(r.answer)]]) for r in rollouts]

    def optimum(self, reference: LlamaForCausalLM, beta: float, temperature: float = 1.0) -> Tensor:
        """log of pi_ref exp(r / beta) / Z, [prompt, answer]."""
        logits = distribution(reference, temperature) + self.rewards / beta
        return logits.log_softmax(1)


@torch.no_grad()
def distribution(model: LlamaForCausalLM, temperature: float = 1.0) -> Tensor:
    """log pi of all answers, [prompt, answer]."""
    return enumerated(model, temperature)


def enumerated(model: LlamaForCausalLM, temperature: float = 1.0) -> Tensor:
    """As :func:`distribution`, with a graph; nothing is padded."""
    rows = []
    for prompt in PROMPTS:
        firsts = torch.tensor([[*prompt, token] for token in range(VOCABULARY)])
        logs = (model(input_ids=firsts).logits / temperature).log_softmax(-1)
        first, second = logs[0, len(prompt) - 1], logs[:, len(prompt)]
        row = [
            first[a.answer[0]] + (second[a.answer[0], a.answer[1]] if len(a.answer) > 1 else 0.0)
            for a in all_answers()
        ]
        rows.append(torch.stack(row))
    return torch.stack(rows)


def kl(first: Tensor, second: Tensor) -> float:
    """The largest KL(first || second) of a prompt, nats; both [prompt, answer], in logs."""
    return float((first.exp() * (first - second)).sum(1).max())


@torch.no_grad()
def sample(
    model: LlamaForCausalLM, count: int, seed: int, temperature: float = 1.0
) -> list[Rollout]:
    """`count` answers, prompts in turn."""
    generator = torch.Generator().manual_seed(seed)
    every = all_answers()
    probabilities = distribution(model, temperature).exp()
    found = []
    for prompt in range(len(PROMPTS)):
        n = len(range(prompt, count, len(PROMPTS)))
        picks = torch.multinomial(probabilities[prompt], n, True, generator=generator)
        found.append([every[i] for i in picks.tolist()])
    return [
        Rollout(
            PROMPTS[i % len(PROMPTS)],
            found[i % len(PROMPTS)][i // len(PROMPTS)].answer,
            found[i % len(PROMPTS)][i // len(PROMPTS)].finished,
            source=i % len(PROMPTS),
        )
        for i in range(count)
    ]
