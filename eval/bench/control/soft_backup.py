"""A soft backup at 400 states: ours on a sparse kernel against imitation's `mce_partition_fh`.

Both plan 100 steps of one gridworld of 20 x 20 with a random reward of states, and must find the
same values. Theirs multiplies with the dense table [S, A, S], keeps every step's values and makes
the policy of each from them; that is what its users wait for, and on the clock.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eval.bench.control.turns import in_turn, ours, peer, row

_PROBLEM = Path(".bench/gridworld_400.npz")
_SIDE, _GAMMA, _HORIZON = 20, 0.95, 100
_REPEATS = {"ours": 100, "peer": 10}
_TURNS = 5


def run() -> dict[str, Any]:
    from irl_align.tabular.gridworld import gridworld

    mdp = gridworld(_SIDE, _SIDE, gamma=_GAMMA, dense=True).mdp
    _PROBLEM.parent.mkdir(exist_ok=True)
    np.savez(
        _PROBLEM,
        transitions=mdp.kernel.probabilities,  # type: ignore[attr-defined]
        reward=np.random.default_rng(0).normal(size=mdp.states),
        gamma=_GAMMA,
    )
    work: dict[str, Any] = {"problem": str(_PROBLEM), "horizon": _HORIZON}
    found = in_turn(
        lambda turn: ours("soft_backup", **work, side=_SIDE, repeats=_REPEATS["ours"]),
        lambda turn: peer("soft_backup", **work, repeats=_REPEATS["peer"]),
        _TURNS,
    )
    values = {who: [run.pop("values") for run in runs].pop() for who, runs in found.items()}
    gap = float(np.abs(np.subtract(values["ours"], values["peer"])).max())
    print(f"soft_backup_400: values differ by at most {gap:.1e}")
    unit = "CPU ms a soft backup, 400 states, against imitation's mce_partition_fh"
    return {"soft_backup_400": row(found, unit, gap=gap)}
