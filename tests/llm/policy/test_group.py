"""GRPO and RLOO by TRL: the fixed point is the one that the reward and beta say."""

from __future__ import annotations

import pytest
import torch
from tiny_world import (
    PROMPTS,
    TEXTS,
    VOCABULARY,
    World,
    all_answers,
    distribution,
    kl,
    tiny_policy,
    write_world,
)

from irl_align.llm.config import AlignConfig, ModelConfig, PolicyConfig, SamplingConfig
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.group import make_group_trainer
from irl_align.llm.policy.settings import GroupSettings
from irl_align.llm.quiet import show_progress

BETA, TEMPERATURE = 1.0, 0.7


def configuration(method: str, **more: object) -> AlignConfig:
    settings = {"batch_size": 512, "micro_batch_size": 512, "epochs": 1.0} | more
    return AlignConfig(
        model=ModelConfig(bf16=False),
        sampling=SamplingConfig(
            backend="hf", temperature=TEMPERATURE, max_new_tokens=2, max_prompt_tokens=8
        ),
        policy=PolicyConfig(
            method=method, reference="base", beta=BETA, learning_rate=5e-3, warmup_ratio=0.0,
            lr_scheduler="linear",
            group=GroupSettings(answers=64, iterations=4, scale_rewards="none", loss_type="dapo"),
            **settings,  # type: ignore[arg-type]
        ),
    )  # fmt: skip


def trained(tmp_path, config: AlignConfig, passes: int, reward):
    """The policy after `passes` over the two prompts; `reward`: (prompt, ids) -> float, since of
    special tokens no text remains."""
    at = PolicyRef.at(write_world(tmp_path / "world"))
    trainer = make_group_trainer(
        at, at, list(TEXTS) * passes, lambda *_: [], config, seed=0, scratch=tmp_path / "scratch"
    )
    trainer.reward_funcs[0] = lambda prompts, completion_ids, **_: [
        reward(TEXTS.index(p), tuple(ids)) for p, ids in zip(prompts, completion_ids, strict=True)
    ]
    show_progress(trainer, "test")
    trainer.train()
    return trainer.model.cpu().eval()


def test_rloo_ends_at_the_optimum_of_score_minus_beta_kl(tmp_path):
    world = World.random()
    index = {tuple(a.answer): i for i, a in enumerate(all_answers())}
    policy = trained(
        tmp_path, configuration("rloo"), 400, lambda p, ids: float(world.rewards[p, index[ids]])
    )
    wanted = world.optimum(tiny_policy(), BETA, TEMPERATURE)
    assert kl(distribution(tiny_policy(), TEMPERATURE), wanted) > 0.3
    assert kl(distribution(policy, TEMPERATURE), wanted) < 0.02


def test_grpo_ends_there_with_answers_of_one_token(tmp_path):
    """With longer ones a token is not charged for the KL of those that it leads to."""
    rewards = torch.randn(len(PROMPTS), VOCABULARY, generator=torch.Generator().manual_seed(0))
    config = configuration("grpo")
    config.sampling.max_new_tokens = 1
    policy = trained(tmp_path, config, 120, lambda p, ids: float(rewards[p, ids[0]]))
    before, after = first_tokens(tiny_policy()), first_tokens(policy)
    wanted = (before + rewards / BETA).log_softmax(1)
    assert kl(before, wanted) > 0.2
    assert kl(after, wanted) < 0.02


@torch.no_grad()
def first_tokens(model) -> torch.Tensor:
    """log pi of an answer's first token, [prompt, token]."""
    rows = [model(input_ids=torch.tensor([prompt])).logits[0, -1] for prompt in PROMPTS]
    return (torch.stack(rows) / TEMPERATURE).log_softmax(1)


def test_the_reference_is_the_one_that_is_named(tmp_path):
    """TRL alone would take the policy that training starts from."""
    from irl_align.llm.models.loading import load_causal_lm, load_tokenizer

    initial = write_world(tmp_path / "initial")
    moved = tmp_path / "moved"
    policy = tiny_policy(7)
    policy.save_pretrained(moved)
    load_tokenizer(initial).save_pretrained(moved)
    config = configuration("grpo")
    trainer = make_group_trainer(
        PolicyRef.at(moved), PolicyRef.at(initial), list(TEXTS), lambda *_: [], config,
        seed=0, scratch=tmp_path / "scratch",
    )  # fmt: skip
    theirs = dict(trainer.ref_model.named_parameters())
    for name, weight in load_causal_lm(initial, config.model).named_parameters():
        assert torch.equal(theirs[name], weight)
    for name, weight in trainer.model.named_parameters():
        assert torch.equal(weight, dict(policy.named_parameters())[name])


def test_broken_groups_are_refused():
    with pytest.raises(ValueError, match="no whole groups"):
        PolicyConfig(
            method="rloo", batch_size=32, micro_batch_size=32, group=GroupSettings(answers=64)
        )
