"""Nothing that evaluation holds out may reach training: by demonstration, pair or bare prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from irl_align.core.errors import UserError
from irl_align.llm.config import AlignConfig, LoraSettings
from irl_align.llm.preflight import preflight

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


def pair(prompt):
    return {"prompt": prompt, "chosen": "good", "rejected": "bad"}


@pytest.fixture
def config(files, model_folder):
    config = AlignConfig()
    config.model.path = str(model_folder)
    config.sampling.backend = "hf"
    config.demonstrations.path = files("demos.jsonl", [{"prompt": "a", "response": "x"}])
    config.preferences.path = files("pairs.jsonl", [pair("b")])
    config.sampling.extra_prompts = files("extra.jsonl", [{"prompt": "c"}])
    config.evaluation.prompts = files("held.jsonl", [{"prompt": "d"}])
    config.evaluation.preferences.path = files("held_pairs.jsonl", [pair("e")])
    return config


def test_files_apart_pass_and_all_are_recorded(config):
    assert preflight(config).keys() == {
        "demonstrations",
        "preferences",
        "extra_prompts",
        "heldout_prompts",
        "heldout_preferences",
    }


@pytest.mark.parametrize("trained", ["a", "b", "c"])
@pytest.mark.parametrize("side", ["prompts", "preferences"])
def test_a_held_out_prompt_that_training_sees_is_refused(config, files, trained, side):
    if side == "prompts":
        config.evaluation.prompts = files("held.jsonl", [{"prompt": "d"}, {"prompt": trained}])
    else:
        config.evaluation.preferences.path = files("held_pairs.jsonl", [pair("e"), pair(trained)])
    with pytest.raises(UserError, match="1 held-out prompts are also prompts of"):
        preflight(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy.method": "dpo", "preferences.path": None}, r"policy\.method=spin"),
        ({"policy.method": "spac", "preferences.path": None}, r"policy\.method=spin"),
        ({"policy.method": "dpo", "reward.alpha_pref": 0.0}, "alpha_pref above 0"),
        ({"policy.method": "spin", "early_stop": True}, "early_stop"),
        ({"reward.objective": "reverse_kl"}, r"policy\.reference=previous"),
        (
            {
                "reward.objective": "chi_square",
                "policy.method": "rloo",
                "policy.reference": "previous",
            },
            r"policy\.scores\.normalise",
        ),
        (
            {
                "policy.method": "ppo",
                "sampling.backend": "endpoint",
                "sampling.endpoint": "http://localhost:1/v1",
            },
            "own weights",
        ),
        ({"policy.method": "ppo", "policy.ppo.importance_cap": 2.0}, "importance_cap"),
        (
            {
                "policy.method": "ppo",
                "policy.lora": LoraSettings(),
                "policy.gradient_checkpointing": True,
            },
            "shared_base=false",
        ),
    ],
)
def test_what_a_policy_method_lacks_is_said_before_anything_runs(config, changes, message):
    for key, value in changes.items():
        *path, name = key.split(".")
        owner = config
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, name, value)
    with pytest.raises(UserError, match=message):
        preflight(config)


@pytest.mark.parametrize(
    "method", ["online_dpo", "ppo", "grpo", "rloo", "raft", "spin", "dpo", "rpo", "nash_md"]
)
def test_methods_that_lack_nothing_pass(config, method):
    config.policy.method = method
    preflight(config)


@pytest.mark.parametrize("method", ["ppo", "nash_md"])
def test_sharded_weights_are_refused_where_whole_models_sample(
    config, tmp_path, monkeypatch, method
):
    config.policy.method = method
    zero3, zero2 = (str(ROOT / f"configs/deepspeed/zero{n}.json") for n in (3, 2))
    config.policy.deepspeed = zero2
    preflight(config)
    config.policy.deepspeed = zero3
    with pytest.raises(UserError, match=f"method={method} does not run under ZeRO-3"):
        preflight(config)
    config.policy.deepspeed = None
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")  # as `accelerate launch` says it
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", zero3)
    with pytest.raises(UserError, match="does not run under ZeRO-3"):
        preflight(config)
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    with pytest.raises(UserError, match="does not run under ZeRO-3"):
        preflight(config)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    preflight(config)
    config.policy.deepspeed = str(tmp_path / "broken.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match=r"broken\.json: no DeepSpeed configuration"):
        preflight(config)
