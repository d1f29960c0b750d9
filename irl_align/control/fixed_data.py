"""What every learner from fixed data has around its verbs: data, evaluations, run directory.

    with fixed_data(config) as here:
        shown = here.demonstrations()
        return here.run(Verbs(...), learner, reward, codecs)

No step is taken in the environment but by evaluations, so a run ends with its rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional

from irl_align.control.config import DemonstrationConfig, ExperimentConfig
from irl_align.control.demonstrations.loading import Demonstrations
from irl_align.control.environments.making import make
from irl_align.control.evaluating import ReturnEvaluator
from irl_align.control.looping import Verbs, load_checked, run_directory, run_rounds
from irl_align.control.spaces import Spaces
from irl_align.control.transitions import Transitions, check_fits
from irl_align.core.checks import positive
from irl_align.core.errors import UserError
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Evaluator, PolicyT, RewardT
from irl_align.core.run import RunDirectory
from irl_align.core.trainer import Result

__all__ = ["FixedData", "FixedDataConfig", "fixed_data"]

# What may change when a run is taken up again.
FREE_KEYS = ("rounds", "run_dir")


@dataclass
class FixedDataConfig(ExperimentConfig):
    """What every learner from fixed data has."""

    takes_dataset: ClassVar[bool] = True  # False: it learns from demonstrations alone
    rounds: int = 1_000
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    # Transitions of anybody, D; None: the demonstrations alone. Their rewards are never read.
    dataset: Optional[DemonstrationConfig] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "rounds")
        if self.environment.absorbing:
            raise ValueError(
                "environment.absorbing is for learners that collect their own episodes; here an "
                "early end is a transition without a successor"
            )


@dataclass(frozen=True)
class FixedData:
    """The environment that policies are evaluated in, and the data; see `fixed_data`."""

    config: FixedDataConfig
    spaces: Spaces
    evaluator: ReturnEvaluator

    def demonstrations(self) -> Demonstrations:
        """D_E, loaded and checked. Raises UserError as the loader does."""
        return load_checked(self.config.demonstrations, self.spaces)

    def data(self, given: Transitions | None, shown: Demonstrations) -> Transitions:
        """D: what was given, what `config.dataset` names, or the demonstrations.

        Raises UserError when both are given, or the data do not fit the environment.
        """
        if given is not None and self.config.dataset is not None:
            raise UserError(
                f"transitions were given and dataset.path={self.config.dataset.path} as well; "
                "leave one of them out"
            )
        if given is not None:
            check_fits("the transitions given", given, self.spaces)
            return given
        return Transitions.of(
            (shown if self.config.dataset is None else self.others()).trajectories
        )

    def others(self) -> Demonstrations:
        """What `config.dataset` names, loaded and checked. Only for learners from the true reward:
        the object knows it. Raises UserError as the loader does."""
        assert self.config.dataset is not None
        return load_checked(self.config.dataset, self.spaces)

    def directory(self, keep: bool = True) -> AbstractContextManager[RunDirectory | None]:
        """The run's folder; see `run_directory`. For work before round 0."""
        return run_directory(self.config, keep, FREE_KEYS)

    def run(
        self,
        verbs: Verbs[PolicyT, RewardT],
        learner: PolicyT,
        reward: RewardT,
        codecs: Codecs,
        *,
        evaluator: Evaluator[PolicyT, RewardT],
        loggers: Sequence[Logger] = (),
        keep: bool = True,
        directory: RunDirectory | None = None,
        manifest: Callable[[int], Mapping[str, Any]] | None = None,
        **trainer: Any,
    ) -> Result[PolicyT, RewardT]:
        """Run all rounds, or go on with them.

        Args:
            keep: with False nothing is written.
            directory: the run's folder where it is open already; by default it is opened here.
            manifest: see BilevelTrainer.
            trainer: what else BilevelTrainer takes (`callbacks`).
        """
        with self.directory(keep) if directory is None else nullcontext(directory) as run:
            return run_rounds(
                self.config,
                verbs,
                learner,
                reward,
                codecs,
                evaluator=evaluator,
                rounds=self.config.rounds,
                run=run,
                manifest=manifest,
                loggers=loggers,
                **trainer,
            )


@contextmanager
def fixed_data(config: FixedDataConfig) -> Iterator[FixedData]:
    """The surroundings of `config`, closed at the end."""
    settings = config.environment
    evaluator = ReturnEvaluator(settings, config.evaluation, None)
    evaluator.rounds = config.rounds
    environment = make(settings.name, **settings.options())
    try:
        yield FixedData(config, Spaces.of(environment), evaluator)
    finally:
        environment.close()
        evaluator.close()
