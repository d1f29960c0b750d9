"""Preferences: every accepted shape gives the same pair, and pairs that say nothing are refused."""

import json

import pytest

from irl_align.core.errors import UserError
from irl_align.llm.data.preferences import chosen_as_demonstrations, load_preferences
from irl_align.llm.data.schema import Demonstration, Preference

USER = {"role": "user", "content": "2+2?"}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}
SYSTEM = {"role": "system", "content": "Be brief."}
GOOD = {"prompt": "2+2?", "chosen": "4", "rejected": "5"}
HH = "\n\nHuman: 2+2?\n\nAssistant:"


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def load_one(tmp_path, row):
    (pair,), report = load_preferences(write(tmp_path / "a.jsonl", [row]))
    return pair, report


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (GOOD, "prompt + chosen + rejected"),
        ({"prompt": [USER], "chosen": "4", "rejected": "5"}, "prompt + chosen + rejected"),
        ({"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]}, "prompt + chosen + rejected"),
        ({"prompt": "2+2?", "chosen": [FOUR], "rejected": [FIVE]}, "prompt + chosen + rejected"),
        ({"messages": [USER], "chosen": "4", "rejected": "5"}, "messages + chosen + rejected"),
        ({"messages": [USER], "chosen": FOUR["content"], "rejected": [FIVE]}, None),
        ({"question": "2+2?", "chosen": "4", "rejected": "5"}, "question + chosen + rejected"),
        (
            {"instruction": "2+2?", "input": "", "chosen": "4", "rejected": "5"},
            "instruction + chosen + rejected",
        ),
        (
            {"conversations": [{"from": "human", "value": "2+2?"}], "chosen": "4", "rejected": "5"},
            "conversations + chosen + rejected",
        ),
        (
            {"chosen": [USER, FOUR], "rejected": [USER, FIVE]},
            "chosen + rejected (message lists)",
        ),
        (
            {"prompt": "2+2?", "messages": [USER, FOUR], "chosen": [USER, FOUR]}
            | {"rejected": [USER, FIVE]},
            "chosen + rejected (message lists)",
        ),
        ({"real": [USER, FOUR], "generated": [USER, FIVE]}, "real + generated (message lists)"),
        ({"chosen": HH + " 4", "rejected": HH + " 5"}, "chosen + rejected (transcripts)"),
        ({"chosen": HH[2:] + " 4", "rejected": HH[2:] + " 5 "}, "chosen + rejected (transcripts)"),
        ({"prompt": HH, "chosen": "4", "rejected": "5"}, "prompt + chosen + rejected"),
    ],
)
def test_every_shape_gives_the_same_pair(tmp_path, row, shape):
    pair, report = load_one(tmp_path, row)
    assert pair == Preference("a:1", (USER,), "4", "5")
    assert shape is None or report.shapes == {shape: 1}


def test_transcript_of_several_turns(tmp_path):
    start = (
        "\n\nHuman: a: b?\n\nnot a turn\n\nAssistant: Human: is a word\n\nHuman: c\n\nAssistant:"
    )
    pair, _ = load_one(tmp_path, {"chosen": start + " 4", "rejected": start + " 5\n\n6"})
    assert [m["role"] for m in pair.prompt] == ["user", "assistant", "user"]
    assert [m["content"] for m in pair.prompt] == ["a: b?\n\nnot a turn", "Human: is a word", "c"]
    assert (pair.chosen, pair.rejected) == ("4", "5\n\n6")


def test_system_column(tmp_path):
    for row in (
        {**GOOD, "system": "Be brief."},
        {"system": "Be brief.", "chosen": [USER, FOUR], "rejected": [USER, FIVE]},
    ):
        assert load_one(tmp_path, row)[0].prompt == (SYSTEM, USER)


