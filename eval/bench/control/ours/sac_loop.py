"""CPU and wall-clock milliseconds an environment step of training an expert, end to end.

That is all of `recipes/collect_expert.py` but evaluations and files: acting, the environment, the
replay, one update for each step, the round loop around them. Whole episodes are timed, from the
first one behind the warm-up on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from eval.bench.control.stopwatch import arguments, report
from irl_align.control.config import EnvironmentConfig, EvaluationConfig, ExpertConfig, SACConfig
from irl_align.control.sac.fixed_reward import train_on_fixed_reward

Mark = tuple[float, float, float]  # environment steps, CPU, wall clock


class Marks:
    """A logger that notes the time at the end of every round."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def log(self, step: int, metrics: Mapping[str, float], kind: str = "round") -> None:
        steps = metrics["steps/environment"]
        self.marks.append((steps, time.process_time(), time.perf_counter()))

    def progress(self, description: str, total: int | None = None) -> AbstractContextManager[Any]:
        return nullcontext()


def main(
    environment: str, hidden: int, batch_size: int, together: int, warm_up: int, steps: int
) -> None:
    marks = Marks()
    config = ExpertConfig(
        environment_steps=warm_up + steps,
        environment=EnvironmentConfig(environment),
        sac=SACConfig(
            hidden=[hidden, hidden],
            batch_size=batch_size,
            update_every=together,
            compile="always",
        ),
        evaluation=EvaluationConfig(every=0),
    )
    start = time.perf_counter()
    train_on_fixed_reward(config, loggers=[marks], keep=False)
    first = next(mark for mark in marks.marks if mark[0] >= warm_up)
    timed, cpu, wall = (b - a for a, b in zip(first, marks.marks[-1], strict=True))
    # Starting and compiling: what the warm-up took beyond the time that its steps take afterwards.
    compiling = max(0.0, first[2] - start - first[0] * wall / timed)
    report(cpu=cpu / timed * 1e3, wall=wall / timed * 1e3, compile_s=compiling, steps=timed)


if __name__ == "__main__":
    main(**arguments())
