"""Whatever text people write, every file type gives it back to the letter."""

import csv
import gzip
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_align.llm.data.conversation import is_transcript
from irl_align.llm.data.demonstrations import load_demonstrations

# Any character except lone surrogates, which no file can hold; blank text is refused by design,
# and text in the form of an HH transcript is read as one.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda text: bool(text.strip()) and not is_transcript(text)
)
TURN = st.tuples(TEXT, TEXT)
CONVERSATION = st.builds(
    lambda system, turns: [
        *([{"role": "system", "content": system}] if system else []),
        *(
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ),
    ],
    st.none() | TEXT,
    st.lists(TURN, min_size=1, max_size=3),
)


def write(path: Path, rows: list[dict]) -> None:
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(
                {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()}
                for row in rows
            )
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8", newline="")
    else:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        data = lines.encode("utf-8")
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.parquet"])
@given(conversations=st.lists(CONVERSATION, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_conversations(name, conversations):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, [{"messages": conversation} for conversation in conversations])
        demonstrations, report = load_demonstrations(str(path))
    found = [[*d.prompt, {"role": "assistant", "content": d.response}] for d in demonstrations]
    assert found == conversations
    assert len({d.id for d in demonstrations}) == report.kept == len(conversations)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@given(turns=st.lists(TURN, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_columns_of_text(name, turns):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, [{"prompt": p, "completion": c} for p, c in turns])
        demonstrations, _ = load_demonstrations(str(path))
    assert [(d.prompt[0]["content"], d.response) for d in demonstrations] == turns


@given(content=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_end_in_records_or_one_clear_error(content):
    from irl_align.core.errors import UserError

    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.jsonl", "a.json", "a.csv", "a.parquet"):
            path = Path(folder) / name
            path.write_bytes(content)
            with pytest.raises(UserError, match=name):
                load_demonstrations(str(path), on_bad_rows="drop")
