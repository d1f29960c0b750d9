"""PPO's answers from the real vLLM engine: the trained weights, their tokens, their numbers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from tiny import write_trained_model

from irl_align.llm.config import AlignConfig, LoraSettings, ModelConfig, SamplingConfig
from irl_align.llm.data.schema import Demonstration
from irl_align.llm.models.adapters import add_adapters
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
from irl_align.llm.ppo.actor_critic import SeparateModels, answer_logprobs
from irl_align.llm.ppo.experience import pad_rollouts
from irl_align.llm.ppo.rollouts import EngineRollouts

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)
TEMPERATURE = 0.7


def shake(model, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


def test_the_engine_answers_as_the_trained_policy_after_every_change(tmp_path: Path):
    folder = tmp_path / "model"
    write_trained_model(folder, steps=40, hidden=128, heads=2)
    config = AlignConfig(
        model=ModelConfig(bf16=False),
        sampling=SamplingConfig(
            backend="vllm", dtype="float32", batch_size=16, max_prompt_tokens=60,
            max_new_tokens=12, temperature=TEMPERATURE, probe_tolerance=0.01,
        ),
    )  # fmt: skip
    config.policy.ppo.rollout_batch = 12
    tokenizer = load_tokenizer(folder)
    base = load_causal_lm(folder, config.model)
    policy = add_adapters(base, LoraSettings(r=4, alpha=8), "CAUSAL_LM", 0)
    models = SeparateModels(policy, policy, policy, temperature=TEMPERATURE)
    prompts = [[{"role": "user", "content": f"say {w}"}] for w in ("red", "blue", "green")]
    probe = Demonstration("d", ({"role": "user", "content": "say red"},), "good fish tree")
    source = EngineRollouts(models, tokenizer, prompts, config, tmp_path / "scratch", probe, seed=0)
    try:
        for batch in (0, 1):
            shake(policy, batch)
            rollouts = source.sample(batch, 12, seed=batch)
            assert any(r.finished for r in rollouts)
            for r in rollouts:
                assert (r.answer[-1] == tokenizer.eos_token_id) == r.finished
                assert len(r.engine_logprobs) == len(r.answer)
            padded = pad_rollouts(rollouts, int(tokenizer.pad_token_id))
            with torch.no_grad():
                ours = answer_logprobs(policy, padded, TEMPERATURE)
            for row, r in enumerate(rollouts):
                # At the sampling temperature, as the trainer has them, and of these weights.
                theirs = torch.tensor(list(r.engine_logprobs))
                torch.testing.assert_close(ours[row, : len(theirs)], theirs, atol=5e-3, rtol=5e-3)
        assert source.metrics()["policy/probe_gap"] < 0.01
        assert not any((tmp_path / "scratch").glob("policy-*")), "weights are not left behind"
    finally:
        source.close()
