"""Files in, numbered rows out: every file type, and every way in which a file can be broken."""

import csv
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irl_align.core.errors import UserError
from irl_align.llm.data.rows import read_rows

ROWS = [
    {"prompt": "Hi, you", "completion": 'She said "no"\nand left'},
    {"prompt": "Grüße 你好 \u2028", "completion": "ok"},
]


def write_jsonl(path: Path, rows=ROWS) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def write_jsonl_gz(path: Path, rows=ROWS) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_json(path: Path, rows=ROWS) -> None:
    path.write_text(json.dumps(rows, indent=1), "utf-8")


def write_parquet(path: Path, rows=ROWS) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_csv(path: Path, rows=ROWS) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_saved(path: Path, rows=ROWS) -> None:
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(path)


WRITERS = {
    "a.jsonl": write_jsonl,
    "a.jsonl.gz": write_jsonl_gz,
    "a.json": write_json,
    "a.parquet": write_parquet,
    "a.csv": write_csv,
    "a_saved": write_saved,
}


def error_of(path, **options) -> str:
    with pytest.raises(UserError) as caught:
        list(read_rows(str(path), **options))
    message = str(caught.value)
    assert str(path) in message
    return message


@pytest.mark.parametrize("name", WRITERS)
def test_every_file_type_gives_the_same_rows(tmp_path, name):
    WRITERS[name](tmp_path / name)
    rows = list(read_rows(str(tmp_path / name)))
    assert [row.fields for row in rows] == ROWS
    expected = [2, 4] if name == "a.csv" else [1, 2]  # the header, then a cell over two lines
    assert [row.number for row in rows] == expected
    assert {row.source for row in rows} == {str(tmp_path / name)}


def test_json_file_of_lines_and_gzip_by_content(tmp_path):
    write_jsonl(tmp_path / "lines.json")
    write_jsonl_gz(tmp_path / "packed.jsonl")  # packed, whatever the name says
    for name in ("lines.json", "packed.jsonl"):
        assert [row.fields for row in read_rows(str(tmp_path / name))] == ROWS


def test_blank_lines_and_byte_order_mark(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": 2}')
    assert [(row.number, row.fields) for row in read_rows(str(path))] == [
        (1, {"a": 1}),
        (4, {"a": 2}),
    ]


def test_limit_leaves_the_rest_unread(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\nbroken\n')
    assert len(list(read_rows(str(path), limit=2))) == 2
    assert "limit=0" in error_of(path, limit=0)


def test_split_of_a_saved_dataset(tmp_path):
    import datasets

    both = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:1])}
    path = tmp_path / "both"
    datasets.DatasetDict(both).save_to_disk(path)
    assert len(list(read_rows(str(path), "test"))) == 1
    assert "train, test" in error_of(path)
    assert "no split 'dev'" in error_of(path, split="dev")
    one = tmp_path / "one"
    datasets.DatasetDict({"train": both["train"]}).save_to_disk(one)
    assert len(list(read_rows(str(one)))) == 2
    write_saved(tmp_path / "plain")
    assert "without splits" in error_of(tmp_path / "plain", split="train")
    write_jsonl(tmp_path / "a.jsonl")
    assert "split='train' has no meaning" in error_of(tmp_path / "a.jsonl", split="train")


