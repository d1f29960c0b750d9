"""Prompts: from prompt files, and from everything that holds prompts."""

import json

import pytest

from irl_align.core.errors import UserError
from irl_align.llm.data.prompts import load_prompts
from irl_align.llm.data.schema import Prompt

USER = {"role": "user", "content": "2+2?"}
FOUR = {"role": "assistant", "content": "4"}
HH = "\n\nHuman: 2+2?\n\nAssistant:"


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2+2?"},
        {"prompt": [USER]},
        {"prompt": "2+2?", "label": 3},
        {"messages": [USER]},
        {"messages": [USER, FOUR]},
        {"messages": [USER, FOUR], "prompt": "a copy"},
        {"conversations": [{"from": "human", "value": "2+2?"}]},
        {"question": "2+2?", "answer": ""},  # the response is not looked at
        {"instruction": "2+2?", "input": "", "output": "4"},
        {"prompt": "2+2?", "chosen": "4", "rejected": "4"},
        {"messages": [USER], "chosen": "4", "rejected": "5"},
        {"chosen": HH + " 4", "rejected": HH + " 5"},
        {"real": [USER, FOUR], "generated": [USER, {**FOUR, "content": "5"}]},
        {"prompt": HH},
    ],
)
def test_every_shape_gives_the_same_prompt(tmp_path, row):
    prompts, report = load_prompts(write(tmp_path / "a.jsonl", [row]))
    assert prompts == [Prompt("a:1", (USER,))]
    assert report.kind == "prompts" and list(report.lengths) == ["prompt"]


def test_csv_of_prompts(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,prompt\nfirst,2+2?\nsecond,"a, ""b""\nc"\n')
    prompts, _ = load_prompts(str(path))
    assert [p.id for p in prompts] == ["first", "second"]
    assert prompts[1].messages[0]["content"] == 'a, "b"\nc'


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"promt": "x"}, "'promt' looks like 'prompt'"),
        ({"prompt": ""}, "'prompt' is empty"),
        ({"prompt": None}, "'prompt' is null"),
        ({"prompt": 3}, "'prompt' is a number"),
        ({"prompt": [FOUR]}, "begins with the assistant"),
        ({"messages": [FOUR]}, "begins with the assistant"),
        ({"messages": [FOUR, USER]}, "begins with the assistant"),
        ({"messages": [{"role": "system", "content": "x"}]}, "no user turn"),
    ],
)
def test_faults(tmp_path, row, word):
    with pytest.raises(UserError) as caught:
        load_prompts(write(tmp_path / "a.jsonl", [{"prompt": "x"}, row]))
    assert "row 2: " in str(caught.value) and word in str(caught.value)


def test_repeated_prompts_are_counted(tmp_path):
    rows = [{"prompt": "x"}, {"prompt": "y"}, {"prompt": "x"}]
    prompts, report = load_prompts(write(tmp_path / "a.jsonl", rows), limit=3)
    assert len(prompts) == 3 and (report.duplicates, report.distinct_prompts) == (1, 2)
