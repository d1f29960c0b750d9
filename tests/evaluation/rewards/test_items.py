"""Reading items: pairs, best-of-N rows, limits by share, clear errors."""

import json
from pathlib import Path

import pytest

from irl_align.core.errors import UserError
from irl_align.evaluation.rewards.items import Item, load_items, share_out


def write(path: Path, *rows: dict) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_pairs_and_best_of_four(tmp_path: Path) -> None:
    pair = {"id": 7, "prompt": "p", "chosen": "c", "rejected": "r", "subset": "hep-go"}
    best = {"prompt": "p", "chosen": ["c"], "rejected": ["x", "y", "z"], "subset": "Focus"}
    whole = {"chosen": "\n\nHuman: q\n\nAssistant: c", "rejected": "\n\nHuman: q\n\nAssistant: r"}
    items, report = load_items(write(tmp_path / "a.jsonl", pair, best, whole))
    assert [item.responses for item in items] == [("c", "r"), ("c", "x", "y", "z"), ("c", "r")]
    assert [item.subset for item in items] == ["hep-go", "Focus", None]
    assert items[0].id == "7"
    assert items[0].prompt_key == items[1].prompt_key != items[2].prompt_key
    assert len(report.sha256) == 64


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "chosen": ["a", "b"], "rejected": ["c"]}, "'chosen' has 2 responses"),
        ({"prompt": "p", "chosen": ["a"], "rejected": ["b", " "]}, "'rejected' is white space"),
        ({"prompt": "p", "chosen": ["a"], "rejected": ["b", "a "]}, "among 'rejected'"),
        ({"chosen": ["a"], "rejected": ["b", "c"]}, "no 'prompt'"),
        ({"prompt": "p", "chosen": "a"}, "rejected"),
    ],
)
def test_bad_rows_are_named_with_their_mend(tmp_path: Path, row: dict, message: str) -> None:
    good = {"prompt": "p", "chosen": "c", "rejected": "r"}
    with pytest.raises(UserError, match=r"bad\.jsonl") as caught:
        load_items(write(tmp_path / "bad.jsonl", good, row))
    assert message in str(caught.value)
    assert "row 2" in str(caught.value)
    items, report = load_items(str(tmp_path / "bad.jsonl"), on_bad_rows="drop")
    assert (len(items), sum(report.dropped.values())) == (1, 1)


def test_a_limit_keeps_the_shares_of_subsets() -> None:
    items = [
        Item(f"{s}{i}", (), ("a", "b"), s)
        for s, n in (("x", 60), ("y", 30), ("z", 10))
        for i in range(n)
    ]
    kept = share_out(items, 11)
    sizes = {name: sum(item.subset == name for item in kept) for name in "xyz"}
    assert sizes == {"x": 7, "y": 3, "z": 1}
    assert [item.id for item in kept if item.subset == "z"] == ["z0"]
    assert [item.id for item in kept] == [i.id for i in items if i in kept]
    assert share_out(items, 1000) == items
    assert len(share_out(items, 1)) == 1