def test_damaged_saved_dataset(tmp_path):
    write_saved(tmp_path / "a")
    (tmp_path / "a" / "state.json").write_text("{")
    assert "cannot be loaded" in error_of(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"", ["empty"]),
        ("a.json", b"", ["empty"]),
        ("a.csv", b"", ["empty"]),
        ("a.parquet", b"", ["empty"]),
        ("a.jsonl", b'{"a": "x"}\n{"a": "\xe9t\xe9"}\n', ["row 2", "byte 8", "UTF-8"]),
        ("a.jsonl", '{"a": "x"}\n'.encode("utf-16"), ["row 1", "UTF-16"]),
        ("a.csv", b"a,b\nx,\xe9\n", ["row 2", "UTF-8"]),
        ("a.json", b'[\n{"a": "x"},\n{"a": "\xe9"}]', ["line 3", "UTF-8"]),
        ("a.jsonl", b'{"a": 1}\n{"a": 2,}\n', ["row 2", "broken JSON at column"]),
        ("a.jsonl", b'{"a": 1}\n{"a":\n', ["row 2", "broken JSON", "one whole object per line"]),
        ("a.jsonl", b'{"a": 1}\n[1]\n', ["row 2", "list", ".json"]),
        ("a.jsonl", b'"text"\n', ["row 1", "str"]),
        ("a.jsonl", b"[" * 100_000 + b"\n", ["row 1", "JSON"]),
        ("a.json", b'[{"a": 1},\n {"a": 2,}]', ["row 2", "line 2, column 10"]),
        ("a.json", b'[{"a": 1} {"a": 2}]', ["row 1", "expected ','"]),
        ("a.json", b'[{"a": 1},', ["row 2", "broken JSON"]),
        ("a.json", b'[{"a": 1}, 3]', ["row 2", "int"]),
        ("a.json", b"12", ["array of objects"]),
        ("a.csv", b'a,b\nx,y\n"x\n', ["row 3", "broken CSV"]),
        ("a.csv", b"a,b\nx,y\nx,y,z\n", ["row 3", "3 cells", "header has 2"]),
        ("a.csv", b"a,a\nx,y\n", ["header names 'a' twice"]),
        ("a.csv", b"\n\n", ["no header"]),
        ("a.parquet", b"PAR1 but no more", ["not a readable Parquet file"]),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)[:-20], ["cut short"]),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid x\n", ["git lfs pull"]),
        ("a.txt", b"x", ["unknown file type", ".jsonl"]),
        ("a.tar.gz", b"x", ["unknown file type"]),
    ],
)
def test_broken_files(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    message = error_of(path)
    for word in words:
        assert word in message


def test_bad_rows_can_be_handed_over_instead(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{\n\xff\n3\n{"a": 2}\n')
    bad = []
    rows = list(read_rows(str(path), on_bad=lambda number, reason, _: bad.append((number, reason))))
    assert [row.number for row in rows] == [1, 5]
    assert bad == [(2, "broken JSON"), (3, "not UTF-8"), (4, "not an object")]


def test_wide_csv_cells_and_lists_in_csv(tmp_path):
    messages = [{"role": "user", "content": "x" * 200_000}]
    path = tmp_path / "a.csv"
    write_csv(path, [{"messages": json.dumps(messages), "note": "[{not json}]"}])
    (row,) = read_rows(str(path))
    assert row.fields == {"messages": messages, "note": "[{not json}]"}


def test_things_that_are_not_there(tmp_path):
    assert "no such file" in error_of(tmp_path / "missing.jsonl")
    assert "no such file" in error_of(tmp_path / "missing")
    with pytest.raises(UserError, match="an empty path"):
        list(read_rows(" "))
    for name in ("data/train.jsonl", "a/b/c", "~/nowhere", "./x", "C:\\x"):
        with pytest.raises(UserError, match="no such file"):
            list(read_rows(name))
    with pytest.raises(UserError, match="not a hub name"):
        list(read_rows("alone"))


def test_folder_that_is_no_dataset(tmp_path):
    assert "not a data set written by datasets' save_to_disk" in error_of(tmp_path)
    write_jsonl(tmp_path / "train.jsonl")
    assert "it holds train.jsonl" in error_of(tmp_path)


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    write_jsonl(path)

    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so chmod is no test
    assert "Permission denied" in error_of(path)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    import os

    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **environment}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "offline mode is on"),
        ({"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_hub_name_without_network_is_one_quick_error(tmp_path, environment, why):
    code = (
        "import time, datasets\n"  # its import is slow on a busy machine and not what is timed
        "from irl_align.core.errors import UserError\n"
        "from irl_align.llm.data.demonstrations import load_demonstrations\n"
        "start = time.monotonic()\n"
        "try: load_demonstrations('some-org/no-such-set', split='train')\n"
        "except UserError as error: print(time.monotonic() - start, error, sep='\\n')\n"
    )
    done = run_python(code, HF_HOME=str(tmp_path), TRANSFORMERS_OFFLINE="0", **environment)
    seconds, message = done.stdout.strip().split("\n", 1)
    assert float(seconds) < 8
    assert "some-org/no-such-set: no such file or folder" in message
    assert why in message and ".jsonl" in message and "\n" not in message
    assert "Retry" not in done.stderr


def test_hub_name_through_the_library(monkeypatch):
    import datasets

    from irl_align.llm.data import hub

    asked = []

    def load(name, config):
        asked.append((name, config, datasets.config.HF_HUB_OFFLINE))
        return datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for answers in (True, False):
        monkeypatch.setattr(hub, "_hub_answers", lambda _, answers=answers: answers)
        assert [row.fields for row in read_rows("org/name:main", "train")] == ROWS
    # Without an answer the library looks into its cache only, and is put back afterwards.
    assert asked == [("org/name", "main", False), ("org/name", "main", True)]
    assert datasets.config.HF_HUB_OFFLINE is False


def test_heavy_packages_are_imported_only_where_used(tmp_path):
    write_jsonl(tmp_path / "a.jsonl")
    code = (
        "import sys\n"
        "from irl_align.llm.data.check import check_file\n"
        f"check_file({str(tmp_path / 'a.jsonl')!r})\n"
        "print([m for m in ('torch', 'datasets', 'pyarrow', 'transformers') if m in sys.modules])"
    )
    start = time.monotonic()
    assert run_python(code).stdout.strip() == "[]"
    assert time.monotonic() - start < 30


def test_rows_are_streamed(tmp_path):
    import tracemalloc

    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        for number in range(2000):
            file.write(json.dumps({"a": str(number) * 1000}) + "\n")  # 8 MB in all
    tracemalloc.start()
    assert sum(1 for _ in read_rows(str(path))) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
