"""CPU and wall-clock milliseconds an update of `SAC.train`, which draws its batches itself."""

from __future__ import annotations

from eval.bench.control.peers.sac import agent
from eval.bench.control.stopwatch import Stopwatch, arguments, report

_REPLAY = 10_000  # transitions of uniform actions to draw from


def main(
    library: str, environment: str, hidden: int, batch_size: int, together: int, updates: int
) -> None:
    model = agent(library, environment, hidden, batch_size, together, random_steps=_REPLAY + 1)
    model.learn(_REPLAY)
    calls = updates // together
    model.train(gradient_steps=together, batch_size=batch_size)
    with Stopwatch() as watch:
        for _ in range(calls):
            model.train(gradient_steps=together, batch_size=batch_size)
    made = calls * together
    report(cpu=watch.cpu / made * 1e3, wall=watch.wall / made * 1e3, updates=made)


if __name__ == "__main__":
    main(**arguments())