def test_subset_and_margin(tmp_path):
    pair, report = load_one(tmp_path, {**GOOD, "subset": "math-prm", "margin": "1.5", "id": 31})
    assert (pair.id, pair.subset, pair.margin) == ("31", "math-prm", 1.5)
    pair, report = load_one(tmp_path, {**GOOD, "score_chosen": 8, "score_rejected": 6.5})
    assert (pair.subset, pair.margin) == (None, 1.5)
    assert report.unused_columns == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "x", "chosen": "a"}, ["no usable columns", "it has prompt, chosen"]),
        ({"prompt": "x", "chosen": "a", "rejcted": "b"}, ["'rejcted' looks like 'rejected'"]),
        ({"chosen": "a", "rejected": "b"}, ["no prompt", "add a column 'prompt'"]),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, ["'prompt' is null"]),
        ({**GOOD, "chosen": ""}, ["'chosen' is empty"]),
        ({**GOOD, "rejected": " \n"}, ["'rejected' is white space only"]),
        ({**GOOD, "rejected": None}, ["'rejected' is null"]),
        ({"chosen": "", "rejected": "b"}, ["'chosen' is empty"]),
        ({**GOOD, "rejected": 5}, ["'rejected' is a number"]),
        ({**GOOD, "rejected": "4"}, ["'chosen' equals 'rejected'"]),
        ({**GOOD, "rejected": " 4\n"}, ["'chosen' equals 'rejected'"]),
        ({"chosen": HH + " 4", "rejected": HH + "  4"}, ["'chosen' equals 'rejected'"]),
        ({"chosen": HH + " 4", "rejected": HH}, ["'rejected': turn 2 (Assistant) is empty"]),
        ({"chosen": HH + " 4", "rejected": HH + " 5\n\nHuman: x"}, ["ends with the user's turn"]),
        (
            {"chosen": HH + " 4", "rejected": HH + " 5\n\nHuman: y\n\nAssistant: z"},
            ["answer different prompts (1 turns against 3)"],
        ),
        (
            {"chosen": [USER, FOUR], "rejected": [{**USER, "content": "3+3?"}, FIVE]},
            ["answer different prompts (from turn 1 on)"],
        ),
        (
            {"real": [USER, FOUR], "generated": [SYSTEM, USER, FIVE]},
            ["'real' and 'generated' answer different prompts"],
        ),
        ({"chosen": [USER, FOUR], "rejected": "5"}, ["no prompt"]),
        ({"chosen": [FOUR], "rejected": [FIVE]}, ["no prompt"]),
        ({"messages": [USER, FOUR], "chosen": "4", "rejected": "5"}, ["must be the user's"]),
        ({**GOOD, "margin": "big"}, ["'margin' is 'big', must be a finite number"]),
        ({**GOOD, "margin": float("nan")}, ["'margin' is nan"]),
    ],
)
def test_faults_name_file_row_key_and_mend(tmp_path, row, words):
    with pytest.raises(UserError) as caught:
        load_preferences(write(tmp_path / "a.jsonl", [GOOD, row]))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'a.jsonl'}: 1 of 2 rows cannot be used as preferences")
    assert "row 2: " in message
    for word in words:
        assert word in message


def test_differing_prompts_are_one_error_or_counted(tmp_path):
    bad = {"chosen": HH + " 4", "rejected": HH[:-14] + "3\n\nAssistant: 5"}
    path = write(tmp_path / "a.jsonl", [{"chosen": HH + " 4", "rejected": HH + " 5"}, bad, bad])
    with pytest.raises(UserError, match=r"rows 2, 3: .*answer different prompts"):
        load_preferences(path)
    pairs, report = load_preferences(path, on_bad_rows="drop")
    assert len(pairs) == 1 and report.dropped == {"prompts differ": 2}


def test_duplicates_and_contradictions(tmp_path):
    swapped = {**GOOD, "chosen": "5", "rejected": "4"}
    pairs, report = load_preferences(write(tmp_path / "a.jsonl", [GOOD, GOOD, swapped]))
    assert len(pairs) == 3 and report.duplicates == 1
    assert any("1 pairs contradict" in warning for warning in report.warnings)


def test_chosen_side_as_demonstrations(tmp_path):
    pairs, _ = load_preferences(write(tmp_path / "a.jsonl", [GOOD]), limit=1)
    assert chosen_as_demonstrations(pairs) == [Demonstration("a:1", (USER,), "4")]
