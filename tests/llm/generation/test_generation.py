"""Hugging Face generation, the logprob probe, sample files and the engine process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import write_trained_model

from irl_align.core.errors import UserError
from irl_align.llm.chat import render_prompt, response_tokens
from irl_align.llm.config import ModelConfig, SamplingConfig
from irl_align.llm.data.schema import Prompt
from irl_align.llm.generation.base import GenerationSettings, PromptTooLong
from irl_align.llm.generation.client import EngineProcess, PolicySampler
from irl_align.llm.generation.hf import HfGenerator, stop_token_ids, token_logprobs
from irl_align.llm.generation.probe import LogprobProbe, ProbeDrift, check_probe, write_probe
from irl_align.llm.generation.samples import (
    Completion,
    PromptSamples,
    read_samples,
    sample_metrics,
    write_samples,
)
from irl_align.llm.models.loading import load_causal_lm

SAMPLING = SamplingConfig(backend="hf", dtype="float32", batch_size=12)
PROMPTS = [[{"role": "user", "content": f"say {'red ' * (i % 3)}{i}"}] for i in range(8)]


@pytest.fixture(scope="module")
def generator(trained_folder):
    found = HfGenerator(SAMPLING)
    found.load(trained_folder)
    return found


def texts(found) -> list[list[str]]:
    return [[c.text for c in completions] for completions in found]


def test_same_seed_same_samples_whatever_ran_before(generator):
    settings = GenerationSettings(n=3, max_new_tokens=8, seed=1)
    first = generator.generate(PROMPTS, settings)
    other = generator.generate(PROMPTS, GenerationSettings(n=3, max_new_tokens=8, seed=2))
    again = generator.generate(PROMPTS, settings)
    assert first == again
    assert texts(first) != texts(other)
    assert all(len(completions) == 3 for completions in first)
    assert len({t for completions in texts(first) for t in completions}) > 8


def test_greedy_is_the_hand_loop(generator, trained_folder):
    """Batched with left padding, against one prompt at a time and an argmax."""
    found = generator.generate(PROMPTS, GenerationSettings(n=2, temperature=0.0, max_new_tokens=9))
    model = load_causal_lm(trained_folder, ModelConfig(), dtype="float32").eval()
    stops = stop_token_ids(generator.tokenizer, model.generation_config)
    for prompt, completions in zip(PROMPTS, found, strict=True):
        ids = response_tokens(generator.tokenizer, render_prompt(generator.tokenizer, prompt))
        answer: list[int] = []
        with torch.no_grad():
            while len(answer) < 9 and (not answer or answer[-1] not in stops):
                logits = model(input_ids=torch.tensor([ids + answer])).logits[0, -1]
                answer.append(int(logits.argmax()))
        assert [c.token_ids for c in completions] == [answer, answer]
        assert completions[0].finished == (answer[-1] in stops)


def test_finish_reasons_and_lengths(generator):
    eos = generator.tokenizer.eos_token_id
    long, short = (
        [c for of in generator.generate(
            PROMPTS, GenerationSettings(n=4, max_new_tokens=tokens, seed=3)) for c in of]
        for tokens in (20, 2)
    )  # fmt: skip
    assert {c.finish_reason for c in short} == {"length"}
    assert sum(c.finished for c in long) > len(long) / 2
    for completion in long + short:
        assert completion.tokens == len(completion.token_ids)
        assert completion.token_ids.count(eos) == int(completion.finished)
        assert (completion.token_ids[-1] == eos) == completion.finished
        assert completion.text == completion.text.strip()
        assert "<|" not in completion.text


def test_over_long_prompts_are_skipped_and_counted(trained_folder):
    sampler = PolicySampler(SAMPLING)
    prompts = [Prompt(f"p{i}", tuple(m)) for i, m in enumerate(PROMPTS[:2])]
    prompts.insert(1, Prompt("long", ({"role": "user", "content": "say red " * 40},)))
    settings = GenerationSettings(n=2, max_new_tokens=4, max_prompt_tokens=40, seed=1)
    try:
        samples, metrics = sampler.sample(trained_folder, None, prompts, settings)
    finally:
        sampler.close()
    assert [s.id for s in samples] == ["p0", "long", "p1"]
    assert [len(s.completions) for s in samples] == [2, 0, 2]
    assert "over max_prompt_tokens=40" in samples[1].skipped
    assert metrics["samples/tokens_per_second"] > 0
    measured = sample_metrics(samples)
    assert measured["samples/over_long_prompts"] == 1
    assert measured["samples/completions"] == 4


def test_progress_counts_every_prompt(generator):
    done: list[int] = []
    long = [{"role": "user", "content": "red " * 200}]
    found = generator.generate(
        [*PROMPTS, long],
        GenerationSettings(n=5, max_new_tokens=2, max_prompt_tokens=60),
        done.append,
    )
    assert isinstance(found[-1], PromptTooLong)
    assert sum(done) == len(PROMPTS)
    assert len(done) == 4, "12 sequences a batch are two prompts of 5 completions"


def test_probe_passes_on_the_policy_and_stops_on_another(generator, trained_folder, tmp_path):
    demo = ([{"role": "user", "content": "say red 3"}], "good fish tree")
    probe = write_probe(trained_folder, tmp_path / "probe.json", *demo, dtype="float32")
    assert LogprobProbe.read(tmp_path / "probe.json") == probe
    assert len(probe.logprobs) == len(probe.token_ids) - 1
    assert check_probe(generator, probe, 0.01) < 1e-4

    other = HfGenerator(SAMPLING)
    other.load(write_trained_model(tmp_path / "other", seed=7, steps=60))
    with pytest.raises(ProbeDrift, match="does not hold the policy"):
        check_probe(other, probe, 0.1)


def test_a_damaged_probe_is_a_clear_error(tmp_path):
    (tmp_path / "probe.json").write_text('{"token_ids": [1]}')
    with pytest.raises(UserError, match="no logprob probe"):
        LogprobProbe.read(tmp_path / "probe.json")


def test_logprobs_are_those_of_the_model(generator, trained_folder):
    ids = response_tokens(generator.tokenizer, render_prompt(generator.tokenizer, PROMPTS[1]))
    model = load_causal_lm(trained_folder, ModelConfig(), dtype="float32").eval()
    with torch.no_grad():
        table = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    expected = [table[i, ids[i + 1]].item() for i in range(len(ids) - 1)]
    assert generator.logprobs(ids) == pytest.approx(expected, abs=1e-5)
    assert token_logprobs(model, ids) == pytest.approx(expected, abs=1e-5)


def test_samples_round_trip_with_equal_bytes(tmp_path):
    samples = [
        PromptSamples("a", PROMPTS[0], [Completion("né\n", "stop", 3, [1], {"reward": 0.5})]),
        PromptSamples("b", PROMPTS[1], [], skipped="too long"),
    ]
    for name in ("s.jsonl", "s.jsonl.gz"):
        write_samples(tmp_path / name, samples)
        found = read_samples(tmp_path / name)
        assert [s.as_dict() for s in found] == [s.as_dict() for s in samples]
        first = (tmp_path / name).read_bytes()
        time.sleep(0.01)
        write_samples(tmp_path / name, found)
        assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"id": "a"}\n', "row 1"), (b"\xff\xfe\n", "cannot be read"), (b"\n{", "row 1")],
)
def test_damaged_samples_are_a_clear_error(tmp_path, content, message):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_samples(path)


def test_a_cut_gzip_is_a_clear_error(tmp_path):
    path = tmp_path / "samples.jsonl.gz"
    write_samples(path, [PromptSamples("a", PROMPTS[0], [Completion("x" * 50, "stop", 3)])])
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UserError, match="cannot be read"):
        read_samples(path)


# The process


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_the_engine_process_dies_with_a_killed_parent(model_folder):
    """In the middle of a batch, when it reads no pipe whose end it could notice."""
    program = f"""
