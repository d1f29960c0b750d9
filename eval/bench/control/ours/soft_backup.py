"""CPU and wall-clock milliseconds a soft backup on the sparse kernel."""

from __future__ import annotations

import numpy as np

from eval.bench.control.stopwatch import Stopwatch, arguments, report
from irl_align.tabular.arrays import Array
from irl_align.tabular.gridworld import gridworld
from irl_align.tabular.planning import log_sum_exp, soft_backup


def main(side: int, problem: str, horizon: int, repeats: int) -> None:
    with np.load(problem) as archive:
        reward, gamma = archive["reward"], float(archive["gamma"])
    mdp = gridworld(side, side, gamma=gamma).mdp
    table = np.repeat(reward[:, None], mdp.shape[1], axis=1)

    def solve() -> Array:
        values = np.zeros(mdp.states)
        for _ in range(horizon):
            values = log_sum_exp(soft_backup(mdp, table, values))
        return values

    values = solve()
    with Stopwatch() as watch:
        for _ in range(repeats):
            solve()
    made = horizon * repeats
    report(cpu=watch.cpu / made * 1e3, wall=watch.wall / made * 1e3, values=values.tolist())


if __name__ == "__main__":
    main(**arguments())
