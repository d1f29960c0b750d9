"""CPU and wall-clock milliseconds an environment step of `SAC.learn`, one update for each step."""

from __future__ import annotations

import time

from eval.bench.control.peers.sac import agent
from eval.bench.control.stopwatch import Stopwatch, arguments, report


def main(
    library: str,
    environment: str,
    hidden: int,
    batch_size: int,
    together: int,
    warm_up: int,
    steps: int,
) -> None:
    model = agent(library, environment, hidden, batch_size, together)
    start = time.perf_counter()
    model.learn(warm_up)
    warm = time.perf_counter() - start
    with Stopwatch() as watch:
        model.learn(steps, reset_num_timesteps=False)
    compiling = max(0.0, warm - warm_up * watch.wall / steps)
    report(
        cpu=watch.cpu / steps * 1e3, wall=watch.wall / steps * 1e3, compile_s=compiling, steps=steps
    )


if __name__ == "__main__":
    main(**arguments())