import json, time
from irl_align.llm.config import SamplingConfig
from irl_align.llm.generation.client import EngineProcess
engine = EngineProcess(SamplingConfig(backend="hf", dtype="float32", batch_size=256))
engine.load({str(model_folder)!r})
prompts = [[{{"role": "user", "content": "say red"}}]]
settings = {{"n": 256, "max_new_tokens": 480, "temperature": 5.0}}
request = {{"generate": {{"prompts": prompts, "settings": settings}}}}
engine.process.stdin.write(json.dumps(request) + chr(10))
engine.process.stdin.flush()
print(engine.process.pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.5)
        assert alive(pid)
        os.kill(parent.pid, signal.SIGKILL)
        assert gone(pid, 1.5)
    finally:
        parent.kill()
        parent.wait()


def test_errors_cross_the_pipe_and_the_process_goes_on(trained_folder, tmp_path):
    engine = EngineProcess(SAMPLING)
    try:
        with pytest.raises(UserError, match="nowhere is no model folder"):
            engine.load(tmp_path / "nowhere")
        (tmp_path / "broken").mkdir()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (tmp_path / "broken" / name).write_bytes((trained_folder / name).read_bytes())
        (tmp_path / "broken" / "chat_template.jinja").write_text("{{ messages }}")
        (tmp_path / "broken" / "model.safetensors").write_bytes(b"x" * 64)
        with pytest.raises(UserError, match="cannot be loaded as a model folder"):
            engine.load(tmp_path / "broken")
        engine.load(trained_folder)
        assert len(engine.logprobs([1, 2, 3])) == 2
        pid = engine.process.pid
        engine.process.kill()
        with pytest.raises(RuntimeError, match="ended by itself"):
            engine.logprobs([1, 2, 3])
    finally:
        engine.close()
    assert gone(pid, 1.0)


def test_a_missing_engine_is_named(monkeypatch):
    from irl_align.llm.generation import client

    monkeypatch.setattr(client.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="vLLM is not installed"):
        client.resolve_backend(SamplingConfig(backend="vllm"))
    assert client.resolve_backend(SamplingConfig(backend="auto")).backend == "hf"
