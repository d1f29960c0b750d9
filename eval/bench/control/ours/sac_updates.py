"""CPU and wall-clock milliseconds an update, drawing the batch included, without an environment."""

from __future__ import annotations

import torch

from eval.bench.control.stopwatch import Stopwatch, arguments, report
from irl_align.control.config import SACConfig
from irl_align.control.environments.making import make
from irl_align.control.rollouts import Collector
from irl_align.control.sac.expert import NotingEnvironment, TrueRewardSource
from irl_align.control.sac.learner import Learner
from irl_align.control.sac.training import train

_REPLAY = 10_000  # transitions of uniform actions to draw from


def main(environment: str, hidden: int, batch_size: int, together: int, updates: int) -> None:
    torch.set_num_threads(1)
    env = NotingEnvironment(make(environment))
    collector = Collector(env)
    config = SACConfig(hidden=[hidden, hidden], batch_size=batch_size, compile="always")
    learner = Learner(collector.spaces, config, seed=0)
    source = TrueRewardSource(learner.buffer, env)
    while len(learner.buffer) < _REPLAY:
        train(learner, collector, source, 1, seed=len(learner.buffer), random=True)
    calls = updates // together
    for _ in range(20):
        learner.agent.update(*source.draw(together, batch_size))
    with Stopwatch() as watch:
        for _ in range(calls):
            learner.agent.update(*source.draw(together, batch_size))
    made = calls * together
    report(cpu=watch.cpu / made * 1e3, wall=watch.wall / made * 1e3, updates=made)


if __name__ == "__main__":
    main(**arguments())
