"""What every control experiment does alike: load what an expert did, and run its rounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic

from irl_align.control.config import DemonstrationConfig, ExperimentConfig
from irl_align.control.demonstrations.loading import Demonstrations, load_demonstrations
from irl_align.control.spaces import Spaces
from irl_align.core.config import to_dict
from irl_align.core.protocols import (
    Codecs,
    Evaluator,
    PolicyLearner,
    PolicyT,
    RewardLearner,
    RewardT,
    Sampler,
)
from irl_align.core.run import RunDirectory
from irl_align.core.trainer import BilevelTrainer, Result


@dataclass(frozen=True)
class Verbs(Generic[PolicyT, RewardT]):
    """The phases of a round; one that is None is left out. Every round is evaluated."""

    policy: PolicyLearner[PolicyT, RewardT, Any]
    sampler: Sampler[PolicyT, Any] | None = None
    reward: RewardLearner[RewardT, Any] | None = None


def load_checked(wanted: DemonstrationConfig, spaces: Spaces) -> Demonstrations:
    """What `wanted` names, checked against `spaces`. Raises UserError as the loader does."""
    return load_demonstrations(
        wanted.path,
        environment=spaces,
        count=wanted.count,
        seed=wanted.seed,
        on_bad="drop" if wanted.on_bad == "drop" else "error",
    )


@contextmanager
def run_directory(
    config: ExperimentConfig, keep: bool, free_keys: Sequence[str]
) -> Iterator[RunDirectory | None]:
    """The run's folder, open for writing; None with `keep` False.

    `free_keys` are those that may change when a run is taken up again.
    """
    if not keep:
        yield None
        return
    with RunDirectory(config.run_dir).open(to_dict(config), free_keys=free_keys) as run:
        yield run


def run_rounds(
    config: ExperimentConfig,
    verbs: Verbs[PolicyT, RewardT],
    learner: PolicyT,
    reward: RewardT,
    codecs: Codecs,
    *,
    evaluator: Evaluator[PolicyT, RewardT],
    rounds: int,
    run: RunDirectory | None,
    **trainer: Any,
) -> Result[PolicyT, RewardT]:
    """Run all rounds, or go on with them. `trainer`: what else BilevelTrainer takes."""
    loop: BilevelTrainer[PolicyT, RewardT] = BilevelTrainer(
        verbs.sampler,
        verbs.reward,
        verbs.policy,
        evaluator,
        rounds=rounds,
        seed=config.seed,
        run=run,
        codecs=codecs,
        save_every=config.save_every,
        **trainer,
    )
    return loop.train(learner, reward)
