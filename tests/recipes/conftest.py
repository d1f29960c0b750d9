"""Programs as real processes, on a tiny model and tiny data."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass
class Ended:
    """How a program ended; `children`: what it had started when it was killed."""

    code: int
    stderr: str
    children: list[int] = field(default_factory=list)


class Programs:
    """`python recipes/NAME.py ...` from a server that has the imports behind it."""

    environment = ENVIRONMENT
    root = ROOT

    def __init__(self, home: Path) -> None:
        self.home, self.number = home, 0
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forkserver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            cwd=ROOT,
        )
        self._read()

    def _read(self) -> int:
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        assert line, "the server ended"
        return int(line)

    def __call__(
        self,
        *argv: str,
        cwd: Path,
        kill_when: Path | None = None,
        kill_before: str | None = None,
    ) -> Ended:
        """Run to the end, or kill -9 as soon as the file or folder `kill_when` exists."""
        self.number += 1
        stderr = self.home / f"stderr-{self.number}.txt"
        program = [str(ROOT / "recipes" / argv[0]), *argv[1:]]
        request: dict[str, Any] = {
            "argv": program,
            "cwd": str(cwd),
            "stderr": str(stderr),
            "kill_before": kill_before,
        }
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        pid = self._read()
        children: list[int] = []
        if kill_when is not None:
            self.wait_until(lambda: kill_when.exists() or not self.alive(pid), 300)
            children = self.descendants(pid)
            with contextlib.suppress(ProcessLookupError):  # it may have ended before
                os.kill(pid, signal.SIGKILL)
        code = self._read()
        return Ended(code, stderr.read_text(), children)

    @staticmethod
    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    @staticmethod
    def descendants(pid: int) -> list[int]:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [p for child in map(int, children) for p in (child, *Programs.descendants(child))]

    @staticmethod
    def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def close(self) -> None:
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait(timeout=20)


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    found = Programs(tmp_path_factory.mktemp("programs"))
    yield found
    found.close()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """run("recipes/NAME.py", ...) in this process: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", [str(ROOT / arguments[0]), *arguments[1:]])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(sys.argv[0], run_name="__main__")
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return start


CONFIG = """
rounds: 2
seed: 3
run_dir: run
model: {{path: {model}, bf16: false}}
demonstrations: {{path: {demonstrations}}}
sft:
  {{epochs: 1, learning_rate: 1e-3, batch_size: 4, micro_batch_size: 2, warmup_ratio: 0.0,
   lora: {{r: 4, alpha: 8}}}}
sampling:
  {{backend: hf, samples_per_prompt: 4, max_new_tokens: 6, dtype: float32, engine: persistent}}
reward:
  {{epochs: 1, learning_rate: 1e-3, batch_size: 4, micro_batch_size: 2, warmup_ratio: 0.0,
   lora: {{r: 4, alpha: 8}}, truncated: match, holdout: 0.25}}
policy:
  {{epochs: 1, learning_rate: 1e-3, batch_size: 4, micro_batch_size: 2, warmup_ratio: 0.0,
   lora: {{r: 4, alpha: 8}}}}
evaluation: {{prompts: {prompts}, hidden_reward: vader}}
launch: {{inline: true, tensorboard: false}}
"""


@pytest.fixture(scope="session")
def config(tmp_path_factory) -> Path:
    """A configuration whose run directory is `run` under the current folder."""
    from tiny import write_demonstrations, write_prompts, write_trained_model

    home = tmp_path_factory.mktemp("inputs")
    path = home / "tiny.yaml"
    path.write_text(
        CONFIG.format(
            model=write_trained_model(home / "model"),
            demonstrations=write_demonstrations(home / "demonstrations.jsonl"),
            prompts=write_prompts(home / "prompts.jsonl"),
        )
    )
    return path


@pytest.fixture(scope="session")
def whole(programs, config, tmp_path_factory) -> Path:
    """The folder in which an unbroken run of two rounds lies under `run`."""
    home = tmp_path_factory.mktemp("whole")
    ended = programs("align.py", str(config), cwd=home)
    assert ended.code == 0, ended.stderr
    return home
