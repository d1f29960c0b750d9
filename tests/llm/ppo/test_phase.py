"""Whole rounds with `policy.method=ppo` on a tiny model that answers in words."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import write_demonstrations

from irl_align.core.config import load_config
from irl_align.core.errors import UserError
from irl_align.llm.alignment import align
from irl_align.llm.chat import render_prompt, response_tokens
from irl_align.llm.config import AlignConfig, ModelConfig
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
from irl_align.llm.ppo.actor_critic import SeparateModels, answer_logprobs
from irl_align.llm.ppo.experience import pad_rollouts
from irl_align.llm.ppo.phase import TextScore, stream_shape
from irl_align.llm.ppo.rollouts import OwnRollouts

CONFIG = """
rounds: 2
seed: 0
run_dir: {run}
model: {{path: {model}, bf16: false}}
demonstrations: {{path: {demonstrations}}}
sft: {{enabled: false}}
sampling:
  {{backend: hf, samples_per_prompt: 6, max_new_tokens: 8, dtype: float32, engine: persistent}}
reward:
  {{batch_size: 4, micro_batch_size: 2, lora: {{r: 2, alpha: 4}}, truncated: match, max_length: 64}}
policy:
  method: ppo
  learning_rate: 5.0e-3
  epochs: 8
  batch_size: 16
  micro_batch_size: 8
  lora: {{r: 4, alpha: 8}}
  ppo: {{rollout_batch: 32}}
launch: {{inline: true, tensorboard: false}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, trained_folder) -> Path:
    home = tmp_path_factory.mktemp("ppo")
    (home / "tiny.yaml").write_text(
        CONFIG.format(
            run=home / "run",
            model=trained_folder,
            demonstrations=write_demonstrations(home / "demonstrations.jsonl", rows=16),
        )
    )
    said = io.StringIO()
    with redirect_stderr(said):
        folder = align(load_config(AlignConfig, home / "tiny.yaml", []))
    (folder / "said.txt").write_text(said.getvalue())
    return folder


def told(run: Path, number: int) -> list[dict[str, float]]:
    rows = (run / f"rounds/{number:04d}/policy/rollouts.jsonl").read_text().splitlines()
    return [json.loads(row) for row in rows]


def record(run: Path, number: int) -> dict[str, float]:
    return json.loads((run / f"rounds/{number:04d}/metrics.json").read_text())


def test_every_batch_is_told_of(run):
    for number in (0, 1):
        found, batches = record(run, number), told(run, number)
        assert len(batches) == 4, "8 passes over 16 prompts in batches of 32"
        assert found["policy/episodes"] == 128
        assert found["policy/steps"] == 4 * 4 * 2
        assert found["policy/models"] == 1, "reward and policy are adapters of one base"
        assert found["policy/score"] == batches[-1]["score"]
        assert batches[0]["beta"] == batches[-1]["beta"] == 0.1


def test_who_watches_sees_each_batch_as_it_comes(run):
    lines = [li for li in (run / "said.txt").read_text().splitlines() if li.startswith("answers ")]
    assert len(lines) == 2 * 4
    assert lines[5].startswith(f"answers 1: score {told(run, 1)[1]['score']:.4g}  kl ")


def test_the_second_round_goes_on_from_the_first_ones_adapter(run):
    first, second = (told(run, number)[0] for number in (0, 1))
    assert abs(first["kl"]) < 1e-4, "pi_0 is the reference"
    assert second["kl"] > 0.01, "pi_1 is not, and the KL is still to pi_0"


def test_what_is_saved_is_the_policy_alone(run):
    folder = run / "rounds/0001/policy"
    assert {p.name for p in (folder / "adapter").iterdir()} >= {"adapter_model.safetensors"}
    assert not any(p.is_dir() for p in (folder / "adapter").iterdir()), "no other role's adapter"
    load_causal_lm(folder / "model", ModelConfig())


def test_answers_end_with_their_end_token_and_keep_their_prompts(run, trained_folder):
    tokenizer = load_tokenizer(trained_folder)
    policy = load_causal_lm(trained_folder, ModelConfig(bf16=False))
    models = SeparateModels(policy, policy, policy, temperature=1.0)
    config = load_config(AlignConfig, run.parent / "tiny.yaml", [])
    prompts = [[{"role": "user", "content": f"say {w}"}] for w in ("red", "blue", "a long one")]
    source = OwnRollouts(models, tokenizer, prompts, config, seed=1)
    rollouts = source.sample(0, 32, seed=5)
    assert source.sample(0, 32, seed=5) == rollouts
    assert source.sample(0, 32, seed=6) != rollouts
    counts = [sum(r.source == i for r in rollouts) for i in range(3)]
    assert sorted(counts) == [10, 11, 11], "prompts take turns"
    others = OwnRollouts(models, tokenizer, prompts, config, seed=2).sample(0, 32, seed=5)
    assert [r.source for r in others] != [r.source for r in rollouts], "a round has its own order"
    assert any(r.finished for r in rollouts)
    for rollout in rollouts:
        wanted = response_tokens(tokenizer, render_prompt(tokenizer, prompts[rollout.source]))
        assert list(rollout.prompt) == wanted
        assert (rollout.answer[-1] == tokenizer.eos_token_id) == rollout.finished
        assert tokenizer.eos_token_id not in rollout.answer[:-1]
    # What was sampled is as likely as the trainer finds it: the policies are one.
    batch = pad_rollouts(rollouts, int(tokenizer.pad_token_id))
    mean = (answer_logprobs(policy, batch, 1.0) * batch.mask).sum() / batch.mask.sum()
    assert float(mean.detach()) > -2.5, "random tokens would have -5.9"


def test_scores_are_of_the_text_that_the_reward_model_would_read(trained_folder):
    tokenizer = load_tokenizer(trained_folder)
    seen = {}

    class Scorer:
        def score(self, prompts, texts, *, finished, batch_size):
            seen.update(prompts=prompts, texts=texts, finished=finished)
            return [0.0] * len(texts)

    from irl_align.llm.ppo.experience import Rollout

    prompts = [[{"role": "user", "content": "say red"}], [{"role": "user", "content": "say blue"}]]
    whole = [*tokenizer(" good tree")["input_ids"], tokenizer.eos_token_id]
    TextScore(Scorer(), tokenizer, prompts)(
        [Rollout((1,), whole, True, source=1), Rollout((1,), whole[:-1], False, source=0)]
    )
    assert seen == {
        "prompts": [prompts[1], prompts[0]],
        "texts": ["good tree", "good tree"],
        "finished": [True, False],
    }


def test_episodes_come_in_whole_batches(run):
    config = load_config(AlignConfig, run.parent / "tiny.yaml", [])
    assert stream_shape(config, 16).batches == 4
    assert stream_shape(config, 17).batches == 5
    config.policy.ppo = replace(config.policy.ppo, episodes=32)
    assert stream_shape(config, 1000).batches == 1


def test_settings_that_cannot_work_are_refused_at_once(run):
    path = run.parent / "tiny.yaml"
    for override, message in (
        ("sampling.top_p=0.9", "top_p 1"),
        ("sampling.temperature=0", "temperature above 0"),
        ("policy.ppo.rollout_batch=24", "no multiple of batch_size"),
        ("policy.ppo.clip=0", "clip"),
        ("policy.ppo.averge=answer", "average"),
    ):
        with pytest.raises(UserError, match=message):
            load_config(AlignConfig, path, [override])
