"""CPU and wall-clock seconds of a piece of work, and how a measuring process reports them.

Imports nothing of the project: the peers' environment does not have it.
"""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any


class Stopwatch:
    """Runs inside `with`; adds up over several blocks.

    Attributes:
        cpu: seconds that the CPU spent on this process, all its threads.
        wall: seconds that went by.
    """

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> Stopwatch:
        self.cpu -= time.process_time()
        self.wall -= time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cpu += time.process_time()
        self.wall += time.perf_counter()


def arguments() -> dict[str, Any]:
    """What the benchmark asks of this process."""
    return json.loads(sys.argv[1])


def report(**measured: Any) -> None:
    """The answer: one line of JSON, the last that is printed."""
    print(json.dumps(measured), flush=True)
