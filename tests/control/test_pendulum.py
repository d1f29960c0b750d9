"""The preset of the quick benchmark, on demonstrations of a controller by hand."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from irl_align.control.config import MLIRLConfig
from irl_align.control.experts import record_demonstrations
from irl_align.control.ml_irl import ml_irl
from irl_align.core.config import load_config

ROOT = Path(__file__).parents[2]


def swing_up(observation):
    """Pump energy until the pendulum gets up, then hold it: theta'' = 15 sin(theta) + 3 u."""
    cosine, sine, speed = observation
    energy = speed**2 / 2 + 15 * (cosine - 1)  # 0 at rest upright
    holding = cosine > 0.85 and abs(energy) < 8
    torque = -12 * sine - 3 * speed if holding else -2 * np.sign(energy) * np.sign(speed or 1.0)
    return np.clip([torque], -2, 2).astype(np.float32)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    path = tmp_path_factory.mktemp("demonstrations") / "pendulum.npz"
    rollouts = record_demonstrations(swing_up, "Pendulum", 10, seed=1, path=path)
    return path, rollouts.true_rewards.returns().mean()


def test_ml_irl_learns_the_task_from_ten_demonstrations(demonstrations):
    """Uniform actions have about -1,200; whoever gets up and stays there has more than -400."""
    path, expert = demonstrations
    assert expert > -300
    ends = []
    for seed in range(3):
        config = load_config(
            MLIRLConfig,
            ROOT / "configs/control/pendulum.yaml",
            [
                f"seed={seed}",
                f"demonstrations.path={path}",
                "environment_steps=14_000",
                "sac.update_every=1",  # compiles in a third of the time
                "evaluation.every=0",
            ],
        )
        result = ml_irl(config, keep=False)
        acting = result.policy.acting.deterministic()
        found = record_demonstrations(acting, "Pendulum", 20, seed=2)
        ends.append(found.true_rewards.returns().mean())
    assert statistics.median(ends) > -400, ends
