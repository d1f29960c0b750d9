"""Every experiment in configs/llm loads as a run would load it; presets hold the papers' values."""

from __future__ import annotations

from typing import Any

import pytest
from presets import CONFIGS, ROOT, check_opening, value_at

from irl_align.core.config import load_config, to_dict
from irl_align.llm.config import AlignConfig

EXPERIMENTS = sorted((CONFIGS / "llm").glob("*.yaml"))

# Tables 5.5-5.8 and the settings that go with them.
PAPER: dict[str, dict[str, Any]] = {
    "tldr_pythia1b": {
        "rounds": 11,
        "sft.epochs": 1,
        "sft.learning_rate": 3e-6,
        "sft.adam_epsilon": 1e-5,
        "sft.lr_scheduler": "cosine",
        "sft.batch_size": 128,
        "sft.max_length": 562,
        "sft.lora": None,
        "sampling.temperature": 0.7,
        "sampling.max_new_tokens": 53,
        "sampling.max_prompt_tokens": 512,
        "reward.objective": "pairwise_logistic",
        "reward.warm_start": False,
        "reward.epochs": 1,
        "reward.learning_rate": 3e-6,
        "reward.adam_epsilon": 1e-5,
        "reward.lr_scheduler": "cosine",
        "reward.warmup_ratio": 0,
        "reward.batch_size": 64,
        "reward.max_length": 638,
        "reward.lora": None,
        "policy.learning_rate": 3e-6,
        "policy.adam_epsilon": 1e-5,
        "policy.lr_scheduler": "linear",
        "policy.batch_size": 512,
        "policy.beta": 0.05,
        "policy.lora": None,
        "policy.method": "ppo",
        "policy.scores.missing_eos_score": -1,
        "policy.ppo.episodes": 1_000_000,
        "policy.ppo.rollout_batch": 512,
        "policy.ppo.epochs": 4,
        "policy.ppo.gamma": 1,
        "policy.ppo.gae_lambda": 0.95,
        "policy.ppo.clip": 0.2,
        "policy.ppo.value_clip": 0.2,
        "policy.ppo.value_coef": 0.1,
        "policy.ppo.whiten_advantages": True,
        "policy.ppo.whiten_rewards": False,
    },
    "ultrachat_mistral7b": {
        "model.path": "HuggingFaceH4/mistral-7b-sft-beta",
        "demonstrations.path": "HuggingFaceH4/ultrachat_200k",
        "rounds": 2,
        "sft.enabled": False,
        "sampling.samples_per_prompt": 32,
        "reward.objective": "pairwise_logistic",
        "reward.warm_start": False,
        "reward.epochs": 1,
        "reward.learning_rate": 5e-6,
        "reward.adam_epsilon": 1e-5,
        "reward.lr_scheduler": "cosine",
        "reward.batch_size": 64,
        "reward.lora": None,
        "policy.method": "online_dpo",
        "policy.learning_rate": 5e-7,
        "policy.adam_epsilon": 1e-5,
        "policy.lr_scheduler": "cosine",
        "policy.batch_size": 64,
        "policy.beta": 0.1,
        "policy.lora": None,
    },
    "aihf_mistral7b": {
        "model.path": "HuggingFaceH4/mistral-7b-sft-beta",
        "demonstrations.path": "HuggingFaceH4/ultrachat_200k",
        "preferences.path": "HuggingFaceH4/ultrafeedback_binarized",
        "preferences.split": "train_prefs",
        "evaluation.preferences.split": "test_prefs",
        "rounds": 1,
        "reward.gamma_demo": 1,
        "reward.alpha_pref": 1,
        "reward.objective": "pairwise_logistic",
        "reward.learning_rate": 5e-6,
        "policy.method": "online_dpo",
        "policy.learning_rate": 5e-7,
    },
    "spin_mistral7b": {
        "model.path": "HuggingFaceH4/mistral-7b-sft-beta",
        "demonstrations.limit": 50_000,
        "rounds": 2,
        "sampling.max_new_tokens": 256,
        "sampling.max_prompt_tokens": 512,
        "policy.method": "spin",
        "policy.reference": "previous",
        "policy.loss_type": "sigmoid",
        "policy.beta": 0.1,
        "policy.learning_rate": 5e-7,
        "policy.lr_scheduler": "linear",
        "policy.warmup_ratio": 0.1,
        "policy.epochs": 3,
        "policy.batch_size": 64,
        "policy.max_length": 1024,
    },
}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_loads_strictly(path):
    config = load_config(AlignConfig, path)
    assert config.run_dir == f"runs/{path.stem}"
    processes = 8 if path.stem in PAPER else 1
    for phase in (config.sft, config.reward, config.policy):
        if phase is not config.sft or config.sft.enabled:
            assert phase.batch_size % (phase.micro_batch_size * processes) == 0
    for file in (config.model.chat_template, config.sft.deepspeed, config.reward.deepspeed):
        assert file is None or (ROOT / file).is_file()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_opens_with_what_a_reader_needs(path):
    check_opening(path)


@pytest.mark.parametrize("name", PAPER)
def test_presets_hold_the_papers_values(name):
    config = to_dict(load_config(AlignConfig, CONFIGS / "llm" / f"{name}.yaml"))
    found = {key: value_at(config, key) for key in PAPER[name]}
    assert found == PAPER[name]


def test_every_preset_of_a_paper_is_compared():
    ours = {"quickstart", "quickstart_ppo", "hh_harmless"}
    assert {p.stem for p in EXPERIMENTS} - ours == set(PAPER)
