"""Online ML-IRL with the preset of `configs/control/pendulum.yaml`, and its curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.bench.control.curve import Point, rates
from eval.bench.control.stopwatch import Stopwatch, arguments, report
from irl_align.control.config import MLIRLConfig
from irl_align.control.evaluating import ReturnEvaluator
from irl_align.control.ml_irl import ml_irl
from irl_align.core.callbacks import Callback
from irl_align.core.config import load_config
from irl_align.core.protocols import Metrics


class CurveOf(Callback):
    """Stops the watch for an evaluation every `every` steps."""

    def __init__(self, watch: Stopwatch, evaluator: ReturnEvaluator, every: int) -> None:
        self.watch, self.evaluator, self.every = watch, evaluator, every
        self.points: list[Point] = []

    def on_round_end(self, round: int, policy: Any, reward: Any, metrics: Metrics) -> None:
        if policy.steps < self.every * (len(self.points) + 1):
            return
        self.watch.__exit__(None, None, None)
        found = self.evaluator.roll_out(policy).true_rewards.returns().mean()
        self.points.append(Point(policy.steps, self.watch.cpu, self.watch.wall, float(found)))
        self.watch.__enter__()


def main(demonstrations: str, steps: int, every: int, episodes: int, seed: int) -> None:
    config = load_config(
        MLIRLConfig,
        Path("configs/control/pendulum.yaml"),
        [
            f"demonstrations.path={demonstrations}",
            f"environment_steps={steps}",
            f"seed={seed}",
            f"evaluation.episodes={episodes}",
            "evaluation.every=0",
            "sac.compile=always",
        ],
    )
    evaluator = ReturnEvaluator(config.environment, config.evaluation, steps)
    watch = Stopwatch()
    curve = CurveOf(watch, evaluator, every)
    with watch:
        ml_irl(config, keep=False, callbacks=[curve])
    report(**rates(curve.points), curve=curve.points)


if __name__ == "__main__":
    main(**arguments())
