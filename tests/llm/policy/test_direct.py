"""SPIN, DPO, RPO and SPAC as pairs; their implicit rewards in whole rounds."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
import torch
from tiny import write_demonstrations, write_preferences, write_prompts

from irl_align.core.config import load_config
from irl_align.core.errors import UserError
from irl_align.llm.alignment import align
from irl_align.llm.config import AlignConfig
from irl_align.llm.data.schema import Demonstration, Preference
from irl_align.llm.generation.samples import Completion, PromptSamples
from irl_align.llm.policy.direct import direct_pairs, mix, self_play_pairs
from irl_align.llm.policy.likelihood import ImplicitRewardScorer, LikelihoodScorer
from irl_align.llm.policy.pairs import PolicyPair

PROMPT = ({"role": "user", "content": "say red"},)


def completions(*texts: str, cut: str | None = None) -> list[Completion]:
    found = [Completion(t, "stop", 3) for t in texts]
    return found + ([Completion(cut, "length", 3)] if cut else [])


def test_the_demonstration_stands_over_the_policys_own_finished_answers():
    demos = [Demonstration("a", PROMPT, "good"), Demonstration("b", PROMPT, "fine")]
    demos += [Demonstration("c", PROMPT, "x"), Demonstration("gone", PROMPT, "x")]
    samples = {
        "a": PromptSamples("a", PROMPT, completions("bad", "good", "bad", "worse", cut="wor")),
        "b": PromptSamples("b", PROMPT, completions("fine")),
        "c": PromptSamples("c", PROMPT, completions("u", "v", "w")),
    }
    pairs, dropped = self_play_pairs(demos, samples, limit=2)
    assert [(p.chosen, p.rejected) for p in pairs] == [
        ("good", "bad"), ("good", "worse"), ("x", "u"), ("x", "v")
    ]  # fmt: skip
    assert dropped == Counter(cut_off_completions=1, no_completion=1, not_sampled=1)


def pair(name: str) -> PolicyPair:
    return PolicyPair(name, PROMPT, "c", "r", 0.0)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 2.5])
def test_weights_are_shares_of_the_rows(alpha):
    own, human = [pair(f"o{i}") for i in range(20)], [pair(f"h{i}") for i in range(8)]
    rows = mix(own, human, alpha, seed=1)
    counts = Counter(r.id for r in rows)
    assert [counts[p.id] for p in own] == [1] * 20
    assert sum(counts[p.id] for p in human) == round(alpha * 20)
    spread = [counts[p.id] for p in human]
    assert max(spread) - min(spread) <= 1, "each human pair as often as the others"
    assert mix([], human, alpha, seed=1) == human


def test_methods_take_the_pairs_they_are_named_for():
    config = AlignConfig()
    demos = [Demonstration("a", PROMPT, "good")]
    human = [Preference("h", PROMPT, "yes", "no")]
    samples = [PromptSamples("a", PROMPT, completions("bad"))]
    found = {}
    for method in ("spin", "dpo", "rpo", "spac"):
        config.policy.method = method
        pairs, _ = direct_pairs(config, demos, human, samples, seed=0)
        found[method] = sorted(p.chosen for p in pairs)
    assert found == {
        "spin": ["good"], "dpo": ["yes"], "rpo": ["yes"], "spac": ["good", "yes"]
    }  # fmt: skip
    config.policy.method = "spin"
    with pytest.raises(UserError, match="max_new_tokens"):
        direct_pairs(config, demos, human, [PromptSamples("a", PROMPT, [])], seed=0)


CONFIG = """
rounds: {rounds}
seed: 3
run_dir: {run}
model: {{path: {model}, bf16: false}}
demonstrations: {{path: {home}/demonstrations.jsonl}}
preferences: {{path: {preferences}}}
sft: {{enabled: false}}
sampling:
  {{backend: hf, samples_per_prompt: 4, max_new_tokens: 8, dtype: float32, engine: persistent}}
policy:
  method: {method}
  reference: {reference}
  epochs: {epochs}
  learning_rate: 5.0e-3
  warmup_ratio: 0.0
  batch_size: 8
  micro_batch_size: 4
  lora: {{r: 4, alpha: 8}}
evaluation:
  prompts: {home}/prompts.jsonl
  preferences: {{path: {home}/held.jsonl}}
  samples_per_prompt: 2
launch: {{inline: true, tensorboard: false}}
"""


def run(home, model, method: str, reference: str, rounds: int = 1):
    write_demonstrations(home / "demonstrations.jsonl", rows=12)
    write_prompts(home / "prompts.jsonl", rows=3)
    preferences = write_preferences(home / "pairs.jsonl", rows=6)
    rows = [json.loads(line) for line in preferences.read_text().splitlines()]
    held = [{**r, "prompt": r["prompt"] + " held"} for r in rows]
    (home / "held.jsonl").write_text("".join(json.dumps(r) + "\n" for r in held))
    (home / "tiny.yaml").write_text(
        CONFIG.format(
            run=home / "run",
            home=home,
            model=model,
            method=method,
            reference=reference,
            rounds=rounds,
            epochs=6 if method == "rpo" else 1,
            preferences="null" if method == "spin" else preferences,
        )
    )
    return align(load_config(AlignConfig, home / "tiny.yaml", [])), held


def test_spins_loss_starts_at_log_2_in_every_round(tmp_path, trained_folder):
    """The opponent is the policy itself, so both log ratios are 0."""
    folder, _ = run(tmp_path, trained_folder, "spin", "previous", rounds=2)
    for number in (0, 1):
        steps = (folder / f"rounds/{number:04d}/policy/steps.jsonl").read_text().splitlines()
        assert json.loads(steps[0])["loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert json.loads(steps[-1])["loss"] < 0.66
        assert not (folder / f"rounds/{number:04d}/reward/model").exists()


@pytest.mark.parametrize("method", ["dpo", "rpo", "spac"])
def test_the_implicit_reward_is_measured_on_held_out_human_pairs(tmp_path, trained_folder, method):
    folder, held = run(tmp_path, trained_folder, method, "base")
    found = json.loads((folder / "rounds/0000/metrics.json").read_text())
    ours, theirs = (
        LikelihoodScorer.load(path)
        for path in (folder / "rounds/0000/policy/model", trained_folder)
    )
    scorer = ImplicitRewardScorer(ours, theirs, 0.1)
    prompts = [[{"role": "user", "content": r["prompt"]}] for r in held]
    margins = torch.tensor(scorer.score(prompts, [r["chosen"] for r in held])) - torch.tensor(
        scorer.score(prompts, [r["rejected"] for r in held])
    )
    assert found["eval/preference_accuracy"] == pytest.approx(float((margins > 0).float().mean()))
    assert found["eval/preference_accuracy"] > 0.9, "chosen answers begin with good"
    assert ("policy/nll" in found) == (method == "rpo")
    if method == "rpo":
        assert found["policy/nll"] < found["policy/first_nll"] - 0.1


def test_dpo_without_human_pairs_is_refused_before_anything_runs(tmp_path, trained_folder):
    run_dir = tmp_path / "run"
    write_demonstrations(tmp_path / "demonstrations.jsonl", rows=3)
    config = AlignConfig(run_dir=str(run_dir))
    config.model.path = str(trained_folder)
    config.demonstrations.path = str(tmp_path / "demonstrations.jsonl")
    config.policy.method = "dpo"
    config.sampling.backend = "hf"
    with pytest.raises(UserError, match=r"policy\.method=spin"):
        align(config)
    assert not run_dir.exists()
