"""Win rates: closed forms, a sampler against itself, biased judges, mismatched files."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import JudgeServer, chat

from irl_align.core.errors import UserError
from irl_align.evaluation.store import load_evaluation
from irl_align.evaluation.win_rate import WinRateOptions, run_win_rate
from irl_align.evaluation.win_rate.length_control import length_controlled_win_rate
from irl_align.evaluation.win_rate.referees import Game
from irl_align.evaluation.win_rate.summary import sign_test, summarise


@pytest.fixture
def server(monkeypatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = JudgeServer()
    yield found
    found.close()


def write(path: Path, answers: list[str], **extra: Any) -> str:
    rows = [{"prompt": f"p{i}", "response": text} | extra for i, text in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def shown(body: dict[str, Any]) -> tuple[str, str]:
    parts = body["messages"][1]["content"].split("answer\n<<<\n")
    return parts[1].split("\n>>>")[0], parts[2].split("\n>>>")[0]


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_length_control_in_closed_form():
    """With two lengths the regression is saturated: the mean of the two logits."""
    longer, shorter = [1.0] * 90 + [0.0] * 10, [1.0] * 30 + [0.0] * 70
    differences = [40] * 100 + [-40] * 100
    found = length_controlled_win_rate(longer + shorter, differences, samples=200)
    expected = 1 / (1 + np.exp(-(logit(0.9) + logit(0.3)) / 2))
    assert found.mean == pytest.approx(expected, abs=1e-4)
    assert found.low < expected < found.high
    # A judge that only counts letters: nothing is left at equal length.
    found = length_controlled_win_rate([1.0] * 30 + [0.0] * 30, [9] * 30 + [-9] * 30, samples=50)
    assert found.mean == pytest.approx(0.5, abs=1e-6)


def test_length_control_recovers_a_known_model():
    """Outcomes drawn from P = sigmoid(b0 + b1 d / s) with b0 = 0.4."""
    random = np.random.default_rng(0)
    differences = random.normal(30, 100, size=20_000)
    size = np.sqrt(np.mean(differences**2))
    p = 1 / (1 + np.exp(-(0.4 + 1.5 * differences / size)))
    found = length_controlled_win_rate(random.random(20_000) < p, differences, samples=20)
    assert found.mean == pytest.approx(1 / (1 + np.exp(-0.4)), abs=0.015)


@pytest.mark.parametrize(
    ("outcomes", "differences", "expected"),
    [
        ([1.0, 0.0, 0.5, 1.0], [0, 0, 0, 0], 0.625),  # no lengths to speak of: the raw rate
        ([1.0] * 20, [5, -5] * 10, 1.0),
        ([0.0] * 20, list(range(20)), 0.0),
        ([0.5] * 10, list(range(10)), 0.5),
        ([1.0], [7], 0.5),  # one pair: all of it may be length
    ],
)
def test_length_control_at_the_edges(outcomes, differences, expected):
    found = length_controlled_win_rate(outcomes, differences, samples=50)
    assert found.low <= found.mean <= found.high
    assert found.mean == pytest.approx(expected, abs=0.01 if len(outcomes) > 1 else 0.5)


def test_figures_by_hand():
    games = [
        Game("a", "a"),  # 1
        Game("a", "b"),  # 1/2: whoever is shown first
        Game("tie", "a"),  # 3/4
        Game("b", "b"),  # 0
        Game("a", None),  # left out
    ]
    metrics = summarise(games, [0] * 5, blind=False)
    assert metrics["win_rate"].mean == pytest.approx(2.25 / 4)
    assert (metrics["wins"], metrics["ties"], metrics["losses"]) == (2, 1, 1)
    assert metrics["excluded"] == 1
    assert metrics["swap_agreement"].mean == 0.5
    assert metrics["position_bias"].mean == pytest.approx((0 + 1 - 0.5 + 0) / 4)
    assert "swap_agreement" not in summarise(games, [0] * 5, blind=True)
    nothing = summarise([Game(None, None)], [0], blind=False)
    assert nothing["win_rate"] is None and nothing["excluded"] == 1


def test_sign_test():
    assert sign_test(0, 0) == 1.0
    assert sign_test(8, 0) == pytest.approx(2 / 256)
    assert sign_test(5, 5) == 1.0
    assert 0 <= sign_test(3000, 2000) < 1e-40


def test_an_honest_judge(server, tmp_path):
    """The judge prefers whatever says good; A does so on three prompts of four."""
    a = write(tmp_path / "a.jsonl", ["good", "good", "good", "bad"])
    b = write(tmp_path / "b.jsonl", ["bad", "bad", "good", "bad answer"])

    def answer(body, number):
        first, second = shown(body)
        one, two = "good" in first, "good" in second
        return 200, chat("[[TIE]]" if one == two else "[[A]]" if one else "[[B]]")

    server.answer = answer
    out = tmp_path / "out"
    result, text = run_win_rate(WinRateOptions(a, b, judge=server.url, out=out))
    assert result.metrics["win_rate"].mean == 0.75
    assert (result.metrics["wins"], result.metrics["ties"], result.metrics["losses"]) == (2, 2, 0)
    assert result.metrics["swap_agreement"].mean == 1.0
    assert result.metrics["position_bias"].mean == 0.0
    assert len(server.requests) == 7, "good against good is the same question in both orders"
    rows = [json.loads(line) for line in (out / result.items).read_text().splitlines()]
    assert [r["outcome"] for r in rows] == [1.0, 1.0, 0.5, 0.5]
    assert load_evaluation(out / result.name).others["opponent"].path == b
    assert "swap agreement          1.000" in text
    run_win_rate(WinRateOptions(a, b, judge=server.url, out=out))
    assert len(server.requests) == 7, "the second run finds all verdicts"


def test_a_constant_position_bias_is_detected_and_averaged_out(server, tmp_path):
    server.answer = lambda body, number: (200, chat("[[A]]"))
    a = write(tmp_path / "a.jsonl", [f"x{i}" for i in range(12)])
    b = write(tmp_path / "b.jsonl", [f"y{i}" for i in range(12)])
    result, text = run_win_rate(WinRateOptions(a, b, judge=server.url, out=tmp_path / "out"))
    assert result.metrics["win_rate"].mean == 0.5
    assert result.metrics["swap_agreement"].mean == 0.0
    assert result.metrics["position_bias"].mean == 1.0
    assert result.metrics["position_bias/p_value"] < 0.001
    assert "WARNING: the judge prefers the answer shown first (bias +1.00" in text


class NoisyJudge:
    """Sees the worth of an answer (its text, a number) through noise; may like a position."""

    def __init__(self, seed: int, bias: float = 0.0) -> None:
        self.draw, self.bias = random.Random(seed), bias

    def compare(self, prompt: Any, a: str, b: str) -> str:
        return "a" if float(a) - float(b) + self.bias > self.draw.gauss(0, 0.3) else "b"


def play(judge: NoisyJudge, seed: int, prompts: int = 80) -> dict[str, Any]:
    """The figures of a sampler of random worth against itself."""
    draw = random.Random(1000 + seed)
    games = []
    for _ in range(prompts):
        a, b = f"{draw.random()}", f"{draw.random()}"
        swapped = judge.compare(None, b, a)
        games.append(Game(judge.compare(None, a, b), {"a": "b", "b": "a"}[swapped]))
    return summarise(games, [0] * prompts, blind=False, seed=seed)


def test_a_sampler_against_itself_is_near_one_half():
    """1/2 lies inside the 95% interval of about 19 seeds in 20, and no bias is claimed."""
    found = [play(NoisyJudge(seed), seed) for seed in range(20)]
    assert sum(not m["win_rate"].excludes(0.5) for m in found) >= 18
    assert all(0.35 < m["win_rate"].mean < 0.65 for m in found)
    assert all(m["position_bias/p_value"] > 0.01 for m in found)


def test_a_partial_position_bias_is_detected():
    found = [play(NoisyJudge(seed, bias=0.3), seed) for seed in range(10)]
    assert all(m["position_bias/p_value"] < 0.01 for m in found)
    assert all(m["position_bias"].low > 0.1 for m in found)
    assert sum(not m["win_rate"].excludes(0.5) for m in found) >= 9


def test_verdicts_that_fail_are_counted_and_the_prompt_left_out(server, tmp_path):
    texts = {"p0": "[[A]]", "p1": "no idea", "p2": "[[A]] [[B]]", "p3": "[[TIE]]"}
    server.answer = lambda body, number: (
        200,
        chat(next(t for p, t in texts.items() if p in body["messages"][1]["content"])),
    )
    a = write(tmp_path / "a.jsonl", list("wxyz"))
    b = write(tmp_path / "b.jsonl", list("abcd"))
    result, text = run_win_rate(WinRateOptions(a, b, judge=server.url, out=tmp_path / "out"))
    assert result.metrics["excluded"] == 2
    assert (result.metrics["failed/none"], result.metrics["failed/several"]) == (2, 2)
    assert result.metrics["win_rate"].mean == 0.5
    assert "2 prompts have no outcome" in text


def test_rules(tmp_path):
    a = write(tmp_path / "a.jsonl", ["long answer", "a", "same"])
    b = write(tmp_path / "b.jsonl", ["short", "bb", "emas"])
    result, text = run_win_rate(WinRateOptions(a, b, rule="length", out=tmp_path / "out"))
    assert result.metrics["win_rate"].mean == 0.5
    assert "swap agreement" not in text
    rows = [json.loads(r) for r in (tmp_path / "out" / result.items).read_text().splitlines()]
    assert [(r["score_a"], r["score_b"]) for r in rows] == [(11, 5), (1, 2), (4, 4)]
    with pytest.raises(
        UserError, match="--rule='nothing': expected vader, rules:FILE or module:function"
    ):
        run_win_rate(WinRateOptions(a, b, rule="nothing", out=tmp_path / "out"))


def test_files_that_do_not_match_are_refused_by_row(tmp_path):
    a = write(tmp_path / "a.jsonl", ["x", "y", "z"])
    short = write(tmp_path / "b.jsonl", ["x", "y"])
    options = {"rule": "length", "out": tmp_path / "out"}
    with pytest.raises(UserError, match=r"a\.jsonl: 1 of 3 prompts .*b\.jsonl \(first rows: 3\)"):
        run_win_rate(WinRateOptions(a, short, **options))
    with pytest.raises(UserError, match=r"a\.jsonl: 1 of 3 prompts .*b\.jsonl \(first rows: 3\)"):
        run_win_rate(WinRateOptions(short, a, **options))
    twice = tmp_path / "twice.jsonl"
    twice.write_text(Path(a).read_text() + '{"prompt": "p1", "response": "again"}\n')
    with pytest.raises(UserError, match=r"twice\.jsonl: row 4: the same prompt as row 2"):
        run_win_rate(WinRateOptions(str(twice), a, **options))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "p0"}\n')
    with pytest.raises(UserError, match=r"bad\.jsonl: row 1: "):
        run_win_rate(WinRateOptions(str(bad), a, **options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "give one of --judge URL, --reward FOLDER and --rule NAME"),
        ({"rule": "length", "reward": "x"}, "give one of"),
        ({"rule": "length", "prompts": "p.jsonl"}, "brings the prompts; leave --prompts out"),
        ({"rule": "length", "limit": 0}, "--limit is 0"),
        ({"rule": "length", "temperature": -1.0}, "--temperature is -1"),
        ({"reward": "/nowhere"}, "/nowhere holds no model"),
        ({"rule": "length", "b": "/nowhere"}, "/nowhere: no such folder"),
        ({"rule": "length", "b": "missing.jsonl"}, "missing.jsonl: no such file"),
    ],
)
def test_bad_options(tmp_path, changes, message):
    a = write(tmp_path / "a.jsonl", ["x"])
    with pytest.raises(UserError, match=message):
        run_win_rate(WinRateOptions(**({"a": a, "b": a, "out": tmp_path / "out"} | changes)))


def test_two_endpoints_and_draws_of_their_own(server, tmp_path):
    """The same server on both sides: fresh answers, sent with different seeds or none."""
    server.answer = lambda body, number: (200, chat("x" * (1 + number % 7)))
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "p{i}"}}\n' for i in range(6)))
    with pytest.raises(UserError, match="two policies need --prompts"):
        run_win_rate(WinRateOptions(server.url, server.url, rule="length", out=tmp_path / "out"))
    for send in (True, False):
        from irl_align.evaluation.players import PlayerOptions

        before = len(server.requests)
        asked = WinRateOptions(
            server.url,
            server.url,
            rule="length",
            prompts=str(prompts),
            out=tmp_path / f"out{send}",
            player=PlayerOptions(send_seed=send),
        )
        result, _ = run_win_rate(asked)
        assert len(server.requests) - before == 12
        assert all(("seed" in body) == send for body in server.requests[before:])
        assert run_win_rate(asked)[0].metrics == result.metrics
        assert len(server.requests) - before == 12
