from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from irl_align.core.errors import UserError, explain
from irl_align.core.run import RunDirectory

CONFIG = {"rounds": 2, "model": {"path": "a", "lr": 1e-5}, "lora": None, "targets": ("q", "v")}


@pytest.fixture
def run(tmp_path):
    with RunDirectory(tmp_path / "run").open(CONFIG) as opened:
        yield opened


def commit(run: RunDirectory, number: int, text: str = "x") -> None:
    (run.begin_phase(number, "policy") / "weights").write_text(text)
    run.commit_phase(number, "policy", {"policy/kl": 0.25}, 1.5, 3)
    run.append_metrics(number, {"policy/kl": 0.25})
    run.commit_round(number, {"policy/kl": 0.25}, {"round": number})


def test_layout_and_records(run):
    commit(run, 0)
    names = sorted(p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file())
    assert names == [
        ".lock", "config.yaml", "metrics.jsonl", "rounds/0000/DONE", "rounds/0000/manifest.json",
        "rounds/0000/metrics.json", "rounds/0000/policy/phase.json", "rounds/0000/policy/weights",
        "run.json",
    ]  # fmt: skip
    record = run.phase_record(0, "policy")
    assert record["metrics"] == {"policy/kl": 0.25}
    assert (record["seconds"], record["seed"]) == (1.5, 3)
    assert record["files"]["weights"]["size"] == 1
    assert run.round_done(0) and run.done_rounds() == 1 and run.metrics(0) == {"policy/kl": 0.25}
    assert run.info()["starts"][0]["versions"]["python"]
    run.verify_phase(0, "policy")


def test_a_phase_is_there_only_when_committed(run):
    folder = run.begin_phase(0, "sample")
    (folder / "half").write_text("")
    assert folder.name == ".samples.partial" and not run.phase_done(0, "sample")
    fresh = run.begin_phase(0, "sample")
    assert fresh == folder and not list(fresh.iterdir())
    final = run.commit_phase(0, "sample", {}, 0.0, 0)
    assert final == run.phase_folder(0, "sample") and run.phase_done(0, "sample")
    with pytest.raises(FileExistsError):
        run.begin_phase(0, "sample")


def test_setup_has_the_same_guarantees(run):
    folder = run.begin_setup("sft")
    assert not run.setup_done("sft")
    (folder / "deep").mkdir()
    (folder / "deep" / "weights").write_text("w")
    run.commit_setup("sft", {"reward/loss": 1.0}, 2.0, 5)
    assert run.setup_done("sft") and run.setup_record("sft")["seed"] == 5
    run.verify_setup("sft")
    (run.setup_folder("sft") / "deep/weights").write_text("v")
    with pytest.raises(UserError, match=r"setup/sft/deep/weights is damaged.*delete"):
        run.verify_setup("sft")


def test_a_setup_taken_from_another_run(run, tmp_path):
    folder = run.begin_setup("sft")
    (folder / "deep").mkdir()
    (folder / "deep" / "weights").write_text("w")
    run.commit_setup("sft", {"reward/loss": 1.0}, 2.0, 5)
    with RunDirectory(tmp_path / "second").open(CONFIG) as second:
        second.take_setup("sft", RunDirectory.read(run.path))
        second.verify_setup("sft")
        record = second.setup_record("sft")
        assert record.pop("taken_from") == str(run.path)
        assert record == run.setup_record("sft")
    (run.setup_folder("sft") / "deep/weights").write_text("v")
    with RunDirectory(tmp_path / "third").open(CONFIG) as third:
        with pytest.raises(UserError, match="sft/deep/weights is damaged"):
            third.take_setup("sft", RunDirectory.read(run.path))
        assert not third.setup_done("sft")


def test_resume_with_the_same_config(run):
    run.close()
    run.open({**CONFIG, "rounds": 5})
    assert run.resumed and run.config()["rounds"] == 5
    assert len(run.info()["starts"]) == 2


def test_another_config_is_refused_with_keys_and_values(run):
    run.close()
    other = {**CONFIG, "model": {"path": "b", "lr": 1e-5}, "lora": {"rank": 8}}
    with pytest.raises(UserError) as error:
        RunDirectory(run.path).open(other)
    message = str(error.value)
    assert "model.path: 'a' in the run, 'b' now" in message
    assert "lora.rank: 'not set' in the run, 8 now" in message
    assert "model.lr" not in message and "new run_dir" in message
    RunDirectory(run.path).open(other, free_keys=("model", "lora")).close()


def test_a_second_writer_is_refused(run):
    with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        RunDirectory(run.path).open(CONFIG)
    RunDirectory.read(run.path)  # reading needs no lock
    run.close()
    RunDirectory(run.path).open(CONFIG).close()


