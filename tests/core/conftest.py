"""A toy system with state on disk, and a way to kill a real process at a chosen place."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from irl_align.core.protocols import Codecs
from irl_align.core.run import RunDirectory
from irl_align.core.trainer import BilevelTrainer, Result


class JsonCodec:
    def save(self, value, folder: Path) -> None:
        (folder / "value.json").write_text(json.dumps(value))

    def load(self, folder: Path):
        return json.loads((folder / "value.json").read_text())


CODECS = Codecs(policy=JsonCodec(), reward=JsonCodec(), samples=JsonCodec())


class Toy:
    """All four verbs. They draw from the global generators, write files, and call ``at`` midway."""

    def __init__(self, at: Callable[[int, str, Path | None], None] = lambda *place: None) -> None:
        self.at = at
        self.calls: list[tuple[int, str]] = []
        self.contexts = []

    def _enter(self, ctx) -> float:
        self.calls.append((ctx.round, ctx.phase))
        self.contexts.append(ctx)
        if ctx.folder is not None:
            (ctx.folder / "part").write_text("half of it")
        noise = random.random() + np.random.random() + torch.rand(()).item()
        self.at(ctx.round, ctx.phase, ctx.folder)
        if ctx.folder is not None:
            (ctx.folder / "part").write_text(f"all of it {noise}")
        return noise

    def sample(self, policy, ctx):
        noise = self._enter(ctx)
        return [policy["w"] + noise], {"samples/length": noise}

    def fit(self, reward, samples, ctx):
        noise = self._enter(ctx)
        return {"w": reward["w"] + 0.1 * samples[0] + noise}, {"reward/loss": noise}

    def improve(self, policy, reward, samples, ctx):
        noise = self._enter(ctx)
        drawn = samples[0] if samples else 0.0
        return {"w": 0.5 * policy["w"] + reward["w"] + drawn + noise}, {"policy/kl": noise}

    def evaluate(self, policy, reward, ctx):
        noise = self._enter(ctx)
        return {"eval/x": policy["w"] - reward["w"] + noise}


class Crash(Exception):
    pass


def train(path: Path | None, toy: Toy, *, config=None, **options) -> Result:
    options = {"rounds": 3, "seed": 7, "codecs": CODECS} | options
    run = None
    if path is not None:
        run = RunDirectory(path).open(config or {"rounds": options["rounds"], "seed": 7})
    try:
        trainer = BilevelTrainer(toy, toy, toy, toy, run=run, **options)
        return trainer.train({"w": 1.0}, {"w": 2.0})
    finally:
        if run is not None:
            run.close()


def outcome(result: Result):
    """What two runs must share: artefacts, and metrics but for wall-clock times."""
    history = [
        {key: value for key, value in row.items() if not key.startswith("time/")}
        for row in result.history
    ]
    return result.policy, result.reward, history


def disk(path: Path):
    """Every hash and metric on disk, but for wall-clock times."""
    run = RunDirectory.read(path)
    found = {}
    for number in run.committed_rounds():
        found[number] = {
            name: run.phase_record(number, name)["files"]
            for name in ("sample", "reward", "policy", "evaluate")
            if run.phase_done(number, name)
        }
        found[number]["manifest"] = run.manifest(number)
    return found


def in_killed_process(work: Callable[[], None]) -> int:
    """Run ``work`` in a process of its own (forked, so that torch need not load again).

    Returns the exit code: -9 when it was killed by SIGKILL.
    """
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """SIGKILL leaves the page cache alone, so only the tests of fsync itself wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def toy() -> type[Toy]:
    return Toy


@pytest.fixture
def crash() -> type[Crash]:
    return Crash


@pytest.fixture(scope="session")
def tools():
    """train, outcome, disk, in_killed_process, kill_me, CODECS."""

    class Tools:
        pass

    for function in (train, outcome, disk, in_killed_process, kill_me):
        setattr(Tools, function.__name__, staticmethod(function))
    Tools.CODECS = CODECS
    return Tools
