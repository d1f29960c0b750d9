"""`irl-align score`: strict accuracy, ties, subsets, intervals by prompt, per-item file."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from irl_align.cli import score
from irl_align.cli.__main__ import dispatch, main


class LengthScorer:
    """Scores a response by its number of characters; NaN for the word `nan`."""

    calls: list[int]

    def __init__(self) -> None:
        self.calls = []

    @classmethod
    def load(cls, folder: str, **options: Any) -> "LengthScorer":
        return cls()

    def score(
        self, prompts: Sequence[Any], responses: Sequence[str], *, batch_size: int
    ) -> list[float]:
        assert len(prompts) == len(responses)
        self.calls.append(len(responses))
        return [float("nan") if text == "nan" else float(len(text)) for text in responses]


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    rows = [
        {"prompt": "p1", "chosen": "longer", "rejected": "short", "subset": "chat"},
        {"prompt": "p1", "chosen": "abc", "rejected": "abcdef", "subset": "chat"},
        {"prompt": "p2", "chosen": "tie", "rejected": "eit", "subset": "math"},
        {"prompt": "p3", "chosen": "the best", "rejected": "bad", "subset": "math"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def length_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irl_align.llm.reward.scorer.RewardScorer", LengthScorer)


@pytest.mark.usefixtures("length_scorer")
def test_accuracy_is_strict_and_ties_are_reported(
    pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "items.jsonl"
    arguments = ["score", "model", str(pairs_file), "--json", "--per-item", str(out)]
    assert dispatch(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["ties"]) == (4, 1)
    assert found["accuracy"]["mean"] == 0.5  # the tie counts as wrong
    assert found["accuracy"]["low"] <= 0.5 <= found["accuracy"]["high"]
    assert found["margin"]["mean"] == pytest.approx((1 - 3 + 0 + 5) / 4)
    assert {name: part["accuracy"]["mean"] for name, part in found["subsets"].items()} == {
        "chat": 0.5,
        "math": 0.5,
    }
    assert len(found["file_sha256"]) == 64
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["correct"] for row in rows] == [True, False, False, True]
    assert rows[0]["chosen_score"] == 6.0
    assert rows[0]["subset"] == "chat"


@pytest.mark.usefixtures("length_scorer")
def test_text_output(pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["score", "model", str(pairs_file)]) == 0
    out = capsys.readouterr().out
    assert "accuracy    0.500" in out
    assert "ties        1" in out
    assert "chat" in out


@pytest.mark.usefixtures("length_scorer")
def test_clear_errors(pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "nan.jsonl"
    bad.write_text('{"prompt": "p", "chosen": "nan", "rejected": "x"}\n')
    for arguments, message in (
        (["score", "model", str(bad)], "no finite numbers"),
        (["score", "model", str(pairs_file), "--batch-size", "0"], "--batch-size"),
        (["score", "model", str(pairs_file), "--per-item", str(tmp_path / "no/x")], "--per-item"),
        (["score", "model", str(tmp_path / "none.jsonl")], "none.jsonl"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def test_pairs_are_scored_in_parts_and_keep_their_order() -> None:
    from irl_align.llm.data.schema import Preference

    pairs = [Preference(str(i), (), "x" * (i + 1), "x" * (2 * i)) for i in range(50)]
    scorer = LengthScorer()
    scored = score.score_pairs(scorer, pairs, batch_size=2)
    assert len(scorer.calls) > 1
    assert sum(scorer.calls) == 100
    assert [pair.margin for pair in scored] == [float(i + 1 - 2 * i) for i in range(50)]


def test_pairs_of_one_prompt_are_resampled_together() -> None:
    def pair(prompt: int, right: bool) -> score.ScoredPair:
        return score.ScoredPair("i", str(prompt), None, float(right), 0.5)

    # 20 prompts, ten pairs each, all alike within a prompt: 20 observations, not 200.
    alike = [pair(p, p % 2 == 0) for p in range(20) for _ in range(10)]
    apart = [pair(i, i % 2 == 0) for i in range(200)]
    wide, narrow = (score.summarise(x)["accuracy"] for x in (alike, apart))
    assert wide["mean"] == narrow["mean"] == 0.5
    assert wide["high"] - wide["low"] > 2.5 * (narrow["high"] - narrow["low"])


def test_a_real_reward_model_folder(tmp_path: Path, pairs_file: Path) -> None:
    """A random tiny model: the command's scores are those of plain transformers."""
    import torch
    from tiny import tiny_tokenizer
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        LlamaConfig,
        LlamaForSequenceClassification,
    )

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config.num_labels = 1
    folder = tmp_path / "reward"
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    out = tmp_path / "items.jsonl"
    arguments = ["score", str(folder), str(pairs_file), "--json", "--per-item", str(out)]
    # In a process of its own: libraries that log while they load must not spoil the JSON.
    done = subprocess.run(
        [sys.executable, "-m", "irl_align.cli", *arguments, "--device", "cpu"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    found = json.loads(done.stdout)
    rows = [json.loads(line) for line in out.read_text().splitlines()]

    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    own = AutoTokenizer.from_pretrained(folder)
    sources = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    for row, source in zip(rows, sources, strict=True):
        for side in ("chosen", "rejected"):
            messages = [
                {"role": "user", "content": source["prompt"]},
                {"role": "assistant", "content": source[side]},
            ]
            text = own.apply_chat_template(messages, tokenize=False)
            tokens = own(text, return_tensors="pt", add_special_tokens=False)
            with torch.no_grad():
                expected = plain(**tokens).logits.item()
            assert row[f"{side}_score"] == pytest.approx(expected, abs=1e-5)
    right = sum(row["chosen_score"] > row["rejected_score"] for row in rows)
    assert found["accuracy"]["mean"] == pytest.approx(right / len(rows))
