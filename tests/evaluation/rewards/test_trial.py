"""A trial with real (tiny) models: batches, padding, resumption, identity, clear errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import TEMPLATE, WORDS, tiny_tokenizer, write_tiny_model

from irl_align.core.errors import UserError
from irl_align.evaluation.item_log import ItemLog
from irl_align.evaluation.rewards.items import Item
from irl_align.evaluation.rewards.scorers import ScorerSettings, prepare_scorer
from irl_align.evaluation.rewards.trial import grade_items, kind_of, run_trial
from irl_align.evaluation.store import DataRecord, load_evaluation

DATA = DataRecord("made.jsonl", "ab" * 32)


def made(count: int = 24) -> list[Item]:
    """Conversations of very different lengths; every fourth item is best of four."""
    items = []
    for i in range(count):
        prompt = ({"role": "user", "content": f"say {WORDS[i % 17]} " + "red " * (5 * (i % 7))},)
        worse = [
            f"bad {WORDS[(i + k) % 17]} " * (1 + (i + k) % 5) for k in range(1 + 2 * (i % 4 == 0))
        ]
        items.append(Item(f"i{i}", prompt, (f"good {WORDS[i % 17]}", *worse), f"s{i % 2}"))
    return items


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, initializer_range=0.3,
        max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config.num_labels = 1
    folder = tmp_path_factory.mktemp("reward") / "model"
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("lm") / "model")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("ref") / "model", seed=9)


def settings(kind: str, reward: Path, language: Path, reference: Path, **more) -> ScorerSettings:
    if kind == "reward":
        return ScorerSettings(str(reward), device="cpu", **more)
    other = str(reference) if kind == "implicit" else None
    return ScorerSettings(str(language), kind=kind, reference=other, device="cpu", **more)


@pytest.mark.parametrize("kind", ["reward", "likelihood", "implicit"])
def test_neither_batch_size_nor_padding_side_decides(
    kind: str, reward: Path, language: Path, reference: Path, tmp_path: Path
) -> None:
    import shutil

    items = made()
    folders = {"plain": (reward, language, reference)}
    moved = []
    for folder in folders["plain"]:
        copy = tmp_path / folder.parent.name
        shutil.copytree(folder, copy)
        path = copy / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
        moved.append(copy)
    found = {}
    for name, where, size in (
        ("one", folders["plain"], 1), ("many", folders["plain"], 16), ("left", moved, 16)
    ):  # fmt: skip
        subject = prepare_scorer(settings(kind, *where, batch_size=size))
        found[name] = run_trial(items, DATA, subject).grades
    for name in ("many", "left"):
        for a, b in zip(found["one"], found[name], strict=True):
            assert a.scores == pytest.approx(b.scores, abs=1e-4)
            assert a.credit == b.credit


def test_the_record_says_what_decided_the_numbers(reward: Path, tmp_path: Path) -> None:
    items = made()
    subject = prepare_scorer(ScorerSettings(str(reward), device="cpu"))
    trial = run_trial(items, DATA, subject, folder=tmp_path, settings={"limit": None})
    stored = load_evaluation(trial.path)
    assert stored.kind == kind_of(items) == "best_of_n"
    assert stored.model.sha256 and len(stored.settings["template_hash"]) == 16
    assert {"dtype", "batch_size", "device", "limit", "scorer"} <= stored.settings.keys()
    assert stored.data.items == len(items)
    rows = [json.loads(line) for line in (tmp_path / stored.items).read_text().splitlines()]
    assert [row["id"] for row in rows] == [item.id for item in items]
    right = sum(row["correct"] for row in rows) / len(rows)
    assert stored.estimate("accuracy").mean == pytest.approx(right)

    # The same again: every item is there, so nothing is loaded and the numbers stay.
    def refuse():
        raise AssertionError("loaded a model with nothing to score")

    object.__setattr__(subject, "load", refuse)
    again = run_trial(items, DATA, subject, folder=tmp_path, settings={"limit": None})
    assert again.evaluation.metrics == trial.evaluation.metrics
    assert again.path == trial.path


def test_low_precision_keeps_scores_apart(reward: Path) -> None:
    subject = prepare_scorer(ScorerSettings(str(reward), device="cpu", dtype="bfloat16"))
    grades = run_trial(made(), DATA, subject).grades
    scores = [score for grade in grades for score in grade.scores]
    assert any(score != torch.tensor(score).bfloat16().item() for score in scores)


def test_too_long_items_are_counted(reward: Path) -> None:
    subject = prepare_scorer(ScorerSettings(str(reward), device="cpu", max_length=20))
    trial = run_trial(made(), DATA, subject)
    assert 0 < trial.evaluation.metrics["too_long"] <= 24
    assert "lost their start" in " ".join(trial.evaluation.notes)


PROGRAM = """
import sys, time
from pathlib import Path
from irl_align.evaluation.item_log import ItemLog
from irl_align.evaluation.rewards.grading import ScoreGrader
from irl_align.evaluation.rewards.items import Item
from irl_align.evaluation.rewards.trial import grade_items
log, calls, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
class Slow:
    def score(self, prompts, responses, *, batch_size=16):
        time.sleep(pause)
        with open(calls, "a") as file:
            file.writelines(f"{p[0]['content']}\\n" for p in prompts[::2])
        return [float(len(r)) for r in responses]
