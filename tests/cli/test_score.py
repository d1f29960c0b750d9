"""`irl-align score`: strict accuracy, ties, subsets, intervals by prompt, per-item file."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import make_run

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
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A reward model's folder, to be found and identified; its scores are lengths."""
    from tiny import tiny_tokenizer

    monkeypatch.setattr("irl_align.llm.reward.scorer.RewardScorer", LengthScorer)
    folder = tmp_path / "model"
    tiny_tokenizer().save_pretrained(folder)
    config = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_accuracy_is_strict_and_ties_are_reported(
    model: str, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "items.jsonl"
    arguments = ["score", model, str(pairs_file), "--json", "--per-item", str(out)]
    assert dispatch(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    metrics = found["metrics"]
    assert (metrics["items"], metrics["ties"]) == (4, 1)
    assert metrics["accuracy"]["mean"] == 0.5  # the tie counts as wrong
    assert metrics["accuracy"]["low"] <= 0.5 <= metrics["accuracy"]["high"]
    assert metrics["margin"]["mean"] == pytest.approx((1 - 3 + 0 + 5) / 4)
    assert [metrics[f"subset/{name}"]["mean"] for name in ("chat", "math")] == [0.5, 0.5]
    assert len(found["data"]["sha256"]) == 64
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["correct"] for row in rows] == [True, False, False, True]
    assert rows[0]["chosen_score"] == 6.0
    assert rows[0]["subset"] == "chat"


def test_text_output(model: str, pairs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["score", model, str(pairs_file)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"accuracy +0\.500", out)
    assert re.search(r"ties +1", out)
    assert "chat" in out
    assert "result:" not in out  # no run, no --out: nothing is kept


def test_results_are_kept_in_the_run_or_where_told(
    model: str, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["score", model, str(pairs_file), "--out", str(tmp_path / "out")]) == 0
    told = list((tmp_path / "out").glob("*.json"))
    run = make_run(tmp_path / "run", rounds=1)
    inside = run / "rounds" / "0000" / "reward" / "model"
    shutil.copytree(model, inside)
    assert dispatch(["score", str(inside.parent), str(pairs_file)]) == 0
    kept = list((run / "evaluations").glob("*.json"))
    assert [path.name for path in told] == [path.name for path in kept]
    assert str(kept[0]) in capsys.readouterr().out


def test_clear_errors(
    model: str, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "nan.jsonl"
    bad.write_text('{"prompt": "p", "chosen": "nan", "rejected": "x"}\n')
    for arguments, message in (
        (["score", model, str(bad)], "no finite numbers"),
        (["score", model, str(pairs_file), "--batch-size", "0"], "--batch-size"),
        (["score", model, str(pairs_file), "--per-item", str(tmp_path / "no/x")], "--per-item"),
        (["score", model, str(tmp_path / "none.jsonl")], "none.jsonl"),
        (["score", model, str(pairs_file), "--limit", "0"], "limit"),
        (["score", model, str(pairs_file), "--out", str(pairs_file)], "--out"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def test_the_program_for_rewardbench_shares_the_core(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from eval.rewardbench import main as rewardbench

    rows = [
        {"prompt": f"{subset}{i}", "chosen": "xx", "rejected": "y" * (1 + i), "subset": subset}
        for subset in ("alpacaeval-easy", "mt-bench-hard", "donotanswer", "math-prm", "hep-go")
        for i in range(3)
    ]
    path = tmp_path / "bench.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rewardbench.py", model, "--data", str(path), "--json"])
    assert rewardbench() == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "rewardbench"
    assert found["metrics"]["average"]["mean"] == pytest.approx(1 / 3)
    assert found["headline"][:2] == ["average", "section/chat"]
    assert any("math-prm" not in note and "chat" in note for note in found["notes"])
    assert list((tmp_path / "evaluations").glob("rewardbench-*.json"))


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
    assert found["metrics"]["accuracy"]["mean"] == pytest.approx(right / len(rows))
