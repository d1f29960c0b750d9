"""GRPO and RLOO by TRL: the fixed point is the one that the reward and beta say."""

from __future__ import annotations

import pytest
from tiny_world import (
    TEXTS,
    World,
    all_answers,
    distribution,
    kl,
    tiny_policy,
    write_world,
)

from irl_align.core.errors import UserError
from irl_align.llm.config import (
    AlignConfig,
    ModelConfig,
    PolicyConfig,
    SamplingConfig,
)
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.group import make_group_trainer
from irl_align.llm.policy.settings import GroupSettings

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
            group=GroupSettings(answers=64, iterations=2, scale_rewards="none", loss_type="dapo"),
            **settings,  # type: ignore[arg-type]
        ),
    )  # fmt: skip


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_the_policy_becomes_the_optimum_of_score_minus_beta_kl(tmp_path, method):
    folder, world = write_world(tmp_path / "world"), World.random()
    at = PolicyRef.at(folder)
    config = configuration(method)
    every = {tuple(a.answer): i for i, a in enumerate(all_answers())}
    trainer = make_group_trainer(
        at, at, list(TEXTS) * 200, lambda *_: [], config, seed=0, scratch=tmp_path / "scratch"
    )
    # Scored by ids here: of special tokens no text remains.
    trainer.reward_funcs[0] = lambda prompts, completion_ids, **_: [
        float(world.rewards[TEXTS.index(p), every[tuple(ids)]])
        for p, ids in zip(prompts, completion_ids, strict=True)
    ]
    trainer.train()
    wanted = world.optimum(tiny_policy(), BETA, TEMPERATURE)
    policy = trainer.model.cpu().eval()
    assert kl(distribution(tiny_policy(), TEMPERATURE), wanted) > 0.3
    assert kl(distribution(policy, TEMPERATURE), wanted) < 0.02


def test_the_reference_is_the_one_that_is_named(tmp_path):
    """TRL alone would take the policy that training starts from."""
    import torch

    from irl_align.llm.models import load_causal_lm, load_tokenizer

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


def test_broken_groups_are_refused(tmp_path):
    at = PolicyRef.at(write_world(tmp_path / "world"))
    config = configuration("rloo", batch_size=32, micro_batch_size=32)
    with pytest.raises(UserError, match="no whole groups"):
        make_group_trainer(at, at, list(TEXTS), lambda *_: [], config, seed=0, scratch=tmp_path)
