"""Demonstrations: every accepted shape gives the same record, every fault names its row."""

import gzip
import json

import pytest

from irl_align.core.errors import UserError
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.data.schema import Demonstration

USER = {"role": "user", "content": "2+2?"}
ASSISTANT = {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}
GOOD = {"prompt": "2+2?", "response": "4"}


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load_one(tmp_path, row):
    (demonstration,), report = load_demonstrations(write(tmp_path / "a.jsonl", [row]))
    return demonstration, report


def refusal(tmp_path, *rows, **options) -> str:
    with pytest.raises(UserError) as caught:
        load_demonstrations(write(tmp_path / "a.jsonl", rows), **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"messages": [USER, ASSISTANT]}, "messages"),
        ({"messages": [USER, ASSISTANT], "prompt": "2+2 (a copy)"}, "messages"),
        ({"messages": [USER, ASSISTANT], "prompt": None, "answer": None}, "messages"),
        (
            {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
            "conversations",
        ),
        ({"conversations": [USER, ASSISTANT]}, "conversations"),
        ({"prompt": "2+2?", "completion": "4"}, "prompt + completion"),
        ({"prompt": "2+2?", "response": "4"}, "prompt + response"),
        ({"prompt": [USER], "completion": [ASSISTANT]}, "prompt + completion"),
        ({"prompt": [USER], "completion": "4"}, "prompt + completion"),
        ({"prompt": "2+2?", "completion": [ASSISTANT]}, "prompt + completion"),
        ({"prompt": "\n\nHuman: 2+2?\n\nAssistant:", "response": "4"}, "prompt + response"),
        ({"question": "2+2?", "answer": "4"}, "question + answer"),
        ({"instruction": "2+2?", "output": "4"}, "instruction + output"),
        ({"instruction": "2+2?", "input": "", "output": "4"}, "instruction + output"),
        ({"instruction": "2+2?", "context": " ", "response": "4"}, "instruction + response"),
    ],
)
def test_every_shape_gives_the_same_record(tmp_path, row, shape):
    demonstration, report = load_one(tmp_path, row)
    assert demonstration == Demonstration("a:1", (USER,), "4")
    assert report.shapes == {shape: 1}


def test_input_joins_the_instruction(tmp_path):
    for key in ("input", "context"):
        row = {"instruction": "Add", key: "2 and 2", "output": "4"}
        demonstration, report = load_one(tmp_path, row)
        assert demonstration.prompt[0]["content"] == "Add\n\n2 and 2"
        assert report.unused_columns == []


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, USER, ASSISTANT]},
        {"messages": [SYSTEM, USER, ASSISTANT], "system": "ignored, the messages bring their own"},
        {"conversations": [USER, ASSISTANT], "system": "Be brief."},
        {"system": "Be brief.", "question": "2+2?", "answer": "4"},
    ],
)
def test_system_message(tmp_path, row):
    assert load_one(tmp_path, row)[0].prompt == (SYSTEM, USER)


def test_empty_system_turn_is_kept_and_blank_system_column_is_none(tmp_path):
    empty = {"role": "system", "content": ""}
    assert load_one(tmp_path, {"messages": [empty, USER, ASSISTANT]})[0].prompt == (empty, USER)
    assert load_one(tmp_path, {"system": " ", **GOOD})[0].prompt == (USER,)


def test_several_turns(tmp_path):
    more = {"role": "user", "content": "and 3+3?"}
    last = {"role": "assistant", "content": "6"}
    demonstration, _ = load_one(tmp_path, {"messages": [USER, ASSISTANT, more, last]})
    assert demonstration.prompt == (USER, ASSISTANT, more) and demonstration.response == "6"


def test_text_is_kept_to_the_letter(tmp_path):
    row = {"prompt": " a\r\n\tb \x00", "completion": " TL;DR \n"}
    demonstration, _ = load_one(tmp_path, row)
    assert demonstration.prompt[0]["content"] == row["prompt"]
    assert demonstration.response == row["completion"]


