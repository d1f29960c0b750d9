"""The round loop of every system here: sample, fit the reward, improve the policy, evaluate.

Sampling first or improving first gives the same sequence once warm-started, so the order is a
rotation and one loop serves both ways of writing the algorithm. With a run directory every phase
is committed when it returns, and the same call after a crash goes on behind the last commit.
Without one everything stays in memory and a round costs microseconds.

Left out on purpose: devices, processes and batching, which belong to the phases.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, cast

from irl_align.core.callbacks import Callback
from irl_align.core.errors import naming
from irl_align.core.loggers import Logger
from irl_align.core.protocols import (
    Codec,
    Codecs,
    Evaluator,
    Metrics,
    Phase,
    PhaseContext,
    PolicyLearner,
    PolicyT,
    RewardLearner,
    RewardT,
    Sampler,
)
from irl_align.core.provenance import config_hash, versions
from irl_align.core.run import FOLDERS, RunDirectory
from irl_align.core.seeding import derive_seed, seed_everything

_NOTHING = contextlib.nullcontext()
LEARNING: tuple[Phase, ...] = ("sample", "reward", "policy")
DEFAULT_ORDER: tuple[Phase, ...] = (*LEARNING, "evaluate")


@dataclass(frozen=True)
class Result(Generic[PolicyT, RewardT]):
    """What a run ends with; ``history`` holds the metrics of every round, oldest first."""

    policy: PolicyT
    reward: RewardT
    history: list[dict[str, float]]


@dataclass
class _State:
    """The artefacts on their way through the phases."""

    policy: Any
    reward: Any
    samples: Any = None


class BilevelTrainer(Generic[PolicyT, RewardT]):
    """Runs rounds until ``rounds`` are done or ``early_stop(history)`` says so.

    Args:
        sampler, reward_learner, policy_learner, evaluator: the verbs; one that is None is left out
            of the round (SPIN fits no reward, cloning draws no samples).
        rounds: how many rounds in all, those of earlier starts included.
        seed: base of the phases' seeds (see ``derive_seed``).
        run: an open RunDirectory; None keeps nothing on disk.
        codecs: how policy, reward and samples live on disk; with a run, policy and reward need one
            when a phase makes them, and samples when a round starts with last round's.
        save_every: commit every k-th round and the last; a crash costs the rounds since. In the
            rounds between ``ctx.folder`` is None.
        order: a rotation of ("sample", "reward", "policy"), with "evaluate" anywhere.
        early_stop: asked before every round but the first, with the history.
        manifest: adds entries to a round's manifest (data hashes, the reference policy).
        seed_globals: seed Python's, numpy's and torch's global generators before every phase;
            by default when there is a run. In memory, draw from a generator made of ``ctx.seed``.

    Raises ValueError on arguments that cannot work together.
    """

    def __init__(
        self,
        sampler: Sampler[PolicyT, Any] | None,
        reward_learner: RewardLearner[RewardT, Any] | None,
        policy_learner: PolicyLearner[PolicyT, RewardT, Any] | None,
        evaluator: Evaluator[PolicyT, RewardT] | None = None,
        *,
        rounds: int,
        seed: int,
        run: RunDirectory | None = None,
        codecs: Codecs | None = None,
        save_every: int = 1,
        order: Sequence[Phase] = DEFAULT_ORDER,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        early_stop: Callable[[list[dict[str, float]]], bool] | None = None,
        manifest: Callable[[int], Mapping[str, Any]] | None = None,
        seed_globals: bool | None = None,
    ) -> None:
        if rounds < 0 or save_every < 1:
            raise ValueError(f"need rounds >= 0 and save_every >= 1, got {rounds=}, {save_every=}")
        self.rounds, self.seed, self.run, self.save_every = rounds, seed, run, save_every
        self.callbacks, self.loggers = tuple(callbacks), tuple(loggers)
        self.early_stop, self.extra_manifest = early_stop, manifest
        self.seed_globals = run is not None if seed_globals is None else seed_globals
        verbs: dict[Phase, Callable[[_State, PhaseContext], Metrics]] = {}
        if sampler is not None:
            verbs["sample"] = _sampling(sampler)
        if reward_learner is not None:
            verbs["reward"] = _fitting(reward_learner)
        if policy_learner is not None:
            verbs["policy"] = _improving(policy_learner)
        if evaluator is not None:
            verbs["evaluate"] = _evaluating(evaluator)
        _check_order(order)
        self._verbs = {phase: verbs[phase] for phase in order if phase in verbs}
        codecs = codecs or Codecs()
        self._codecs: dict[Phase, Codec[Any] | None] = {
            "sample": codecs.samples,
            "reward": codecs.reward,
            "policy": codecs.policy,
        }
        phases = list(self._verbs)
        self._carries_samples = "sample" in phases and any(
            phase in phases[: phases.index("sample")] for phase in ("reward", "policy")
        )
        if run is not None:
            needed = {"reward", "policy"} | ({"sample"} if self._carries_samples else set())
            for phase in needed & self._verbs.keys():
                if self._codecs[cast(Phase, phase)] is None:
                    raise ValueError(f"a run directory needs a codec for what {phase!r} makes")

    def train(self, policy: PolicyT, reward: RewardT) -> Result[PolicyT, RewardT]:
        """Run (or resume) all rounds from the initial artefacts.

        On a resume the arguments are used only for what no committed round has made. Raises
        UserError when a committed file that is needed is missing or damaged.
        """
        state = _State(policy, reward)
        history: list[dict[str, float]] = []
        if self.run is not None:
            history = self.run.history()
            # Partly done later rounds descend from rounds that are about to be done again.
            self.run.discard_unfinished(len(history) + 1)
            if history:
                self._restore(state, len(history) - 1)
        for number in range(len(history), self.rounds):
            if self.early_stop is not None and history and self.early_stop(history):
                break
            history.append(self._round(number, state, history))
        if self.run is not None and history and not self.run.round_done(len(history) - 1):
            self._commit_in_hindsight(len(history) - 1, state, history[-1])
        return Result(state.policy, state.reward, history)

    def _round(
        self, number: int, state: _State, history: list[dict[str, float]]
    ) -> dict[str, float]:
        keep = self.run is not None and (
            (number + 1) % self.save_every == 0 or number + 1 == self.rounds
        )
        for callback in self.callbacks:
            callback.on_round_start(number)
        metrics: dict[str, float] = {}
        for phase, verb in self._verbs.items():
            seed = derive_seed(self.seed, round=number, phase=phase)
            if keep and self._take_committed(number, phase, state, metrics):
                continue
            folder = self.run.begin_phase(number, phase) if keep and self.run else None
            ctx = PhaseContext(number, phase, seed, folder, history)
            if self.seed_globals:
                seed_everything(seed)
            start = time.perf_counter()
            with naming(folder) if folder is not None else _NOTHING:
                measured = {key: float(value) for key, value in verb(state, ctx).items()}
            seconds = time.perf_counter() - start
            if folder is not None:
                self._commit(ctx, state, measured, seconds)
            metrics.update(measured)
            metrics[f"time/{phase}"] = seconds
            for callback in self.callbacks:
                callback.on_phase_end(ctx, measured)
        if self.run is not None:
            self.run.append_metrics(number, metrics)
        for logger in self.loggers:
            logger.log(number, metrics, "round")
        if keep and self.run is not None:
            self.run.commit_round(number, metrics, self._manifest(number))
        for callback in self.callbacks:
            callback.on_round_end(number, state.policy, state.reward, metrics)
        return metrics

    # Disk

    def _take_committed(
        self, number: int, phase: Phase, state: _State, metrics: dict[str, float]
    ) -> bool:
        """Take a phase that an earlier start committed, instead of running it."""
        assert self.run is not None
        if not self.run.phase_done(number, phase):
            return False
        if phase == "sample" and self._codecs["sample"] is None:
            self.run.discard_phase(number, phase)
            return False
        self._load(number, phase, state)
        record = self.run.phase_record(number, phase)
        metrics.update(record["metrics"])
        metrics[f"time/{phase}"] = record["seconds"]
        return True

    def _restore(self, state: _State, number: int) -> None:
        """The artefacts that a committed round left behind."""
        for phase in self._verbs:
            if phase in ("reward", "policy") or (phase == "sample" and self._carries_samples):
                self._load(number, phase, state)

    def _load(self, number: int, phase: Phase, state: _State) -> None:
        assert self.run is not None
        self.run.verify_phase(number, phase)
        codec = self._codecs.get(phase)
        if codec is not None:
            setattr(state, _ATTRIBUTE[phase], codec.load(self.run.phase_folder(number, phase)))

    def _commit(self, ctx: PhaseContext, state: _State, metrics: Metrics, seconds: float) -> None:
        assert self.run is not None and ctx.folder is not None
        codec = self._codecs.get(ctx.phase)
        if codec is not None:
            with naming(ctx.folder):
                codec.save(getattr(state, _ATTRIBUTE[ctx.phase]), ctx.folder)
        final = self.run.commit_phase(ctx.round, ctx.phase, metrics, seconds, ctx.seed)
        if codec is not None and getattr(codec, "reload_after_save", False):
            setattr(state, _ATTRIBUTE[ctx.phase], codec.load(final))

    def _commit_in_hindsight(self, number: int, state: _State, metrics: dict[str, float]) -> None:
        """Keep a round that nobody knew to be the last (early stop between two saves)."""
        assert self.run is not None
        for phase in self._verbs:
            seed = derive_seed(self.seed, round=number, phase=phase)
            ctx = PhaseContext(number, phase, seed, self.run.begin_phase(number, phase), [])
            self._commit(ctx, state, {}, metrics[f"time/{phase}"])
        self.run.commit_round(number, metrics, self._manifest(number))

    def _manifest(self, number: int) -> dict[str, Any]:
        """Where a round came from: artefacts in and out, seeds, configuration, versions."""
        assert self.run is not None
        entries: dict[str, Any] = {"round": number}
        for phase in ("policy", "reward"):
            if phase in self._verbs:
                entries[f"{phase}_in"] = self._identity(number - 1, cast(Phase, phase))
                entries[f"{phase}_out"] = self._identity(number, cast(Phase, phase))
        if "sample" in self._verbs:
            entries["samples"] = self._identity(number, "sample")
        return {
            **entries,
            "seed": self.seed,
            "seeds": {p: derive_seed(self.seed, round=number, phase=p) for p in self._verbs},
            "config_hash": config_hash(self.run.config()),
            "versions": versions(),
            **(self.extra_manifest(number) if self.extra_manifest is not None else {}),
        }

    def _identity(self, number: int, phase: Phase) -> dict[str, str] | None:
        """Folder and content hash of an artefact; None when it is not kept on disk."""
        if number < 0:
            return {"folder": "initial"}
        if self.run is None or not self.run.phase_done(number, phase):
            return None
        files = self.run.phase_record(number, phase)["files"]
        folder = self.run.phase_folder(number, phase).relative_to(self.run.path)
        return {"folder": folder.as_posix(), "sha256": config_hash(files)}


_ATTRIBUTE: dict[Phase, str] = {"sample": "samples", "reward": "reward", "policy": "policy"}


def _sampling(sampler: Sampler[Any, Any]) -> Callable[[_State, PhaseContext], Metrics]:
    def run(state: _State, ctx: PhaseContext) -> Metrics:
        state.samples, metrics = sampler.sample(state.policy, ctx)
        return metrics

    return run


def _fitting(learner: RewardLearner[Any, Any]) -> Callable[[_State, PhaseContext], Metrics]:
    def run(state: _State, ctx: PhaseContext) -> Metrics:
        state.reward, metrics = learner.fit(state.reward, state.samples, ctx)
        return metrics

    return run


def _improving(
    learner: PolicyLearner[Any, Any, Any],
) -> Callable[[_State, PhaseContext], Metrics]:
    def run(state: _State, ctx: PhaseContext) -> Metrics:
        state.policy, metrics = learner.improve(state.policy, state.reward, state.samples, ctx)
        return metrics

    return run


def _evaluating(evaluator: Evaluator[Any, Any]) -> Callable[[_State, PhaseContext], Metrics]:
    def run(state: _State, ctx: PhaseContext) -> Metrics:
        return evaluator.evaluate(state.policy, state.reward, ctx)

    return run


def _check_order(order: Sequence[Phase]) -> None:
    unknown = [phase for phase in order if phase not in FOLDERS]
    learning = tuple(phase for phase in order if phase != "evaluate")
    rotations = [LEARNING[i:] + LEARNING[:i] for i in range(len(LEARNING))]
    if unknown or learning not in rotations or len(order) != len(set(order)):
        raise ValueError(
            f'order must be a rotation of ("sample", "reward", "policy") with at most one '
            f'"evaluate", got {tuple(order)}'
        )
