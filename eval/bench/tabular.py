"""Tabular planning: 10^5 states on a sparse kernel, against the same iteration written plainly.

The plain peer keeps the sparse kernel too (a dense one would need hundreds of GiB here), takes
scipy's logsumexp and stops by the sup norm of the last change, as a first script does. At 2,500
states the peer is the dense backup ``T @ V`` of finite-horizon MCE-IRL implementations.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.special import logsumexp

from irl_align.tabular.garnet import garnet
from irl_align.tabular.gridworld import gridworld
from irl_align.tabular.mdp import TabularMDP
from irl_align.tabular.planning import (
    log_sum_exp,
    soft_backup,
    soft_policy_iteration,
    soft_value_iteration,
)

__all__ = ["run"]

RUNS = 3
GAMMA = 0.95
TOLERANCE = 1e-8  # absolute error of V
MIB = 2**20


def _problems() -> dict[str, TabularMDP]:
    return {
        "gridworld": gridworld(316, 317, gamma=GAMMA).mdp,
        "garnet": garnet(100_000, 5, 5, gamma=GAMMA, seed=0),
    }


def _plain(mdp: TabularMDP, reward: Any) -> Any:
    matrix = mdp.kernel.matrix  # type: ignore[attr-defined]
    values = np.zeros(mdp.states)
    while True:
        q = reward + GAMMA * (matrix @ values).reshape(mdp.shape)
        after = logsumexp(q, axis=1)
        change = np.abs(after - values).max()
        values = after
        if change * GAMMA / (1 - GAMMA) <= TOLERANCE:
            return values


def _seconds(work: Callable[[], Any]) -> tuple[list[float], Any]:
    times, result = [], None
    for _ in range(RUNS):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return times, result


def _row(ours: list[float], peer: list[float], unit: str, **more: Any) -> dict[str, Any]:
    mine, other = statistics.median(ours), statistics.median(peer)
    runs = {"ours": ours, "peer": peer}
    return {"ours": mine, "peer": other, "ratio": other / mine, "unit": unit, "runs": runs, **more}


def _peak(work: Callable[[], Any]) -> float:
    """MiB that ``work`` allocates at most, its result included (numpy tells tracemalloc)."""
    tracemalloc.start()
    try:
        kept = work()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return peak / MIB


def _memory(name: str) -> dict[str, Any]:
    def work() -> Any:
        mdp = _problems()[name]
        return soft_value_iteration(mdp, np.zeros(mdp.shape), tolerance=1.0)

    peak = _peak(work)
    states, actions = 100_000, 5
    dense = states * actions * states * 8 / MIB
    return {
        "ours": peak,
        "peer": dense,
        "ratio": dense / peak,
        "unit": "MiB at most, kernel and planning; peer: a dense table in float64, by arithmetic",
        "runs": 1,
    }


def _backup() -> dict[str, Any]:
    mdp = gridworld(50, 50, gamma=GAMMA).mdp
    dense = gridworld(50, 50, gamma=GAMMA, dense=True).mdp.kernel.probabilities  # type: ignore[attr-defined]
    reward = np.random.default_rng(0).normal(size=mdp.shape)
    values = np.zeros(mdp.states)

    def ours() -> None:
        for _ in range(200):
            log_sum_exp(soft_backup(mdp, reward, values))

    def peer() -> None:
        for _ in range(5):
            logsumexp(reward + GAMMA * (dense @ values), axis=1)

    mine = [seconds / 200 * 1e3 for seconds in _seconds(ours)[0]]
    other = [seconds / 5 * 1e3 for seconds in _seconds(peer)[0]]
    return _row(mine, other, "ms a soft backup, 2,500 states, against dense T @ V")


def run() -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, mdp in _problems().items():
        reward = np.random.default_rng(0).normal(size=mdp.shape)
        plain, values = _seconds(partial(_plain, mdp, reward))
        relative = TOLERANCE / max(1.0, float(np.abs(values).max()))
        for solver in (soft_value_iteration, soft_policy_iteration):
            ours, found = _seconds(partial(solver, mdp, reward, tolerance=relative))
            gap = float(np.abs(found.values - values).max())
            print(
                f"tabular, {name}, {solver.__name__}: {found.iterations} iterations, gap {gap:.1e}"
            )
            results[f"tabular/{name}_1e5/{solver.__name__}"] = _row(
                ours, plain, f"s to within {TOLERANCE:g}, against plain value iteration", gap=gap
            )
    results["tabular/memory_1e5"] = _memory("gridworld")
    results["tabular/backup_2500"] = _backup()
    return results
