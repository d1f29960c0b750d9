"""The four verbs of a round, and how their artefacts live on disk.

A round = sample from pi_t -> fit r_{t+1} -> improve pi_{t+1} under r_{t+1} -> evaluate. The types
are generic over the artefacts: core carries policies, rewards and samples from phase to phase and
never looks into them. State that must survive a restart (an optimiser, a replay buffer) belongs
into the artefact; randomness comes from ``ctx.seed``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

Metrics = Mapping[str, float]
Phase = Literal["sample", "reward", "policy", "evaluate"]

PolicyT = TypeVar("PolicyT")
RewardT = TypeVar("RewardT")
SamplesT = TypeVar("SamplesT")
T = TypeVar("T")
Policy_contra = TypeVar("Policy_contra", contravariant=True)
Reward_contra = TypeVar("Reward_contra", contravariant=True)
Samples_contra = TypeVar("Samples_contra", contravariant=True)
Samples_co = TypeVar("Samples_co", covariant=True)


@dataclass(frozen=True, slots=True)
class PhaseContext:
    """Where in the run a phase stands.

    Attributes:
        round: 0-based.
        phase: which verb is called.
        seed: the phase's own seed, ``derive_seed(base, round=round, phase=phase)``; ranks derive
            theirs from it.
        folder: where this phase may write (it is committed when the phase returns); None in a
            round that is not kept on disk.
        history: metrics of the rounds before this one, oldest first. Read only.
    """

    round: int
    phase: Phase
    seed: int
    folder: Path | None
    history: Sequence[Metrics]


class Sampler(Protocol[Policy_contra, Samples_co]):
    """Draws from the policy: completions, rollouts or an exact occupancy."""

    def sample(self, policy: Policy_contra, ctx: PhaseContext, /) -> tuple[Samples_co, Metrics]: ...


class RewardLearner(Protocol[RewardT, Samples_contra]):
    """The outer, slow step: fits r_{t+1} on demonstrations against the samples.

    ``samples`` is None when the run has no sampler, and in round 0 of an order that fits first.
    """

    def fit(
        self, reward: RewardT, samples: Samples_contra, ctx: PhaseContext, /
    ) -> tuple[RewardT, Metrics]: ...


class PolicyLearner(Protocol[PolicyT, Reward_contra, Samples_contra]):
    """The inner, fast step: improves the policy under the reward.

    ``samples`` is None when the run has no sampler, and in round 0 of an order that improves first.
    """

    def improve(
        self, policy: PolicyT, reward: Reward_contra, samples: Samples_contra, ctx: PhaseContext, /
    ) -> tuple[PolicyT, Metrics]: ...


class Evaluator(Protocol[Policy_contra, Reward_contra]):
    """Measures a round. It may write files into ``ctx.folder``, but changes nothing."""

    def evaluate(
        self, policy: Policy_contra, reward: Reward_contra, ctx: PhaseContext, /
    ) -> Metrics: ...


class Codec(Protocol[T]):
    """How an artefact lives on disk. ``save`` may find the phase's own files in the folder.

    A codec whose values point into the folder sets ``reload_after_save = True``: the folder moves
    to its final name at the commit, so the trainer loads the value again from there.
    """

    def save(self, value: T, folder: Path, /) -> None: ...

    def load(self, folder: Path, /) -> T: ...


class FolderCodec:
    """For phases that write their own files: the value *is* the phase's committed folder.

    Such a phase returns ``ctx.folder``; the trainer hands on the folder under its final name.
    """

    reload_after_save = True

    def save(self, value: Path, folder: Path, /) -> None:
        if value != folder:
            raise ValueError(f"the phase returned {value} but was to write into {folder}")

    def load(self, folder: Path, /) -> Path:
        return folder


@dataclass(frozen=True)
class Codecs:
    """The codecs of a run. Samples without one are drawn again after a crash in their round."""

    policy: Codec[Any] | None = None
    reward: Codec[Any] | None = None
    samples: Codec[Any] | None = None
