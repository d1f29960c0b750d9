"""The real vLLM engine on a tiny model: one process, one start, one reload."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from tiny import write_trained_model

from irl_align.llm.chat import render, response_tokens
from irl_align.llm.config import ModelConfig, SamplingConfig
from irl_align.llm.data.schema import Prompt
from irl_align.llm.generation.base import GenerationSettings
from irl_align.llm.generation.client import EngineProcess, PolicySampler
from irl_align.llm.generation.hf import HfGenerator, token_logprobs
from irl_align.llm.generation.probe import ProbeDrift, write_probe
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)
SAMPLING = SamplingConfig(
    backend="vllm", engine="persistent", dtype="float32", batch_size=16, max_prompt_tokens=120,
    max_new_tokens=24, probe_tolerance=0.01,
)  # fmt: skip
PROMPTS = [
    [{"role": "user", "content": f"say {'red ' * (i % 5)}{'big ' * (i % 3)}{i}"}] for i in range(16)
]
DEMO = ([{"role": "user", "content": "say red 3"}], "good fish tree")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """Two policies of one architecture with tied embeddings, each with its probe beside it."""
    home = tmp_path_factory.mktemp("policies")
    found = []
    for seed in (0, 1):
        folder = home / str(seed)
        write_trained_model(folder, seed=seed, steps=40, hidden=128, heads=2)
        write_probe(folder, home / f"probe-{seed}.json", *DEMO, dtype="float32")
        found.append(folder)
    return found[0], found[1]


def probe_of(folder: Path) -> Path:
    return folder.with_name(f"probe-{folder.name}.json")


@pytest.fixture(scope="module")
def sampler(folders):
    """One engine for the whole module; each test says which policy it wants."""
    found = PolicySampler(SAMPLING)
    yield found
    found.close()


def generate(sampler: PolicySampler, folder: Path, **settings) -> list[list[dict]]:
    """Raw answers, token ids included."""
    sampler._hold(folder.resolve(), probe_of(folder))
    engine = sampler._engine
    assert isinstance(engine, EngineProcess)
    request = {"prompts": PROMPTS, "settings": asdict(GenerationSettings(**settings))}
    return engine.ask({"generate": request})


def logprob_gap(sampler: PolicySampler, folder: Path) -> float:
    """Largest difference to transformers over a few conversations that are not the probe."""
    tokenizer = load_tokenizer(folder)
    model = load_causal_lm(folder, ModelConfig(), dtype="float32").eval()
    gaps = []
    for prompt in PROMPTS[:4]:
        ids = response_tokens(tokenizer, render(tokenizer, prompt, "bad tree good warm"))
        ours = torch.tensor(sampler._engine.logprobs(ids))
        gaps.append((ours - torch.tensor(token_logprobs(model, ids))).abs().max().item())
    return max(gaps)


def test_greedy_tokens_equal_transformers(sampler, folders):
    settings = {"n": 1, "temperature": 0.0, "max_new_tokens": 24, "max_prompt_tokens": 120}
    found = generate(sampler, folders[0], **settings)
    reference = HfGenerator(SAMPLING)
    reference.load(folders[0])
    expected = reference.generate(PROMPTS, GenerationSettings(**settings))
    assert len(found) == 16
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[0]["token_ids"] == theirs[0].token_ids
        assert ours[0]["text"] == theirs[0].text
        assert ours[0]["finish_reason"] == theirs[0].finish_reason
        assert ours[0]["tokens"] == theirs[0].tokens
    assert len({tuple(o[0]["token_ids"]) for o in found}) > 1
    assert logprob_gap(sampler, folders[0]) < 1e-3


def test_same_seed_same_samples_whatever_ran_before(sampler, folders):
    first, other = (
        generate(sampler, folders[0], n=3, max_new_tokens=8, max_prompt_tokens=96, seed=seed)
        for seed in (1, 2)
    )
    again = generate(sampler, folders[0], n=3, max_new_tokens=8, max_prompt_tokens=96, seed=1)
    assert first == again
    assert first != other
    assert all(len({tuple(c["token_ids"]) for c in answers}) > 1 for answers in first[:3])


def test_over_long_prompts_are_skipped(sampler, folders):
    prompts = [
        Prompt("a", tuple(PROMPTS[0])),
        Prompt("b", ({"role": "user", "content": "9" * 200},)),
    ]
    samples, metrics = sampler.sample(
        folders[0], probe_of(folders[0]), prompts,
        GenerationSettings(n=2, max_new_tokens=4, max_prompt_tokens=96),
    )  # fmt: skip
    assert [len(s.completions) for s in samples] == [2, 0]
    assert samples[1].skipped
    assert metrics["samples/tokens_per_second"] > 0


def test_reload_takes_the_other_policy_and_back(sampler, folders):
    """In place, with an output layer tied to the embeddings (which an engine packs at start)."""
    settings = {"n": 1, "temperature": 0.0, "max_new_tokens": 8, "max_prompt_tokens": 96}
    before = generate(sampler, folders[0], **settings)
    process = sampler._engine.process.pid
    metrics = sampler._hold(folders[1].resolve(), probe_of(folders[1]))
    assert metrics["samples/probe_gap"] < 1e-3
    assert logprob_gap(sampler, folders[1]) < 1e-3
    assert generate(sampler, folders[1], **settings) != before
    sampled = {"n": 2, "max_new_tokens": 8, "max_prompt_tokens": 96, "seed": 5}
    after_reload = generate(sampler, folders[1], **sampled)
    assert generate(sampler, folders[0], **settings) == before
    assert generate(sampler, folders[1], **sampled) == after_reload
    assert sampler._engine.process.pid == process, "one engine did all of this"


def test_a_policy_that_is_not_the_probes_stops_the_run(sampler, folders, tmp_path):
    changed = Path(shutil.copytree(folders[0], tmp_path / "policy"))
    with pytest.raises(ProbeDrift, match="does not hold the policy"):
        sampler._hold(changed, probe_of(folders[1]))
    assert sampler._loaded is None, "the next call must load and check again"
