"""A saved reward model gives a stranger the scores it had in training, or saving fails."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import write_demonstrations, write_tiny_model

from irl_align.core.errors import UserError
from irl_align.llm.chat import render, template_hash
from irl_align.llm.config import LoraSettings, ModelConfig, RewardConfig
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.data.schema import Preference
from irl_align.llm.generation.samples import Completion, PromptSamples
from irl_align.llm.reward.info import CONFIG_NAME, RewardModelInfo
from irl_align.llm.reward.phase import fit_reward_phase
from irl_align.llm.reward.saving import (
    PROBE_NAME,
    RewardSaveError,
    save_reward_model,
    verify_reload,
)
from irl_align.llm.reward.scorer import RewardScorer

SETTINGS = RewardConfig(
    epochs=3, learning_rate=1e-2, batch_size=4, micro_batch_size=2, warmup_ratio=0.0,
    lora=LoraSettings(r=4, alpha=8), holdout=0.25, beta=0.5, max_length=300,
)  # fmt: skip

# Only torch and transformers may be imported, as in an environment that has nothing else.
STRANGER = """
import json, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
class Only:
    find_distributions = PathFinder.find_distributions
    @staticmethod
    def find_spec(name, path=None, target=None):
        absent = {"irl_align", "trl", "peft", "accelerate", "datasets", "vllm", "deepspeed",
                  "omegaconf", "gguf"}
        return None if name.split(".")[0] in absent else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Only]
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, texts = sys.argv[1], json.load(open(sys.argv[2]))
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
found = {}
for side in ("right", "left"):
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=side)
    for size in (1, 8):
        scores = []
        for i in range(0, len(texts), size):
            batch = tokenizer(texts[i : i + size], padding=True, add_special_tokens=False,
                              return_tensors="pt")
            with torch.no_grad():
                scores += model(input_ids=batch["input_ids"],
                                attention_mask=batch["attention_mask"]).logits[:, 0].tolist()
        found[f"{side} {size}"] = scores
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """(demonstrations, samples): the demonstrations say good, the completions bad."""
    path = write_demonstrations(tmp_path_factory.mktemp("data") / "demos.jsonl", rows=16)
    demonstrations, _ = load_demonstrations(str(path))
    samples = [
        PromptSamples(
            d.id,
            d.prompt,
            [
                Completion(d.response.replace("good", "bad"), "stop", 4),
                Completion("bad fish", "stop", 3),
                Completion("bad fish tree", "length", 3),
            ],
        )
        for d in demonstrations
    ]
    return demonstrations, samples


def fit(previous, body, data, out: Path, config=SETTINGS, preferences=(), number=0):
    demonstrations, samples = data
    (out / "scratch").mkdir(parents=True)
    return fit_reward_phase(
        previous, body, demonstrations, [samples], preferences, out, config,
        ModelConfig(path=str(body), bf16=False), seed=1, scratch=out / "scratch",
        round_number=number,
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(model_folder, data, tmp_path_factory):
    """(folder of a fitted and saved reward model, metrics)."""
    out = tmp_path_factory.mktemp("reward")
    return out / "model", fit(None, model_folder, data, out)


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved[0], tmp_path / "model"))


def texts_of(data, tokenizer) -> tuple[list, list[str], list[str]]:
    """Prompts, responses and rendered texts of many lengths."""
    prompts = [d.prompt for d in data[0]]
    responses = [" ".join([d.response] * (1 + 3 * i % 7)) for i, d in enumerate(data[0])]
    rendered = [render(tokenizer, p, r) for p, r in zip(prompts, responses, strict=True)]
    return prompts, responses, rendered


def test_a_stranger_gets_the_same_scores(saved, data, tmp_path):
    folder, _ = saved
    scorer = RewardScorer.load(folder)
    prompts, responses, rendered = texts_of(data, scorer.tokenizer)
    (tmp_path / "texts.json").write_text(json.dumps(rendered))
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, str(folder), str(tmp_path / "texts.json")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ours = scorer.score(prompts, responses)
    assert max(ours) - min(ours) > 0.1, "scores that are all alike would tell nothing"
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"right 1", "right 8", "left 1", "left 8"}
    for how, scores in found.items():
        torch.testing.assert_close(
            torch.tensor(scores), torch.tensor(ours), atol=1e-4, rtol=0, msg=how
        )


