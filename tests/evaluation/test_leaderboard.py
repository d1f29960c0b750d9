"""The leaderboard: lm-eval's own numbers, local data that are checked, tasks that are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import WORDS, write_tiny_model

from irl_align.core.errors import UserError
from irl_align.evaluation.leaderboard import TASKS, LeaderboardOptions, run, run_leaderboard
from irl_align.evaluation.leaderboard.harness import Harness, ItemValue
from irl_align.evaluation.leaderboard.local import parse_data, write_local_tasks
from irl_align.evaluation.store import load_evaluation

Rows = list[dict[str, Any]]


def write(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arc(n: int) -> Rows:
    return [
        {
            "id": str(i),
            "question": f"say {WORDS[i % 7]}",
            "choices": {
                "text": [f"{w} {i}" for w in WORDS[i % 5 : i % 5 + 4]],
                "label": list("ABCD"),
            },
            "answerKey": "ABCD"[i % 4],
        }
        for i in range(n)
    ]


def winogrande(n: int) -> Rows:
    return [
        {
            "sentence": f"the {WORDS[i % 7]} bird saw the fish since _ was {WORDS[(i + 3) % 9]}.",
            "option1": "bird",
            "option2": "fish",
            "answer": str(1 + i % 2),
        }
        for i in range(n)
    ]


def mmlu(n: int) -> Rows:
    return [
        {"subject": s, "question": f"{WORDS[i]} {s}?", "choices": WORDS[i : i + 4], "answer": i % 4}
        for s in ("anatomy", "virology")
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("leaderboard") / "model")


class FakeHarness:
    """Gives each item of a task the value that its task's name is told to have."""

    def __init__(self, values: dict[str, list[float]]) -> None:
        self.values, self.made, self.ran = values, 0, []
        self.fail_at: str | None = None

    def __call__(self, folder: Path, **settings: Any) -> FakeHarness:
        self.made += 1
        return self

    def run(self, task, names, shots, *, limit, tasks):
        if task.name == self.fail_at:
            raise RuntimeError("killed")
        self.ran.append((task.name, list(names), shots, limit))
        return [ItemValue(names[0], i, v, "t", "r") for i, v in enumerate(self.values[task.name])]


@pytest.fixture
def fake(monkeypatch) -> FakeHarness:
    monkeypatch.setattr(run, "require_lm_eval", lambda: None)
    return FakeHarness({name: [1.0, 0.0, 1.0, 1.0] for name in TASKS} | {"gsm8k": [0.0, 0.5]})


def test_six_tasks_with_their_shots(fake, model, tmp_path):
    result, text = run_leaderboard(LeaderboardOptions(model, out=tmp_path), fake)
    assert [(name, shots) for name, _, shots, _ in fake.ran] == [
        ("arc_challenge", 25),
        ("hellaswag", 10),
        ("mmlu", 5),
        ("truthfulqa_mc2", 0),
        ("winogrande", 5),
        ("gsm8k", 5),
    ]
    assert result.metrics["average"] == pytest.approx((5 * 0.75 + 0.25) / 6)
    assert result.metrics["task/arc_challenge"].mean == 0.75
    assert result.notes == []
    assert load_evaluation(tmp_path / result.name).metrics == result.metrics
    assert len((tmp_path / result.items).read_text().splitlines()) == 22
    assert "average" in text and "WARNING" not in text


def test_fewer_tasks_are_no_leaderboard(fake, model, tmp_path):
    asked = LeaderboardOptions(model, tasks=["gsm8k", "arc_challenge"], limit=3, out=tmp_path)
    _, text = run_leaderboard(asked, fake)
    assert [name for name, *_ in fake.ran] == ["arc_challenge", "gsm8k"]
    assert "hellaswag, mmlu, truthfulqa_mc2, winogrande missing" in text
    assert "the average is over 2 tasks and is not the leaderboard's" in text
    assert "the first 3 items of each task only" in text


def test_finished_tasks_are_kept(fake, model, tmp_path):
    asked = LeaderboardOptions(model, out=tmp_path)
    fake.fail_at = "truthfulqa_mc2"
    with pytest.raises(RuntimeError, match="killed"):
        run_leaderboard(asked, fake)
    fake.fail_at = None
    first = len(fake.ran)
    result, _ = run_leaderboard(asked, fake)
    assert [name for name, *_ in fake.ran[first:]] == ["truthfulqa_mc2", "winogrande", "gsm8k"]
    made = fake.made
    assert run_leaderboard(asked, fake)[0].metrics == result.metrics
    assert fake.made == made, "nothing left to do: no model is loaded"


