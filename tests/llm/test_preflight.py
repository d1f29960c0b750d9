"""Nothing that evaluation holds out may reach training: by demonstration, pair or bare prompt."""

from __future__ import annotations

import json

import pytest

from irl_align.core.errors import UserError
from irl_align.llm.config import AlignConfig
from irl_align.llm.preflight import preflight


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
