"""kill -9 of a real process: the same command again ends as an unbroken run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irl_align.core import committed
from irl_align.core.errors import UserError
from irl_align.core.run import RunDirectory

PHASES = ("sample", "reward", "policy", "evaluate")


@pytest.mark.parametrize("phase", PHASES)
def test_killed_in_the_middle_of_a_phase(toy, tools, whole, tmp_path, phase):
    def at(number, name, folder):
        if (number, name) == (1, phase):
            tools.kill_me()

    assert tools.in_killed_process(lambda: tools.train(tmp_path / "run", toy(at))) == -9
    check_same_end(toy, tools, whole, tmp_path, first=(1, phase))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("moment", ["before the rename", "after the rename"])
def test_killed_in_the_commit_of_a_phase(toy, tools, whole, tmp_path, phase, moment):
    def work():
        real = committed.commit_folder

        def commit(partial, final):
            hit = final == RunDirectory(tmp_path / "run").phase_folder(1, phase)
            if hit and moment == "before the rename":
                tools.kill_me()
            real(partial, final)
            if hit:
                tools.kill_me()

        committed.commit_folder = commit
        tools.train(tmp_path / "run", toy())

    assert tools.in_killed_process(work) == -9
    following = [*((1, p) for p in PHASES), (2, "sample")]
    step = 0 if moment == "before the rename" else 1
    check_same_end(toy, tools, whole, tmp_path, first=following[PHASES.index(phase) + step])


@pytest.mark.parametrize("name", ["metrics.json", "manifest.json", "DONE", "config.yaml"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_in_the_commit_of_a_round_or_the_start(toy, tools, whole, tmp_path, name, moment):
    def work():
        from irl_align.core import files

        real = files.os.replace

        def replace(source, target):
            hit = Path(target).name == name and (
                name == "config.yaml" or Path(target).parent.name == "0001"
            )
            if hit and moment == "before":
                tools.kill_me()
            real(source, target)
            if hit:
                tools.kill_me()

        files.os.replace = replace
        tools.train(tmp_path / "run", toy())

    assert tools.in_killed_process(work) == -9
    first = (0, "sample") if name == "config.yaml" else None
    if name == "DONE" and moment == "after":
        first = (2, "sample")
    check_same_end(toy, tools, whole, tmp_path, first=first)


@pytest.fixture(scope="module")
def whole(tools, toy, tmp_path_factory):
    """Outcome and files of an unbroken run."""
    path = tmp_path_factory.mktemp("whole") / "run"
    return tools.outcome(tools.train(path, toy())), tools.disk(path)


def check_same_end(toy, tools, whole, tmp_path, first):
    """The second start begins at ``first`` (None: anywhere) and ends as an unbroken run."""
    again = toy()
    found = tools.train(tmp_path / "run", again)
    assert first is None or again.calls[0] == first
    assert tools.outcome(found) == whole[0]
    assert tools.disk(tmp_path / "run") == whole[1]
    assert not list((tmp_path / "run").glob("rounds/*/.*.partial"))
    assert not list((tmp_path / "run").glob(".*.tmp"))


PROGRAM = """
import sys, time
from pathlib import Path
from irl_align.core.run import RunDirectory
from irl_align.core.trainer import BilevelTrainer
sys.path.insert(0, {tests!r})
from conftest import Toy, train

def at(number, name, folder):
    if (number, name) == (1, "reward"):
        print("midway", flush=True)
        time.sleep(60)

train(Path({run!r}), Toy(at))
"""


def test_a_program_killed_from_outside(toy, tools, whole, tmp_path):
    program = PROGRAM.format(tests=str(Path(__file__).parent), run=str(tmp_path / "run"))
    root = str(Path(committed.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "midway\n"
        with pytest.raises(UserError, match=f"in use by process {process.pid}"):
            RunDirectory(tmp_path / "run").open({"rounds": 3, "seed": 7})
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()
    check_same_end(toy, tools, whole, tmp_path, first=(1, "reward"))


def test_the_lock_of_a_killed_run_is_not_kept_by_its_children(tmp_path):
    """A worker forked by the run must not keep the next start out."""
    read_end, write_end = os.pipe()
    parent = os.fork()
    if parent == 0:
        RunDirectory(tmp_path / "run").open({})
        child = os.fork()
        if child == 0:
            os.write(write_end, str(os.getpid()).encode())
            time.sleep(60)
            os._exit(0)
        time.sleep(60)
        os._exit(0)
    child = int(os.read(read_end, 20))
    try:
        with pytest.raises(UserError, match=f"in use by process {parent}"):
            RunDirectory(tmp_path / "run").open({})
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        os.kill(child, 0)  # still there
        RunDirectory(tmp_path / "run").open({}).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(read_end)
        os.close(write_end)