def test_mmlu_is_the_mean_of_its_subjects():
    items = [ItemValue("a", i, v, "", "") for i, v in enumerate([1.0, 1.0, 1.0, 0.0])]
    items += [ItemValue("b", 0, 0.0, "", "")]
    assert run.task_interval(TASKS["mmlu"], items).mean == pytest.approx(0.375)
    assert run.task_interval(TASKS["winogrande"], items).mean == pytest.approx(0.6)


def test_no_worked_examples_no_shots(fake, model, tmp_path, monkeypatch):
    data = write(tmp_path / "w.jsonl", winogrande(4))
    monkeypatch.setattr(run, "template_folder", lambda: tmp_path)
    asked = LeaderboardOptions(
        model, tasks=["winogrande"], data=[f"winogrande.validation={data}"], out=tmp_path / "out"
    )
    _, text = run_leaderboard(asked, fake)
    assert fake.ran == [("winogrande", ["local_winogrande"], 0, None)]
    assert "no worked examples for winogrande (0 instead of 5)" in text


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("winogrande", "expected TASK.SPLIT=FILE"),
        ("winogrande=w.jsonl", "expected TASK.SPLIT=FILE"),
        ("piqa.test=w.jsonl", "there is no task 'piqa'"),
        ("winogrande.test=w.jsonl", "winogrande has the splits validation, train"),
        ("winogrande.validation=nothing.jsonl", "no such file"),
        ("winogrande.validation=w.txt", "a .jsonl, .jsonl.gz, .json or .parquet is needed"),
        ("winogrande.train=w.jsonl", r"needs winogrande.validation=FILE"),
        ("gsm8k.test=w.jsonl", r"w\.jsonl: row 1: no column 'question'"),
        ("winogrande.validation=bad.jsonl", r"bad\.jsonl: row 2: no column 'option2'"),
    ],
)
def test_bad_data_is_named(tmp_path, monkeypatch, option, message):
    monkeypatch.chdir(tmp_path)
    rows = winogrande(3)
    write(tmp_path / "w.jsonl", rows)
    (tmp_path / "w.txt").write_text("x")
    rows[1].pop("option2")
    write(tmp_path / "bad.jsonl", rows)
    with pytest.raises(UserError, match=message):
        parse_data([option])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["mmlu", "piqa"]}, "--tasks: there is no 'piqa'; known are arc_challenge"),
        ({"model": Path("/nowhere")}, "/nowhere: no such folder"),
        ({"limit": 0}, "--limit is 0"),
        ({"batch_size": 0}, "--batch-size is 0"),
    ],
)
def test_bad_options(fake, model, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run_leaderboard(LeaderboardOptions(**({"model": model, "out": tmp_path} | changes)), fake)
    assert fake.made == 0


def test_without_lm_eval(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"needs lm-eval .* pip install 'irl-align\[eval\]'"):
        run_leaderboard(LeaderboardOptions(model, out=tmp_path))


def test_equal_to_lm_eval_called_directly(model, tmp_path, monkeypatch):
    """Task files written by hand here, lm-eval's own figures there; one task with worked examples,
    one without, one of many subjects."""
    import lm_eval

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    files = {
        "arc_challenge.test": write(tmp_path / "arc.jsonl", arc(12)),
        "winogrande.validation": write(tmp_path / "w.jsonl", winogrande(14)),
        "winogrande.train": write(tmp_path / "wt.jsonl", winogrande(9)),
        "mmlu.test": write(tmp_path / "m.jsonl", mmlu(4)),
        "mmlu.dev": write(tmp_path / "md.jsonl", mmlu(6)),
    }
    result, text = run_leaderboard(
        LeaderboardOptions(
            model,
            tasks=["arc_challenge", "winogrande", "mmlu"],
            data=[f"{key}={path}" for key, path in files.items()],
            limit=10,
            backend="hf",
            dtype="float32",
            batch_size=4,
            out=tmp_path / "out",
        )
    )

    direct = tmp_path / "direct"
    direct.mkdir()
    templates = Path(lm_eval.__file__).parent / "tasks"

    def task(name: str, template: str, splits: dict[str, Path], *lines: str) -> None:
        (direct / f"{name}.yaml").write_text(
            "\n".join(
                [
                    f"include: {templates / template}",
                    f"task: {name}",
                    "tag: null",
                    "dataset_path: json",
                    "dataset_name: null",
                    "dataset_kwargs:",
                    "  data_files:",
                    *(f"    {split}: {path}" for split, path in splits.items()),
                    *lines,
                ]
            )
            + "\n"
        )

    none = ("training_split: null", "validation_split: null")
    task("d_arc", "arc/arc_challenge.yaml", {"test": files["arc_challenge.test"]}, *none)
    winograndes = {"validation": files["winogrande.validation"], "train": files["winogrande.train"]}
    task("d_winogrande", "winogrande/default.yaml", winograndes)
    for subject in ("anatomy", "virology"):
        parts = {
            split: write(
                direct / f"{subject}.{split}.jsonl",
                [row for row in mmlu(n) if row["subject"] == subject],
            )
            for split, n in (("test", 4), ("dev", 6))
        }
        task(f"d_{subject}", f"mmlu/default/mmlu_{subject}.yaml", parts)

    # The stock tasks would take a minute to index; the files name their templates by path.
    manager = lm_eval.tasks.TaskManager(include_path=str(direct), include_defaults=False)

    def ask(name: str, shots: int, metric: str) -> float:
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(model), "dtype": "float32", "device": "cpu"},
            tasks=[name],
            num_fewshot=shots,
            batch_size=4,
            limit=10,
            bootstrap_iters=0,
            task_manager=manager,
        )
        return float(found["results"][name][metric])

    metrics = result.metrics
    assert metrics["task/arc_challenge"].mean == pytest.approx(ask("d_arc", 0, "acc_norm,none"))
    assert metrics["task/winogrande"].mean == pytest.approx(ask("d_winogrande", 5, "acc,none"))
    subjects = [ask(f"d_{s}", 5, "acc,none") for s in ("anatomy", "virology")]
    assert metrics["task/mmlu"].mean == pytest.approx(sum(subjects) / 2)
    assert 0 < metrics["average"] < 1, "figures that could differ"
    assert "no worked examples for arc_challenge (0 instead of 25)" in text


