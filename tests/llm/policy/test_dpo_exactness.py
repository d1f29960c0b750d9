"""Online DPO with Bradley-Terry labels on answers that can be enumerated.

DPO says nothing of answers that no pair holds (Table 4.1), so the policy is looked at among those
that pairs do hold.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny_world import PROMPTS, TEXTS, kl, tiny_policy, write_world

from irl_align.llm.config import ModelConfig, PolicyConfig
from irl_align.llm.generation.samples import Completion, PromptSamples
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.online_dpo import make_dpo_trainer
from irl_align.llm.policy.pairs import bradley_terry_pairs
from irl_align.llm.quiet import show_progress

ANSWERS = range(3, 9)
BETA = 0.5
# The answer is one word and then the end token; the prompt as it is.
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] + ' ' }}"
    "{% if m['role'] == 'assistant' %}{{ 't2' }}{% endif %}{% endfor %}"
)


def world(seed: int = 0) -> torch.Tensor:
    """Rewards [prompt, answer]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(PROMPTS), len(ANSWERS), generator=generator)


def samples_of(rewards: torch.Tensor) -> list[PromptSamples]:
    return [
        PromptSamples(
            text,
            [{"role": "user", "content": text}],
            [
                Completion(f"t{a}", "stop", 2, scores={"reward": float(rewards[p, i])})
                for i, a in enumerate(ANSWERS)
            ],
        )
        for p, text in enumerate(TEXTS)
    ]


@torch.no_grad()
def among_answers(model) -> torch.Tensor:
    """log pi of the answers, given that it is one of them; [prompt, answer]."""
    rows = [model(input_ids=torch.tensor([prompt])).logits[0, -1] for prompt in PROMPTS]
    first = torch.stack(rows).log_softmax(1)[:, list(ANSWERS)]
    ends = [
        [
            model(input_ids=torch.tensor([[*prompt, a]])).logits[0, -1].log_softmax(0)[2]
            for a in ANSWERS
        ]
        for prompt in PROMPTS
    ]
    return (first + torch.tensor(ends)).log_softmax(1)


def test_labels_are_as_often_right_as_bradley_and_terry_say():
    rewards = (2.0, 0.0)
    item = PromptSamples(
        "p",
        [{"role": "user", "content": "x"}],
        [
            Completion(n, "stop", 1, scores={"reward": r})
            for n, r in zip("ab", rewards, strict=True)
        ],
    )
    pairs, _ = bradley_terry_pairs([item], seed=0, pairs_per_prompt=4000)
    counts = Counter(p.chosen for p in pairs)
    assert counts["a"] / 4000 == pytest.approx(1 / (1 + math.exp(-2)), abs=0.02)
    assert all(p.margin == (2.0 if p.chosen == "a" else -2.0) for p in pairs)


def test_the_policy_becomes_the_optimum_of_score_minus_beta_kl(tmp_path: Path):
    rewards = world()
    at = PolicyRef.at(write_world(tmp_path / "world"))
    tokenizer = load_tokenizer(at.model)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(at.model)
    (at.model / "chat_template.jinja").write_text(TEMPLATE)
    pairs, dropped = bradley_terry_pairs(samples_of(rewards), seed=1, pairs_per_prompt=4_000)
    assert not +dropped
    config = PolicyConfig(
        reference="base", beta=BETA, learning_rate=1e-2, warmup_ratio=0.0, lr_scheduler="linear",
        batch_size=64, micro_batch_size=64,
    )  # fmt: skip
    trainer = make_dpo_trainer(
        at, at, pairs, config, ModelConfig(bf16=False), seed=0, scratch=tmp_path / "scratch"
    )
    show_progress(trainer, "test")
    trainer.train()
    before = among_answers(tiny_policy())
    wanted = (before + rewards / BETA).log_softmax(1)
    assert kl(before, wanted) > 0.5
    assert kl(among_answers(trainer.model.cpu().eval()), wanted) < 0.02
