from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from irl_align.core import files
from irl_align.core.errors import UserError, exit_with_clear_errors, explain, naming
from irl_align.core.provenance import config_hash, git_revision, versions


def exit_code(main) -> int:
    with pytest.raises(SystemExit) as ended:
        exit_with_clear_errors(main)
    return ended.value.code


def fail(error: BaseException):
    def main():
        raise error

    return main


def test_exit_codes(capsys):
    assert exit_code(lambda: None) == 0
    assert exit_code(lambda: 3) == 3
    assert exit_code(fail(KeyboardInterrupt())) == 130
    capsys.readouterr()
    assert exit_code(fail(UserError("a.jsonl, row 3: empty response"))) == 2
    assert capsys.readouterr().err == "error: a.jsonl, row 3: empty response\n"


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "no permission"),
    ],
)
def test_storage_errors_name_the_path_and_the_mend(capsys, code, mend):
    assert exit_code(fail(OSError(code, os.strerror(code), "/run/w.bin"))) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1
    assert "/run/w.bin" in printed and mend in printed


def test_storage_errors_of_other_libraries():
    # safetensors and torch.save lose the errno, but not the text
    lost = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "disk is full" in explain(lost)
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "w.bin")
        except OSError as error:
            raise RuntimeError("saving failed") from error
    except RuntimeError as error:
        assert "w.bin" in explain(error)


def test_faults_of_the_code_keep_their_traceback():
    for error in (ZeroDivisionError(), FileNotFoundError(2, "x", "y"), PermissionError(13, "kill")):
        assert explain(error) is None
        with pytest.raises(type(error)):
            exit_with_clear_errors(fail(error))


def test_a_closed_pipe_is_no_error():
    program = (
        "from irl_align.core.errors import exit_with_clear_errors\n"
        "exit_with_clear_errors(lambda: print('line\\n' * 100000))\n"
    )
    root = str(Path(files.__file__).parents[2])
    done = subprocess.run(
        f'{sys.executable} -c "$PROGRAM" | head -1',
        shell=True,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root, "PROGRAM": program},
    )
    assert done.stdout == "line\n" and done.stderr == ""


def test_a_write_that_fails_names_its_file(tmp_path):
    with pytest.raises(OSError) as error, naming(tmp_path / "x"), open("/dev/full", "w") as file:
        file.write("y" * 100000)
    assert str(tmp_path / "x") in explain(error.value)


def test_atomic_write_leaves_old_or_new(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.atomic_write_json(path, {"x": np.float32(0.5), "t": torch.tensor(2), "p": Path("q")})
    assert path.read_text() == '{\n  "x": 0.5,\n  "t": 2,\n  "p": "q"\n}\n'

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError) as error:
        files.atomic_write_text(path, "new")
    assert str(path) in explain(error.value)
    assert path.read_text().startswith('{\n  "x"')
    assert os.listdir(tmp_path) == ["a.json"]


def test_writing_piece_by_piece_is_atomic_too(tmp_path):
    path = tmp_path / "big.bin"
    with files.atomic_open(path) as file:
        file.write(b"one ")
        assert not path.exists()
        file.write(b"two")
    assert path.read_bytes() == b"one two"

    def write_half():
        with files.atomic_open(path) as file:
            file.write(b"half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["big.bin"]


def test_hashes_of_a_tree(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a/b/c.txt").write_text("abc")
    (tmp_path / ".hidden").write_text("")
    tree = files.sha256_tree(tmp_path)
    assert list(tree) == [".hidden", "a/b/c.txt"]
    assert tree["a/b/c.txt"]["size"] == 3
    assert tree["a/b/c.txt"]["sha256"].startswith("ba7816bf")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(ValueError, match="link to a folder"):
        files.sha256_tree(tmp_path)


def test_everything_is_synced_before_the_rename(tmp_path, monkeypatch):
    """Against a power cut, which no test can make: the order of the calls."""
    partial, final = tmp_path / "partial", tmp_path / "final"
    (partial / "deep").mkdir(parents=True)
    (partial / "deep/weights").write_text("w")
    events = []
    real_rename, real_replace = os.rename, os.replace

    def rename(source, target):
        events.append("rename")
        real_rename(source, target)

    def replace(source, target):
        events.append("replace")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda d: events.append(os.readlink(f"/proc/self/fd/{d}")))
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "replace", replace)
    files.commit_folder(partial, final)
    inside = [str(partial / "deep/weights"), str(partial / "deep"), str(partial)]
    assert events == [*inside, "rename", str(tmp_path)]

    events.clear()
    files.atomic_write_text(tmp_path / "a", "x")
    assert events[0].endswith(".tmp") and events[1:] == ["replace", str(tmp_path)]


def test_commit_never_overwrites(tmp_path):
    for name in ("partial", "final"):
        (tmp_path / name).mkdir()
    with pytest.raises(FileExistsError):
        files.commit_folder(tmp_path / "partial", tmp_path / "final")
    (tmp_path / "final").rmdir()
    files.commit_folder(tmp_path / "partial", tmp_path / "final")
    assert os.listdir(tmp_path) == ["final"]


def test_provenance():
    found = versions()
    assert found["python"] == sys.version.split()[0] and found["torch"] == torch.__version__
    assert all(found.values())
    assert config_hash({"a": 1, "b": [2]}) == config_hash({"b": [2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
    revision = git_revision()
    assert revision is None or len(revision.removesuffix("-dirty")) == 40