def hellaswag(n: int) -> Rows:
    return [
        {
            "activity_label": "Reading",
            "ctx_a": f"A bird {i} sees a fish.",
            "ctx_b": "the bird",
            "endings": [f"is {w}." for w in WORDS[i : i + 4]],
            "label": str(i % 4),
        }
        for i in range(n)
    ]


def truthfulqa(n: int) -> Rows:
    targets = {"choices": ["red", "blue", "green"], "labels": [1, 0, 0]}
    return [
        {"question": f"What is {w}?", "mc1_targets": targets, "mc2_targets": targets}
        for w in WORDS[:n]
    ]


def gsm8k(n: int) -> Rows:
    return [{"question": f"{i} and 1?", "answer": f"Add.\n#### {i + 1}"} for i in range(n)]


def test_files_of_one_task_with_different_columns(tmp_path):
    import lm_eval

    questions = write(tmp_path / "q.jsonl", winogrande(3))
    examples = write(tmp_path / "e.jsonl", [row | {"id": "x"} for row in winogrande(6)])
    data = parse_data([f"winogrande.validation={questions}", f"winogrande.train={examples}"])
    harness, task = object.__new__(Harness), TASKS["winogrande"]
    harness.model, harness.chat_template = "dummy", False
    templates = Path(lm_eval.__file__).parent / "tasks"
    names = write_local_tasks(task, data["winogrande"], templates, tmp_path)
    with pytest.raises(UserError, match=r"winogrande: its data cannot be read .* same columns"):
        harness.run(task, names, 5, limit=2, tasks=tmp_path)


@pytest.mark.parametrize("shots", [False, True])
def test_every_template_takes_local_files(tmp_path, shots):
    """lm-eval's model that knows nothing, on all six tasks: no network, every item answered."""
    import lm_eval

    rows = {
        "arc_challenge": arc,
        "hellaswag": hellaswag,
        "mmlu": mmlu,
        "truthfulqa_mc2": truthfulqa,
        "winogrande": winogrande,
        "gsm8k": gsm8k,
    }
    harness = object.__new__(Harness)
    harness.model, harness.chat_template = "dummy", False
    for name, make in rows.items():
        task, folder = TASKS[name], tmp_path / name
        folder.mkdir()
        given = [f"{name}.{task.split}={write(folder / 'questions.jsonl', make(3))}"]
        if shots and task.shot_split is not None:
            examples = make(6) * 5  # lm-eval leaves out those that are the question itself
            given.append(f"{name}.{task.shot_split}={write(folder / 'examples.jsonl', examples)}")
        data = parse_data(given)
        templates = Path(lm_eval.__file__).parent / "tasks"
        names = write_local_tasks(task, data[name], templates, folder)
        wanted = run._shots(task, data)
        assert wanted == (task.shots if shots else 0)
        items = harness.run(task, names, wanted, limit=2, tasks=folder)
        assert len(items) == 2 * len(names)
        assert all(0.0 <= item.value <= 1.0 for item in items)
