"""Starts recipes as real processes without paying the imports each time.

Reads one JSON request a line: {"argv": [...], "cwd": path, "stderr": path, "kill_before": name}.
Forks a process that runs the program as `python argv[0] argv[1:]` would, answers its pid, waits for
it and answers its exit code (-9: killed). `kill_before`: the process kills itself (SIGKILL) just
before a file of that name gets its final name.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
from pathlib import Path

import datasets  # noqa: F401
import peft  # noqa: F401
import torch  # noqa: F401
from transformers import (  # noqa: F401
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Trainer,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer  # noqa: F401

import irl_align.llm.alignment  # noqa: F401


def kill_before(name: str) -> None:
    real = os.replace

    def replace(source: str, target: str) -> None:
        if Path(target).name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)

    os.replace = replace


def run(request: dict) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # die with this server
    out = os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(out, 2)
    sys.stdin = os.fdopen(0)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(request["cwd"])
    if request.get("kill_before"):
        kill_before(request["kill_before"])
    sys.argv = request["argv"]
    code = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def answer(value: int) -> None:
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    answer(0)  # ready
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            run(request)
        answer(child)
        answer(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