def test_scores_do_not_depend_on_batching(saved, data):
    folder, _ = saved
    scorer = RewardScorer.load(folder)
    prompts, responses, _ = texts_of(data, scorer.tokenizer)
    prompts, responses = prompts + prompts, responses + [r + " fish" for r in responses]
    reference = torch.tensor(scorer.score(prompts, responses, batch_size=1))
    for size in (2, 5, 64):
        torch.testing.assert_close(
            torch.tensor(scorer.score(prompts, responses, batch_size=size)),
            reference, atol=1e-5, rtol=0,
        )  # fmt: skip
    alone = RewardScorer.load(folder, shared_prefix=False).score(prompts, responses, batch_size=7)
    torch.testing.assert_close(torch.tensor(alone), reference, atol=1e-5, rtol=0)
    assert scorer.score([], []) == []


def test_an_open_text_scores_otherwise_than_a_finished_one(saved, data):
    scorer = RewardScorer.load(saved[0])
    prompt, response = data[0][0].prompt, data[0][0].response
    whole, cut = scorer.score([prompt] * 2, [response] * 2, finished=[True, False])
    assert whole != cut


def test_the_record_beside_the_weights(saved, data):
    folder, metrics = saved
    scorer = RewardScorer.load(folder)
    info = json.loads((folder / CONFIG_NAME).read_text())
    assert info["objective"] == "residual_logistic"
    assert info["beta"] == 0.5
    assert info["max_length"] == 300
    assert info["round"] == 0
    assert info["template_hash"] == template_hash(scorer.tokenizer)
    assert "last token" in info["eos_rule"]
    scores = torch.tensor(
        scorer.score([d.prompt for d in data[0]], [d.response for d in data[0]]),
        dtype=torch.float64,
    )
    assert info["centre"] == pytest.approx(scores.mean().item(), abs=1e-5)
    assert info["scale"] == pytest.approx(scores.std(correction=0).item(), abs=1e-5)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["pad_token_id"] not in (None, scorer.tokenizer.eos_token_id)
    assert (folder / "chat_template.jinja").exists()
    assert metrics["reward/dropped_cut_off"] == 16
    assert metrics["reward/reload_difference"] < 1e-4
    assert 0 < metrics["reward/pairs"] < 32, "held out, so not in the fit"
    assert metrics["reward/pairs"] + metrics["reward/train_pairs"] == 32


def test_the_second_round_fits_the_increment(saved, model_folder, data, tmp_path):
    """residual_logistic starts from r_t at log 2, mixes human pairs in on the absolute reward."""
    with_pairs = replace(
        SETTINGS, learning_rate=1e-9, alpha_pref=0.5, epochs=1, batch_size=32, micro_batch_size=32
    )
    pairs = [Preference(f"p{i}", data[0][i].prompt, "good", "bad") for i in range(4)]
    metrics = fit(saved[0], model_folder, data, tmp_path, with_pairs, pairs, number=1)
    first, second = RewardScorer.load(saved[0]), RewardScorer.load(tmp_path / "model")
    scores = [
        torch.tensor(s.score([p.prompt for p in pairs] * 2, ["good"] * 4 + ["bad"] * 4))
        for s in (first, second)
    ]
    torch.testing.assert_close(*scores, atol=1e-4, rtol=0)  # warm start, no step to speak of
    human = torch.nn.functional.softplus(-(scores[0][:4] - scores[0][4:])).mean().item()
    assert metrics["reward/loss"] == pytest.approx(math.log(2) + 0.5 * human, abs=1e-4)
    assert RewardModelInfo.read(tmp_path / "model").round == 1


def expected_scores(folder: Path) -> list[float]:
    return json.loads((folder / PROBE_NAME).read_text())["scores"]


def test_tampered_weights_are_found(copy):
    weights = load_file(copy / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    weights[name] = weights[name] + 0.05
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RewardSaveError, match="reloaded scores differ"):
        verify_reload(copy, expected_scores(copy))