items = [Item(f"i{n}", ({"role": "user", "content": f"i{n}"},), ("xx", "x")) for n in range(40)]
with ItemLog(log) as rows:
    print(len(grade_items(items, lambda: ScoreGrader(Slow()), log=rows, chunk=4)))
"""


def test_killed_and_started_again_no_item_is_scored_twice(tmp_path: Path) -> None:
    log, calls = tmp_path / "x.items.jsonl", tmp_path / "calls"
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", PROGRAM, str(log), str(calls)]
    first = subprocess.Popen([*command, "0.2"], cwd=root, stderr=subprocess.DEVNULL)
    while not log.exists() or log.read_bytes().count(b"\n") < 8:
        assert first.poll() is None
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    kept = [json.loads(line)["id"] for line in log.read_text().splitlines()]
    assert 8 <= len(kept) < 40
    calls.write_text("")
    with open(log, "a") as file:  # what a crash in the middle of a write leaves
        file.write('{"id": "i9", "sco')
    done = subprocess.run([*command, "0"], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "40"
    assert sorted(calls.read_text().split() + kept) == sorted(f"i{n}" for n in range(40))
    rows = [json.loads(line)["id"] for line in log.read_text().splitlines()]
    assert rows == [f"i{n}" for n in range(40)]


def test_two_writers_and_damaged_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.items.jsonl"
    with ItemLog(path), pytest.raises(UserError, match="another process"), ItemLog(path):
        pass
    path.write_text("nonsense\n")
    with pytest.raises(UserError, match="line 1"), ItemLog(path):
        pass


def test_the_longest_items_come_first() -> None:
    seen: list[str] = []

    class Grader:
        def grade(self, items):
            from irl_align.evaluation.rewards.grading import Grade

            seen.extend(item.id for item in items)
            return [Grade(item.id, None, "p", 1.0) for item in items]

    items = made()
    grades = grade_items(items, Grader, chunk=5)
    assert [g.id for g in grades] == [item.id for item in items]
    lengths = {item.id: item.characters for item in items}
    assert [lengths[i] for i in seen] == sorted(lengths.values(), reverse=True)


def test_mistakes_are_told_before_weights_are_read(
    reward: Path, language: Path, tmp_path: Path
) -> None:
    bare = write_tiny_model(tmp_path / "bare", template=None)
    adapters = tmp_path / "adapters"
    adapters.mkdir()
    (adapters / "adapter_config.json").write_text("{}")
    template = tmp_path / "chat.jinja"
    template.write_text(TEMPLATE)
    cases = [
        (ScorerSettings(str(language)), "--scorer likelihood"),
        (ScorerSettings(str(language), kind="reward"), "no reward model"),
        (ScorerSettings(str(reward), kind="likelihood"), "is a reward model"),
        (ScorerSettings(str(language), reference=str(reward)), "--reference"),
        (ScorerSettings(str(language), kind="implicit"), "needs --reference"),
        (ScorerSettings(str(reward), kind="reward", reference=str(language)), "--reference"),
        (ScorerSettings(str(bare), kind="likelihood"), "chat template"),
        (ScorerSettings(str(language), kind="likelihood", template="none.jinja"), "none.jinja"),
        (ScorerSettings(str(reward), template=str(template)), "--chat-template"),
        (ScorerSettings(str(reward), batch_size=0), "--batch-size"),
        (ScorerSettings(str(language), reference=str(language), beta=0.0), "--beta"),
        (ScorerSettings(str(adapters)), "merge"),
        (ScorerSettings(str(tmp_path)), "no model"),
        (ScorerSettings("nowhere"), "no such folder"),
        (ScorerSettings("org/nowhere"), "hub does not give it"),
    ]
    for wrong, message in cases:
        with pytest.raises(UserError) as caught:
            prepare_scorer(wrong)
        assert message in str(caught.value), wrong
    prepare_scorer(ScorerSettings(str(bare), kind="likelihood", template=str(template)))
