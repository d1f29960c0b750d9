"""Our online ML-IRL on Pendulum against imitation's AIRL, from the same ten demonstrations.

AIRL's generator is Stable-Baselines3's SAC of the same sizes and schedule: with the PPO of its
examples it needs many times the steps. The ratio is of CPU seconds for 1,000 environment steps,
because both need about as many; returns at the end, on the same starts, and the steps and seconds
until the return stays at the level stand beside it. Evaluations are not on the clock, and the
first 2,000 steps, with the compilation, are not in the rate.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from eval.bench.control.curve import Point, reached
from eval.bench.control.turns import in_turn, ours, peer, row

FOLDER = Path(".bench/pendulum")
LEVEL = -200.0  # the expert's return is about -175 on these starts
_STEPS, _EVERY, _EPISODES = 16_000, 2_000, 20
_TURNS = 3


def run() -> dict[str, Any]:
    from irl_align.control.config import EvaluationConfig
    from irl_align.control.rollouts import episode_seed

    starts = [episode_seed(EvaluationConfig().seed, number) for number in range(_EPISODES)]
    work = {"demonstrations": str(_demonstrations()), "steps": _STEPS, "every": _EVERY}
    found = in_turn(
        lambda turn: ours("ml_irl", **work, episodes=_EPISODES, seed=turn),
        lambda turn: peer("airl", **work, starts=starts, seed=turn),
        _TURNS,
    )
    more: dict[str, Any] = {}
    for who, runs in found.items():
        curves = [[Point(*point) for point in run["curve"]] for run in runs]
        last = [curve[-1].mean_return for curve in curves]
        more[f"{who}_returns"] = last
        more[f"{who}_reached"] = [reached(curve, LEVEL) for curve in curves]
        print(
            f"ml_irl_pendulum, {who}: return after {_STEPS} steps, median "
            f"{statistics.median(last):.1f} of {[round(value) for value in last]}; "
            f"at {LEVEL:g} to stay: {[_told(at) for at in more[f'{who}_reached']]}"
        )
    unit = "CPU s for 1,000 environment steps, Pendulum, against imitation's AIRL with SAC"
    return {"ml_irl_pendulum": row(found, unit, **more)}


def _told(at: dict[str, float] | None) -> str:
    return "never" if at is None else f"{at['steps']:.0f} steps, CPU {at['cpu']:.1f} s"


def _demonstrations() -> Path:
    """Ten episodes of the expert of `configs/control/pendulum_expert.yaml`, trained once."""
    path = FOLDER / "demonstrations.npz"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                *(sys.executable, "recipes/collect_expert.py"),
                *("configs/control/pendulum_expert.yaml", f"run_dir={FOLDER / 'run'}"),
                f"demonstrations={path}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return path