def test_a_lost_head_is_found(copy):
    """What happens when a trainer saves the body only: the head comes back random."""
    weights = load_file(copy / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RewardSaveError, match=r"missing or left over.*score\.weight"):
        verify_reload(copy, expected_scores(copy))


def test_bfloat16_is_verified_as_saved(classifier, tokenizer, data, tmp_path):
    """Rounding is part of what is saved, and the caller's float32 scores are not the yardstick."""
    info = RewardModelInfo("contrast", 1.0, template_hash(tokenizer), "last token", 300)
    probe = [(d.prompt, d.response) for d in data[0]]
    before = RewardScorer(classifier, tokenizer).score(*map(list, zip(*probe, strict=True)))
    difference = save_reward_model(classifier, tokenizer, tmp_path, info, probe, dtype="bfloat16")
    assert difference < 1e-4
    stored = load_file(tmp_path / "model.safetensors")
    assert {v.dtype for v in stored.values()} == {torch.bfloat16}
    after = RewardScorer.load(tmp_path).score(*map(list, zip(*probe, strict=True)))
    assert expected_scores(tmp_path) == pytest.approx(after[:8], abs=1e-4)
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) > 1e-4


def flip(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 0xFF
    path.write_bytes(bytes(content))


def break_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "a", "1": "b"}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be loaded"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 40), "damaged weights"),
        (
            lambda f: (f / "model.safetensors").write_bytes(
                (f / "model.safetensors").read_bytes()[:-100]
            ),
            "damaged weights",
        ),
        (lambda f: (f / CONFIG_NAME).write_text("{broken"), "cannot be read"),
        (lambda f: (f / CONFIG_NAME).write_text("[1]"), "cannot be read"),
        (lambda f: (f / CONFIG_NAME).write_text('{"beta": 1}'), "cannot be read"),
        (
            lambda f: (f / "chat_template.jinja").write_text("{{ messages }}"),
            "chat template is not",
        ),
        (break_config, "has 2 labels"),
    ],
)
def test_a_damaged_reward_folder_is_a_clear_error(copy, damage, message):
    damage(copy)
    with pytest.raises(UserError, match=message) as caught:
        RewardScorer.load(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_a_language_model_is_no_reward_model(model_folder, tmp_path):
    with pytest.raises(UserError, match="no reward model"):
        RewardScorer.load(model_folder)
    with pytest.raises(UserError, match="no reward model"):
        RewardScorer.load(tmp_path / "nowhere")


def test_template_less_body_stops_the_phase(data, tmp_path):
    body = write_tiny_model(tmp_path / "body", template=None)
    with pytest.raises(UserError, match="no chat template"):
        fit(None, body, data, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_an_earlier_rounds_samples_are_fitted_against_its_own_reward(
    saved, data, tmp_path, monkeypatch, model_folder
):
    """Round 1 with round 0's samples: r_1 frozen under the new ones, r_0 = 0 under the old."""
    from irl_align.llm.reward import phase

    class _Stop(Exception):
        pass

    seen: list = []

    def stop(scorer, groups, held, *_):
        seen.extend([groups, held])
        raise _Stop

    monkeypatch.setattr(phase, "fit_reward", stop)
    demonstrations, samples = data
    with pytest.raises(_Stop):
        fit_reward_phase(
            saved[0], model_folder, demonstrations, [samples, samples], (), tmp_path, SETTINGS,
            ModelConfig(path=str(model_folder), bf16=False), seed=1, scratch=tmp_path / "scratch",
            round_number=1, earlier=[None],
        )  # fmt: skip
    groups, held = seen
    assert len(groups) % 2 == 0
    new, old = groups[: len(groups) // 2], groups[len(groups) // 2 :]
    assert [g.texts for g in new] == [g.texts for g in old]
    assert all(g.previous == [] for g in old)
    scorer = RewardScorer.load(saved[0])
    for group in new:
        scores = scorer.score_tokens(group.texts, [0] * len(group.texts))
        assert group.previous == pytest.approx(scores, abs=1e-4)
        assert any(abs(score) > 1e-3 for score in scores)
    assert len({g.id for g in held}) == len(held)  # against the newest policy only
