"""Folders as players, and reward models as referees: real, tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_server import JudgeServer
from tiny import write_trained_model

from irl_align.core.errors import UserError
from irl_align.evaluation.mt_bench import MtBenchOptions, run_mt_bench
from irl_align.evaluation.players import PlayerOptions, PolicyPlayer
from irl_align.evaluation.store import identify_model
from irl_align.evaluation.win_rate import WinRateOptions, run_win_rate
from irl_align.llm.config import SamplingConfig
from irl_align.llm.generation import client, worker
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.reward.classifier import load_classifier
from irl_align.llm.reward.scorer import RewardScorer

PLAYER = PlayerOptions(
    backend="hf", dtype="float32", max_new_tokens=12, max_prompt_tokens=480, batch_size=16
)


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    return write_trained_model(tmp_path_factory.mktemp("players") / "policy")


@pytest.fixture(scope="module")
def reward(policy, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("players") / "reward"
    model = load_classifier(policy, new_head=True)
    with torch.no_grad():
        model.score.weight.normal_(generator=torch.Generator().manual_seed(1))
    model.save_pretrained(folder)
    load_tokenizer(policy).save_pretrained(folder)
    return folder


@pytest.fixture
def server(monkeypatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = JudgeServer()
    yield found
    found.close()


class InlineEngine:
    """The generation process without the process, whose start takes longer than these tests."""

    def __init__(self, sampling: SamplingConfig) -> None:
        self.generator = worker.make_generator(sampling)

    def load(self, model: Path) -> None:
        self.generator.load(model)

    def ask(self, request: dict[str, Any], progress: Any = None) -> Any:
        return worker._obey(self.generator, request, StringIO())

    def close(self) -> None:
        self.generator.close()


@pytest.fixture
def inline(monkeypatch) -> None:
    monkeypatch.setattr(client, "EngineProcess", InlineEngine)


@pytest.fixture
def prompts(tmp_path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"say red {i}"}) + "\n" for i in range(12)))
    return path


def test_a_policy_against_itself_under_a_reward_model(policy, reward, prompts, tmp_path, inline):
    """Fresh draws on both sides; the outcome is what the scores in the file say."""
    options = WinRateOptions(
        str(policy),
        str(policy),
        reward=str(reward),
        prompts=str(prompts),
        out=tmp_path / "out",
        player=PLAYER,
    )
    result, _ = run_win_rate(options)
    rows = [json.loads(r) for r in (tmp_path / "out" / result.items).read_text().splitlines()]
    assert len(rows) == 12
    assert any(row["a"] != row["b"] for row in rows), "each side draws for itself"
    scorer = RewardScorer.load(reward)
    kept = sorted((tmp_path / "out").glob("win_rate-*.answers.jsonl"))
    assert len(kept) == 2
    finished = {
        (row["prompt"][0]["content"], row["response"]): row["finish_reason"] == "stop"
        for path in kept
        for row in map(json.loads, path.read_text().splitlines())
    }
    for row in rows:
        for side in "ab":
            whole = finished[row["prompt"][0]["content"], row[side]]
            score = scorer.score([row["prompt"]], [row[side]], finished=[whole])[0]
            assert row[f"score_{side}"] == pytest.approx(score, abs=1e-4)
        higher = (row["score_a"] > row["score_b"]) + 0.5 * (row["score_a"] == row["score_b"])
        assert row["outcome"] == higher
    assert result.others["referee"] == identify_model(reward)
    assert not result.metrics["win_rate"].excludes(0.5)


def test_a_policy_against_a_file(policy, tmp_path, inline):
    answers = tmp_path / "b.jsonl"
    answers.write_text(
        "".join(json.dumps({"prompt": f"say red {i}", "response": "x"}) + "\n" for i in range(3))
    )
    options = WinRateOptions(
        str(policy), str(answers), rule="length", out=tmp_path / "out", player=PLAYER
    )
    result, _ = run_win_rate(options)
    assert result.metrics["win_rate"].mean == 1.0
    with pytest.raises(UserError, match="brings the prompts"):
        run_win_rate(WinRateOptions(**(vars(options) | {"prompts": str(answers)})))


def test_a_folder_plays_mt_bench_once(policy, server, tmp_path, monkeypatch, inline):
    options = MtBenchOptions(str(policy), server.url, out=tmp_path, limit=4, player=PLAYER)
    result, _ = run_mt_bench(options)
    assert result.metrics["graded"] == 8
    assert result.model == identify_model(policy)
    assert result.settings["backend"] == "hf"
    asked = len(server.requests)
    monkeypatch.setattr(PolicyPlayer, "answer", lambda *_, **__: pytest.fail("answered again"))
    assert run_mt_bench(options)[0].metrics == result.metrics
    assert len(server.requests) == asked


def test_prompts_that_do_not_fit_are_counted(policy, server, tmp_path, inline):
    player = PlayerOptions(**(vars(PLAYER) | {"max_prompt_tokens": 3}))
    result, text = run_mt_bench(
        MtBenchOptions(str(policy), server.url, out=tmp_path, limit=2, player=player)
    )
    assert result.metrics["failed/answer"] == 4
    assert result.metrics["average"] is None
    assert "average     -" in text
    assert server.requests == []
