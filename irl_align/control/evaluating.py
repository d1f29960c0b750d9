"""How good a policy really is: its true return, for reports only."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from irl_align.control.config import EnvironmentConfig, EvaluationConfig
from irl_align.control.environments.making import make
from irl_align.control.policies import Policy
from irl_align.control.rollouts import Collector, Rollouts
from irl_align.control.scores import Reference
from irl_align.core.loggers import Logger, Progress
from irl_align.core.protocols import Metrics, PhaseContext

# Environments that step side by side, so that one call of the policy serves all.
_SIDE_BY_SIDE = 10


class Acting(Protocol):
    """How a learner acts when it is not learning."""

    def deterministic(self) -> Policy: ...

    def stochastic(self, seed: int, /) -> Policy: ...


class Agent(Protocol):
    """The part of a learner that an evaluation sees."""

    @property
    def acting(self) -> Acting: ...

    @property
    def steps(self) -> int:
        """Environment steps that it has learned from."""
        ...


class ReturnEvaluator:
    """Runs episodes from the same starts in every evaluation, in environments of its own.

    Metrics of every round: `steps/environment` (what learning has used so far) and
    `steps/evaluation` (what evaluations have used so far, counted apart); of every
    `config.every`-th one and of the round that spends the `budget` or is the last, too:
    `eval/return` (mean true return, undiscounted), `eval/return_std` (over the episodes),
    `eval/length`, and with a `reference` `eval/score`.

    Args:
        budget: of environment steps; None for learners that take none.

    Attributes:
        rounds: how many there are; None when only the budget ends them.
        reference: what a normalised score is measured against; None for none.
    """

    def __init__(
        self, environment: EnvironmentConfig, config: EvaluationConfig, budget: int | None
    ) -> None:
        self.config, self.budget = config, budget
        self.rounds: int | None = None
        self.reference: Reference | None = None
        side_by_side = min(config.episodes, _SIDE_BY_SIDE)
        self._environments = [
            make(environment.name, **environment.options()) for _ in range(side_by_side)
        ]

    def evaluate(self, policy: Agent, reward: object, ctx: PhaseContext, /) -> Metrics:
        used = ctx.history[-1]["steps/evaluation"] if ctx.history else 0.0
        found: dict[str, float] = {"steps/environment": policy.steps}
        if self.due(ctx.round, policy.steps):
            rollouts = self.roll_out(policy)
            returns = rollouts.true_rewards.returns()
            found["eval/return"] = float(returns.mean())
            found["eval/return_std"] = float(returns.std())
            found["eval/length"] = float(np.mean(rollouts.trajectories.lengths))
            if self.reference is not None:
                found["eval/score"] = self.reference.score(found["eval/return"])
            used += rollouts.trajectories.total_steps
        return {**found, "steps/evaluation": used}

    def due(self, round: int, steps: int) -> bool:
        """Whether episodes are run in this round, after which `steps` of the budget are used."""
        every, done = self.config.every, round + 1
        spent = self.budget is not None and steps >= self.budget
        return every > 0 and (done % every == 0 or done == self.rounds or spent)

    def roll_out(self, policy: Agent) -> Rollouts:
        """The episodes themselves."""
        config = self.config
        acting = policy.acting
        act = acting.deterministic() if config.deterministic else acting.stochastic(config.seed)
        return Collector(self._environments).collect(act, config.episodes, seed=config.seed)

    def close(self) -> None:
        for environment in self._environments:
            environment.close()


def spent(budget: int, history: list[dict[str, float]]) -> bool:
    """Whether learning has used `budget` environment steps: what ends a run."""
    return bool(history) and history[-1]["steps/environment"] >= budget


class OnlyEvaluations:
    """Hands on the rounds in which something was evaluated: others are a fraction of a second. Of
    what is no round (epochs of a world model's fit) every tenth step."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def log(self, step: int, metrics: Mapping[str, float], kind: str = "round") -> None:
        if "eval/return" in metrics if kind == "round" else step % 10 == 0:
            self._logger.log(step, metrics, kind)

    def progress(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Progress]:
        return self._logger.progress(description, total)
