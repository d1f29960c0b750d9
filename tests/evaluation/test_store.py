"""The results store: what names a result, that it survives the disk, and clear errors."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_run import make_run

from irl_align.core.errors import UserError
from irl_align.core.files import sha256_tree
from irl_align.evaluation.bootstrap import Interval
from irl_align.evaluation.store import (
    DataRecord,
    Evaluation,
    ModelRecord,
    evaluation_folder,
    identify_model,
    load_evaluation,
    load_evaluations,
    model_hash,
    run_of,
    save_evaluation,
)


def made(**changes) -> Evaluation:
    plain = Evaluation(
        kind="rewardbench",
        model=ModelRecord("runs/a/rounds/0001/reward/model", "ab" * 32),
        data=DataRecord("pairs.jsonl", "cd" * 32, items=3),
        settings={"scorer": "reward", "dtype": "float32"},
        others={"reference": ModelRecord("base", "ef" * 32)},
        metrics={"average": Interval(0.5, 0.4, 0.6), "ties": 2, "section/prior": None},
        headline=("average",),
        notes=("math-prm is missing",),
    )
    return replace(plain, **changes)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_result_reads_back_as_it_was(tmp_path: Path) -> None:
    saved = made()
    path = save_evaluation(tmp_path, saved)
    assert path.name == saved.name
    found = load_evaluation(path)
    assert found.as_dict() == saved.as_dict()
    assert found.estimate("average") == Interval(0.5, 0.4, 0.6)
    assert found.estimate("ties") == 2.0
    assert found.estimate("section/prior") is None
    assert found.versions["python"]
    assert [e.key for e in load_evaluations(tmp_path)[0]] == [saved.key]


def test_only_what_decides_the_numbers_names_a_result() -> None:
    key = made().key
    same = [
        {"date": "2020-01-01", "versions": {}, "git": None},
        {"metrics": {"average": 1.0}},
        {"model": ModelRecord("moved/elsewhere", "ab" * 32)},
        {"data": DataRecord("moved.jsonl", "cd" * 32, items=3)},
    ]
    other = [
        {"seed": 1},
        {"settings": {"scorer": "reward", "dtype": "bfloat16"}},
        {"model": ModelRecord("runs/a/rounds/0001/reward/model", "00" * 32)},
        {"others": {}},
        {"judge": {"model": "m"}},
        {"data": DataRecord("pairs.jsonl", "cd" * 32, split="test")},
    ]
    assert {made(**changes).key for changes in same} == {key}
    assert len({made(**changes).key for changes in other} | {key}) == 1 + len(other)


def test_model_hash_sees_weights_and_templates_only(model: Path) -> None:
    first = identify_model(model)
    assert first.sha256 == model_hash(sha256_tree(model))
    (model / "README.md").write_text("notes")
    (model / "reward_probe.json").write_text("[]")
    assert identify_model(model, shown="org/name", revision="r").sha256 == first.sha256
    for name in ("chat_template.jinja", "model.safetensors"):
        before = identify_model(model).sha256
        (model / name).write_text("other")
        assert identify_model(model).sha256 != before
    with pytest.raises(UserError, match=r"config\.json"):
        identify_model(model.parent)


def test_a_run_keeps_the_results_of_its_models(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=1)
    inside = run / "rounds" / "0000" / "reward"
    assert run_of(inside) == run.resolve()
    assert run_of(tmp_path) is None
    assert evaluation_folder(inside).resolve() == (run / "evaluations").resolve()
    assert evaluation_folder(inside, tmp_path / "x") == tmp_path / "x"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out"):
        evaluation_folder(None, tmp_path / "file")


def test_without_a_run_results_go_beside_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluation_folder(tmp_path / "model").resolve() == tmp_path / "evaluations"


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"format": 1}', '{"format": 9, "key": ""}'], ids=range(5)
)
def test_a_damaged_result_is_named_and_hides_no_other(tmp_path: Path, text: str) -> None:
    good = save_evaluation(tmp_path, made())
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match=r"bad\.json"):
        load_evaluation(tmp_path / "bad.json")
    found, problems = load_evaluations(tmp_path)
    assert [item.name for item in found] == [good.name]
    assert list(problems) == ["bad.json"]


def test_wrong_metrics_are_refused(tmp_path: Path) -> None:
    path = save_evaluation(tmp_path, made())
    plain = json.loads(path.read_text())
    plain["metrics"]["average"] = "high"
    path.write_text(json.dumps(plain))
    with pytest.raises(UserError, match="average"):
        load_evaluation(path)
    with pytest.raises(ValueError, match="headline"):
        made(headline=("nothing",))
    with pytest.raises(ValueError, match="kind"):
        made(kind="Reward Bench")
