"""What every experiment on SAC has around its verbs: environment, learner, run directory, budget.

with world(config) as here:
    learner = here.learner()
    return here.run(Verbs(policy=...), learner, None, codecs)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from irl_align.control.absorbing import with_flags
from irl_align.control.config import ControlConfig, DemonstrationConfig
from irl_align.control.demonstrations.loading import Demonstrations
from irl_align.control.environments.making import make
from irl_align.control.evaluating import ReturnEvaluator, spent
from irl_align.control.looping import Verbs, load_checked, run_directory, run_rounds
from irl_align.control.rollouts import Collector
from irl_align.control.sac.learner import ForgetReplay, Learner
from irl_align.control.sac.step import TEMPORAL_DIFFERENCE, CriticLoss
from irl_align.control.spaces import Spaces
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, RewardT
from irl_align.core.run import RunDirectory
from irl_align.core.trainer import Result

# What may change when a run is taken up again.
FREE_KEYS = ("environment_steps", "run_dir")


@dataclass(frozen=True)
class World:
    """The environment of an experiment and what belongs to it; see `world`."""

    config: ControlConfig
    environment: Any
    collector: Collector
    evaluator: ReturnEvaluator

    @property
    def spaces(self) -> Spaces:
        return self.collector.spaces

    def learner(self, *, remember: int = 0, critics: CriticLoss = TEMPORAL_DIFFERENCE) -> Learner:
        """A new learner that keeps its last `remember` episodes; `critics` is their loss."""
        return Learner(
            self.spaces,
            self.config.sac,
            seed=self.config.seed,
            absorbing=self.config.environment.absorbing,
            remember=remember,
            planned_updates=self.config.environment_steps,
            critics=critics,
        )

    def demonstrations(self, wanted: DemonstrationConfig) -> Demonstrations:
        """Loaded and checked against this environment; in absorbing ones they get their flag.

        Raises UserError as the loader does.
        """
        plain, absorbing = self.spaces, self.config.environment.absorbing
        if absorbing:
            plain = replace(plain, observation_dim=plain.observation_dim - 1)
        found = load_checked(wanted, plain)
        if absorbing:
            found = replace(found, trajectories=with_flags(found.trajectories))
        return found

    def directory(
        self, keep: bool = True, free_keys: Sequence[str] = FREE_KEYS
    ) -> AbstractContextManager[RunDirectory | None]:
        """The run's folder; see `run_directory`. For work before round 0."""
        return run_directory(self.config, keep, free_keys)

    def run(
        self,
        verbs: Verbs[Learner, RewardT],
        learner: Learner,
        reward: RewardT,
        codecs: Codecs,
        *,
        loggers: Sequence[Logger] = (),
        keep: bool = True,
        directory: RunDirectory | None = None,
        rounds: int | None = None,
        manifest: Callable[[int], Mapping[str, Any]] | None = None,
        **trainer: Any,
    ) -> Result[Learner, RewardT]:
        """Run rounds, or go on with them, until the environment steps are used up.

        Args:
            keep: with False nothing is written.
            directory: the run's folder where it is open already; by default it is opened here.
            rounds: end after so many, too; for learners that use no environment steps.
            manifest: see BilevelTrainer.
            trainer: what else BilevelTrainer takes (`callbacks`).
        """
        config = self.config
        self.evaluator.rounds = rounds
        callbacks = [*trainer.pop("callbacks", ())]
        opened = self.directory(keep) if directory is None else nullcontext(directory)
        with opened as run:
            if run is not None:
                callbacks.append(ForgetReplay(run))
            return run_rounds(
                config,
                verbs,
                learner,
                reward,
                codecs,
                evaluator=self.evaluator,
                # A round of all others has a step at least.
                rounds=config.environment_steps if rounds is None else rounds,
                run=run,
                callbacks=callbacks,
                early_stop=lambda history: spent(config.environment_steps, history),
                manifest=manifest,
                loggers=loggers,
                **trainer,
            )


@contextmanager
def world(config: ControlConfig, *, wrapped: Callable[[Any], Any] | None = None) -> Iterator[World]:
    """The world of `config`, closed at the end. `wrapped` is put around the environment that
    learning happens in; evaluations have environments of their own."""
    settings = config.environment
    environment = make(settings.name, **settings.options(training=True))
    evaluator = ReturnEvaluator(settings, config.evaluation, config.environment_steps)
    try:
        inner = wrapped(environment) if wrapped is not None else environment
        yield World(config, inner, Collector(inner), evaluator)
    finally:
        environment.close()
        evaluator.close()