def test_two_turns_of_one_role_are_kept_with_a_warning(tmp_path):
    demonstration, report = load_one(tmp_path, {"messages": [USER, USER, ASSISTANT]})
    assert len(demonstration.prompt) == 2
    assert "1 prompts have two turns of one role" in report.warnings[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "x"}, ["no usable columns", "it has prompt", "accepted"]),
        ({"prompt": "x", "reponse": "y"}, ["'reponse' looks like 'response'"]),
        ({"text": "x", "label": 1}, ["no usable columns", "it has text, label"]),
        ({}, ["it has nothing"]),
        ({"prompt": "x", "response": ""}, ["'response' is empty", "delete the row"]),
        ({"prompt": "x", "response": " \n\u3000"}, ["'response' is white space only"]),
        ({"prompt": "x", "response": None}, ["'response' is null"]),
        ({"prompt": "", "response": "x"}, ["'prompt' is empty"]),
        ({"prompt": "x", "response": 4}, ["'response' is a number", "write it as a string"]),
        ({"prompt": {"a": 1}, "response": "x"}, ["'prompt' is an object"]),
        ({"prompt": True, "response": "x"}, ["'prompt' is true or false"]),
        ({"prompt": "x", "response": "\ud83d"}, ["surrogate", "\\ud83d"]),
        ({"instruction": "x", "input": 3, "output": "y"}, ["'input' is a number"]),
        ({"prompt": "x", "completion": "a", "response": "b"}, ["'completion' and 'response'"]),
        ({"prompt": "x", "chosen": "a", "rejected": "b"}, ["preference"]),
        ({"messages": [USER, ASSISTANT], "chosen": "a", "rejected": "b"}, ["preference"]),
        ({"messages": "x"}, ["'messages' is text", "in CSV write it as JSON"]),
        ({"messages": 3}, ["'messages' is a number"]),
        ({"messages": []}, ["'messages' has no messages"]),
        ({"messages": ["x", "y"]}, ["messages[0] is text, must be an object"]),
        ({"messages": [{"role": "user"}, ASSISTANT]}, ["messages[0] has no 'content'"]),
        ({"messages": [{"rôle": "user", "content": "x"}]}, ["messages[0] has no 'role'", "slip"]),
        ({"messages": [{"role": "tool", "content": "x"}]}, ["messages[0].role is 'tool'"]),
        ({"messages": [{"role": ["user"], "content": "x"}]}, ["messages[0].role is ['user']"]),
        ({"messages": [USER, {**ASSISTANT, "tool_calls": [1]}]}, ["messages[1] calls tools"]),
        ({"messages": [USER, {**ASSISTANT, "content": ""}]}, ["messages[1].content is empty"]),
        ({"messages": [USER, {**ASSISTANT, "content": [1]}]}, ["messages[1].content is a list"]),
        ({"messages": [ASSISTANT, USER, ASSISTANT]}, ["begins with the assistant's turn"]),
        ({"messages": [SYSTEM, ASSISTANT, USER, ASSISTANT]}, ["begins with the assistant's turn"]),
        ({"messages": [USER, SYSTEM, ASSISTANT]}, ["system message at turn 2"]),
        ({"messages": [USER, ASSISTANT, ASSISTANT]}, ["must be the user's"]),
        ({"messages": [USER, ASSISTANT, USER]}, ["ends with the user's turn"]),
        ({"messages": [ASSISTANT]}, ["no user turn before the response"]),
        ({"messages": [SYSTEM, ASSISTANT]}, ["no user turn before the response"]),
        ({"conversations": [{"from": "human", "value": None}]}, ["conversations[0].value is null"]),
        ({"prompt": "\n\nHuman:\n\nAssistant:", "response": "x"}, ["turn 1 (Human) is empty"]),
    ],
)
def test_faults_name_file_row_key_and_mend(tmp_path, row, words):
    message = refusal(tmp_path, GOOD, row)
    assert message.startswith(f"{tmp_path / 'a.jsonl'}: 1 of 2 rows cannot be used")
    assert "row 2: " in message and "on_bad_rows=drop" in message
    for word in words:
        assert word in message


def test_first_five_bad_rows_and_all_counts_in_one_error(tmp_path):
    rows = [GOOD, *[{"prompt": "x", "response": ""}] * 3, *[{"prompt": 1, "response": "x"}] * 4]
    message = refusal(tmp_path, *rows)
    assert "7 of 8 rows" in message
    assert "rows 2, 3, 4: 'response' is empty" in message
    assert "rows 5, 6: 'prompt' is a number" in message
    assert "and 2 more (in all: empty response 3, wrong type 4)" in message