def test_a_second_process_is_refused(run):
    program = (
        "import sys\n"
        "from irl_align.core.errors import exit_with_clear_errors\n"
        "from irl_align.core.run import RunDirectory\n"
        "exit_with_clear_errors(lambda: RunDirectory(sys.argv[1]).open({}) and 0)\n"
    )
    root = str(Path(sys.modules["irl_align"].__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program, str(run.path)],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "in use by process" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["file in the way", "file as parent", "not a place for files"])
def test_an_unwritable_folder(tmp_path, kind):
    path = {
        "file in the way": tmp_path / "file",
        "file as parent": tmp_path / "file" / "run",
        "not a place for files": Path("/proc/irl_align_run"),
    }[kind]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot write the run directory") as error:
        RunDirectory(path).open(CONFIG)
    assert str(path) in str(error.value) and "another run_dir" in str(error.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_open_gives_the_lock_back(tmp_path, monkeypatch):
    import irl_align.core.run as module

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "run.json")

    with monkeypatch.context() as patch:
        patch.setattr(module, "atomic_write_json", full)
        with pytest.raises(UserError, match="No space left"):
            RunDirectory(tmp_path / "run").open(CONFIG)
    RunDirectory(tmp_path / "run").open(CONFIG).close()


def test_a_full_disk_in_a_phase(toy, tools, tmp_path):
    """/dev/full gives the kernel's own ENOSPC on any user; nothing committed is lost."""

    def at(number, name, folder):
        if (number, name) == (1, "reward"):
            (folder / "big").symlink_to("/dev/full")
            (folder / "big").write_text("too much")

    path = tmp_path / "run"
    with pytest.raises(OSError) as error:
        tools.train(path, toy(at))
    message = explain(error.value)
    assert "disk is full" in message and "rounds/0001/.reward.partial" in message
    expected = tools.train(tmp_path / "whole", toy())
    again = toy()
    assert tools.outcome(tools.train(path, again)) == tools.outcome(expected)
    assert again.calls[0] == (1, "reward")


def test_a_full_disk_in_a_commit(toy, tools, tmp_path, monkeypatch):
    from irl_align.core import files

    real, count = files.os.fsync, []

    def fsync(descriptor):
        count.append(1)
        if len(count) == 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(OSError) as error:
            tools.train(tmp_path / "run", toy())
    assert "disk is full" in explain(error.value)
    expected = tools.train(tmp_path / "whole", toy())
    assert tools.outcome(tools.train(tmp_path / "run", toy())) == tools.outcome(expected)
    assert tools.disk(tmp_path / "run") == tools.disk(tmp_path / "whole")


class TestMetricsLog:
    def test_a_torn_row_is_cut(self, run):
        commit(run, 0)
        log = run.path / "metrics.jsonl"
        whole = log.read_text()
        run.close()
        log.write_text(whole + '{"round": 1, "policy/k')
        run.open(CONFIG)
        assert log.read_text() == whole

    def test_rows_of_rounds_to_come_again_are_dropped(self, run):
        commit(run, 0)
        run.append_metrics(1, {"policy/kl": 9.0})
        run.close()
        run.open(CONFIG)
        rows = (run.path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(row)["round"] for row in rows] == [0]

    def test_it_is_rebuilt_from_the_rounds(self, run):
        commit(run, 0)
        commit(run, 1)
        (run.path / "metrics.jsonl").unlink()
        run.close()
        run.open(CONFIG)
        assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 2
        assert run.history() == [{"policy/kl": 0.25}] * 2

    def test_a_gap_that_cannot_be_rebuilt_is_named(self, run):
        commit(run, 2)
        (run.path / "metrics.jsonl").unlink()
        with pytest.raises(UserError, match="no row for round 0"):
            run.history()


def test_reading_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        RunDirectory.read(tmp_path / "absent")
    with pytest.raises(UserError, match="is not a run"):
        RunDirectory.read(tmp_path)


def test_a_run_that_lost_its_config_is_not_taken_over(run):
    commit(run, 0)
    run.close()
    (run.path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"no config\.yaml"):
        RunDirectory(run.path).open(CONFIG)


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "rounds/0000/metrics.json"])
def test_damaged_files_of_the_run_are_named(run, name):
    commit(run, 0)
    run.close()
    (run.path / name).write_bytes(b"\xff{: [")
    with pytest.raises(UserError, match=Path(name).name):
        RunDirectory(run.path).open(CONFIG)


def test_writing_needs_an_open_run(run):
    run.close()
    with pytest.raises(RuntimeError, match="open"):
        run.begin_phase(0, "sample")
    with pytest.raises(RuntimeError, match="open"):
        RunDirectory.read(run.path).begin_setup("sft")


def test_a_moved_run_goes_on(run, tmp_path):
    run.close()
    moved = run.path.rename(tmp_path / "elsewhere")
    with RunDirectory(moved).open(CONFIG) as again:
        assert again.resumed
