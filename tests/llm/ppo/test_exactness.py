"""PPO on a world that can be enumerated: where it goes, and the gradient of its first step."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_world import (
    PAD,
    PROMPTS,
    World,
    all_answers,
    distribution,
    enumerated,
    kl,
    sample,
    tiny_policy,
    tiny_value,
)

from irl_align.llm.config import ModelConfig, OptimConfig
from irl_align.llm.policy.settings import PPOSettings
from irl_align.llm.ppo.actor_critic import SeparateModels
from irl_align.llm.ppo.experience import Rollout, pad_rollouts
from irl_align.llm.ppo.stream import ExperienceStream, StreamShape
from irl_align.llm.ppo.trainer import ppo_loss, train_ppo
from irl_align.llm.training import training_arguments

BETA = 1.0
NAMES = ("input_ids", "attention_mask", "position_ids", "mask")


def fit(
    settings: PPOSettings, scratch: Path, *, batches: int, lr: float, temperature: float = 1.0
) -> tuple[SeparateModels, World, object]:
    policy, world = tiny_policy(), World.random()
    models = SeparateModels(policy, tiny_value(1), copy.deepcopy(policy), temperature=temperature)
    optim = OptimConfig(
        learning_rate=lr,
        batch_size=settings.rollout_batch // 2,
        micro_batch_size=settings.rollout_batch // 2,
        warmup_ratio=0.0,
        lr_scheduler="linear",
    )
    stream = ExperienceStream(
        models,
        lambda batch, count, seed: sample(models.policy, count, seed, temperature),
        world.score,
        settings,
        StreamShape(batches, optim.batch_size, optim.micro_batch_size),
        beta=BETA,
        pad_token_id=PAD,
        seed=0,
    )
    arguments = training_arguments(optim, ModelConfig(bf16=False), seed=0, scratch=scratch)
    _, metrics = train_ppo(models, stream, settings, arguments)
    return models, world, metrics


def plain(**more: object) -> PPOSettings:
    return PPOSettings(**({"rollout_batch": 512} | more))  # type: ignore[arg-type]


def test_the_policy_becomes_the_optimum_of_score_minus_beta_kl(tmp_path):
    """pi_ref exp(score / beta) / Z, from sampled answers, at a temperature that is not 1."""
    models, world, _ = fit(
        plain(value_coef=1.0, value_clip=None), tmp_path, batches=100, lr=5e-3, temperature=0.7
    )
    wanted = world.optimum(models.reference, BETA, 0.7)
    assert kl(distribution(models.reference, 0.7), wanted) > 0.3
    assert kl(distribution(models.policy, 0.7), wanted) < 0.02


@pytest.mark.parametrize("average", ["token", "answer"])
def test_the_first_steps_gradient_is_the_policy_gradient_by_enumeration(average):
    """At ratio 1 with lambda 1 and values 0. Every answer comes once, weighted by how often it
    would come, so there is nothing random in it."""
    policy, world = tiny_policy(), World.random()
    reference = tiny_policy(3)
    value = tiny_value()
    torch.nn.init.zeros_(value.score.weight)
    models = SeparateModels(policy, value, reference, temperature=0.7)
    logs = distribution(policy, 0.7)
    every = [
        (source, answer, float(logs[source, i]))
        for source in range(len(PROMPTS))
        for i, answer in enumerate(all_answers())
    ]

    def rollouts() -> list[Rollout]:
        found = []
        for source, answer, log in every:
            # Weights min(pi_old / pi_engine, cap) multiply a token's loss: make them p(y) N.
            row = Rollout(PROMPTS[source], answer.answer, answer.finished, source=source)
            tokens = logprobs_of(models, row)
            gap = math.log(len(every) / len(PROMPTS)) + log
            found.append(replace(row, engine_logprobs=[t - gap for t in tokens]))
        return found

    settings = plain(
        rollout_batch=len(every), gae_lambda=1.0, whiten_advantages=False, importance_cap=1e9,
        average=average,
    )  # fmt: skip
    stream = ExperienceStream(
        models,
        lambda *_: rollouts(),
        world.score,
        settings,
        StreamShape(1, len(every), len(every)),
        beta=BETA,
        pad_token_id=PAD,
        seed=0,
    )
    batch = next(iter(stream))
    logprobs, values = models(**{k: batch[k] for k in NAMES})
    loss, statistics = ppo_loss(logprobs, values, batch, settings)
    loss.backward()
    assert float(statistics["clip_fraction"]) == 0 and float(statistics["approx_kl"]) < 1e-10

    twin = tiny_policy()
    log = enumerated(twin, 0.7)  # with a graph
    with torch.no_grad():
        gain = world.rewards - BETA * (log - distribution(reference, 0.7))
    lengths = torch.tensor([float(len(a.answer)) for a in all_answers()])
    tokens = float(lengths.sum()) * len(PROMPTS)
    if average == "token":
        objective = (log.exp() * gain.detach()).sum() / len(PROMPTS) * len(every) / tokens
    else:  # an answer's tokens share its weight
        objective = (log.exp().detach() * gain * log / lengths).sum() / len(PROMPTS)
    (-objective).backward()
    for (name, ours), theirs in zip(policy.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=2e-6, rtol=1e-3, msg=name)


def logprobs_of(models: SeparateModels, rollout: Rollout) -> list[float]:
    with torch.no_grad():
        logprobs, _ = models(**pad_rollouts([rollout], PAD).tensors())
    return [float(x) for x in logprobs[0]]
