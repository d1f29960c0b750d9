"""CPU and wall-clock milliseconds a soft backup of imitation's `mce_partition_fh`."""

from __future__ import annotations

from typing import Any

from eval.bench.control.stopwatch import Stopwatch, arguments, report


def main(problem: str, horizon: int, repeats: int) -> None:
    import numpy as np
    from imitation.algorithms.mce_irl import mce_partition_fh
    from seals.base_envs import TabularModelMDP

    with np.load(problem) as archive:
        env: Any = TabularModelMDP(
            transition_matrix=archive["transitions"],
            reward_matrix=archive["reward"],
            horizon=horizon,
        )
        gamma = float(archive["gamma"])
    values, _, _ = mce_partition_fh(env, discount=gamma)
    with Stopwatch() as watch:
        for _ in range(repeats):
            mce_partition_fh(env, discount=gamma)
    made = horizon * repeats
    report(cpu=watch.cpu / made * 1e3, wall=watch.wall / made * 1e3, values=values[0].tolist())


if __name__ == "__main__":
    main(**arguments())