def test_unreadable_lines_are_collected_too(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"prompt"\n{"prompt": "\xe9"}\n')
    with pytest.raises(UserError) as caught:
        load_demonstrations(str(path))
    assert "row 2: broken JSON at column 10" in str(caught.value)
    assert "row 3: byte 13 of the line (0xe9) is not UTF-8" in str(caught.value)


def test_drop_counts_by_reason(tmp_path):
    path = tmp_path / "a.jsonl"
    bad = [{"prompt": "x", "response": ""}, {"prompt": "x"}, {"prompt": "x", "response": " "}]
    lines = [json.dumps(row).encode() for row in [GOOD, *bad, {**GOOD, "response": "5"}]]
    path.write_bytes(b"\n".join([*lines, b"{", b"\xff"]))
    demonstrations, report = load_demonstrations(str(path), on_bad_rows="drop")
    assert [d.id for d in demonstrations] == ["a:1", "a:5"]
    assert (report.rows, report.kept) == (7, 2)
    assert report.dropped == {
        "empty response": 2,
        "missing column": 1,
        "broken JSON": 1,
        "not UTF-8": 1,
    }
    assert report.rows == report.kept + sum(report.dropped.values())
    assert "dropped    5" in report.render() and "row 3: " in report.render()


def test_nothing_left_is_an_error_in_both_modes(tmp_path):
    for mode in ("error", "drop"):
        assert "1 of 1 rows" in refusal(tmp_path, {"prompt": "x"}, on_bad_rows=mode)
    path = tmp_path / "b.json"
    path.write_text("[]")
    blank = tmp_path / "b.jsonl"
    blank.write_text("\n\n")
    for source in (path, blank):
        with pytest.raises(UserError, match="no rows"):
            load_demonstrations(str(source))
    assert "accepted are error and drop" in refusal(tmp_path, GOOD, on_bad_rows="ignore")


def test_duplicates_are_kept_and_counted(tmp_path):
    rows = [GOOD, {"question": "2+2?", "answer": "4"}, {**GOOD, "response": "four"}]
    demonstrations, report = load_demonstrations(write(tmp_path / "a.jsonl", rows))
    assert len(demonstrations) == 3
    assert (report.duplicates, report.distinct_prompts) == (1, 1)
    assert "1 rows repeat an earlier row" in report.warnings[0]


def test_limit_counts_usable_rows_and_reads_no_further(tmp_path):
    bad = {"prompt": "x"}
    path = write(tmp_path / "a.jsonl", [bad, GOOD, GOOD, bad, GOOD])
    demonstrations, report = load_demonstrations(path, limit=2, on_bad_rows="drop")
    assert [d.id for d in demonstrations] == ["a:2", "a:3"]
    assert (report.rows, report.kept) == (3, 2)
    ok = write(tmp_path / "b.jsonl", [GOOD, GOOD, bad])
    assert len(load_demonstrations(ok, limit=2)[0]) == 2
    for limit in (0, -1):
        with pytest.raises(UserError, match="asks for no rows"):
            load_demonstrations(ok, limit=limit)


def test_ids_are_given_ones_or_file_and_row_and_always_unique(tmp_path):
    ids = ["x", None, 7, "x", "", "x", "x#2", 1.5]
    path = write(tmp_path / "train.v2.jsonl", [{**GOOD, "id": name} for name in ids])
    demonstrations, report = load_demonstrations(path)
    names = [d.id for d in demonstrations]
    assert names == ["x", "train:2", "7", "x#2", "train:5", "x#3", "x#2#2", "train:8"]
    assert any("3 ids were used twice" in warning for warning in report.warnings)


def test_ids_survive_packing_and_moving(tmp_path):
    path = write(tmp_path / "a.jsonl", [GOOD])
    packed = tmp_path / "elsewhere" / "a.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    assert load_demonstrations(path)[0] == load_demonstrations(str(packed))[0]


def test_report(tmp_path):
    import hashlib

    rows = [{"prompt": "ab", "response": "x" * n, "paper_id": 1} for n in (1, 2, 9)]
    path = tmp_path / "a.jsonl"
    _, report = load_demonstrations(write(path, rows))
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.unused_columns == ["paper_id"]
    response = report.lengths["response"]
    assert (response.mean, response.median, response.p95, response.max) == (4.0, 2, 9, 9)
    assert json.loads(json.dumps(report.as_dict()))["lengths"]["prompt"]["max"] == 2
    text = report.render()
    for word in ("3 demonstrations from 3 rows", "prompt + response", "not used   paper_id"):
        assert word in text


def test_likely_slip_in_a_column_that_is_not_used(tmp_path):
    _, report = load_one(tmp_path, {**GOOD, "sytem": "Be brief."})
    assert report.warnings == ["column 'sytem' is not used; is it a slip of 'system'?"]


def test_hash_of_a_saved_dataset_follows_its_rows(tmp_path):
    import datasets

    hashes = set()
    for name, rows in {"a": [GOOD], "b": [GOOD], "c": [{**GOOD, "response": "5"}]}.items():
        datasets.Dataset.from_list(rows).save_to_disk(tmp_path / name)
        demonstrations, report = load_demonstrations(str(tmp_path / name))
        assert demonstrations[0].id == f"{name}:1"
        hashes.add(report.sha256)
    assert len(hashes) == 2
