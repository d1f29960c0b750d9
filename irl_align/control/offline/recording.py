"""Data sets of our own, by D4RL's recipe (Fu et al. 2020, app. C), from one training run of SAC.

    medium          steps of the policy when it first returned about a third of the expert's return
    medium-replay   all that it had seen until then
    medium-expert   medium, and as many steps of the last policy

Policies act stochastically. A step's true reward is kept with it, for reports and yardsticks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irl_align.control.buffers import Layout
from irl_align.control.config import ExpertConfig
from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.environments.making import make
from irl_align.control.networks.numpy_actor import load_actor
from irl_align.control.policies import Policy, RandomPolicy
from irl_align.control.rollouts import Collector
from irl_align.control.sac.learner import ACTOR, REPLAY, STATE
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Floats, Trajectories, Trajectory
from irl_align.control.true_rewards import TrueRewards
from irl_align.core.errors import UserError
from irl_align.core.files import sha256_file
from irl_align.core.run import RunDirectory
from irl_align.core.seeding import derive_seed

KINDS = ("medium", "medium-replay", "medium-expert")
REWARDS = "true_rewards.pt"  # as `sac.expert` writes it
# Episodes that step side by side, with one call of the policy for all of them.
_SIDE_BY_SIDE = 10


@dataclass(frozen=True)
class Recorded:
    """Episodes with the true rewards of their steps."""

    trajectories: list[Trajectory]
    rewards: list[Floats]

    @property
    def steps(self) -> int:
        return sum(map(len, self.trajectories))

    def cut(self, steps: int) -> Recorded:
        """The first `steps` steps; the episode that this falls into counts as cut there."""
        trajectories: list[Trajectory] = []
        rewards: list[Floats] = []
        left = steps
        for trajectory, paid in zip(self.trajectories, self.rewards, strict=True):
            if left <= 0:
                break
            if len(trajectory) > left:
                trajectory = Trajectory(
                    trajectory.observations[: left + 1], trajectory.actions[:left], False, True
                )
            trajectories.append(trajectory)
            rewards.append(paid[:left])
            left -= len(trajectory)
        return Recorded(trajectories, rewards)

    def __add__(self, other: Recorded) -> Recorded:
        return Recorded(self.trajectories + other.trajectories, self.rewards + other.rewards)


@dataclass(frozen=True)
class Medium:
    """The round whose policy is the medium one, and the returns that it was chosen by."""

    round: int
    mean_return: float
    expert: float
    random: float


def record(
    policy: Policy, config: ExpertConfig, steps: int, *, seed: int, episodes: int | None = None
) -> Recorded:
    """`steps` steps of a policy in the environment of `config`, or `episodes` whole episodes."""
    settings = config.environment
    environments = [make(settings.name, **settings.options()) for _ in range(_SIDE_BY_SIDE)]
    trajectories: list[Trajectory] = []
    rewards: list[Floats] = []
    try:
        collector = Collector(environments)
        number = 0
        while collector.steps < steps if episodes is None else len(rewards) < episodes:
            group = episodes or _SIDE_BY_SIDE
            part = collector.collect(
                policy, group, seed=derive_seed(seed, round=number, phase="record")
            )
            trajectories += part.trajectories
            rewards += [part.true_rewards.of(k).astype(np.float32) for k in range(group)]
            number += 1
    finally:
        for environment in environments:
            environment.close()
    found = Recorded(trajectories, rewards)
    return found.cut(steps) if episodes is None else found


def choose_medium(config: ExpertConfig, share: float, *, episodes: int) -> Medium:
    """The first committed round whose policy returns at least random + `share` (expert - random).

    The expert is the last round's. That a data set is chosen by the true return is part of what it
    is; no learner is. Raises UserError when the run is not finished or keeps too few rounds.
    """
    run = RunDirectory.read(config.run_dir)
    committed = run.committed_rounds()
    if len(committed) < 2:
        raise UserError(
            f"{run.path}: {len(committed)} committed rounds; a medium policy is one of several: "
            "let the run go on, or lower save_every"
        )

    def mean_return(policy: Policy) -> float:
        found = record(policy, config, 0, seed=config.seed, episodes=episodes)
        return float(np.mean([paid.sum() for paid in found.rewards]))

    def of(round: int) -> float:
        return mean_return(_actor(run, round, config.seed))

    environment = make(config.environment.name, **config.environment.options())
    spaces = Collector(environment).spaces
    environment.close()
    random, expert = mean_return(RandomPolicy(spaces, config.seed)), of(committed[-1])
    if not expert > random:
        raise UserError(
            f"{run.path}: its last policy returns {expert:.1f}, a random one {random:.1f}; train "
            "it for longer (environment_steps)"
        )
    for round in committed:
        found = of(round)
        if found >= random + share * (expert - random):
            return Medium(round, found, expert, random)
    raise AssertionError("the last round is its own expert")


def most_steps(config: ExpertConfig) -> int:
    """The steps that a run of `config` has at most: its last episode is not cut short."""
    environment = make(config.environment.name, **config.environment.options())
    try:
        limit = Spaces.of(environment).max_episode_steps
    finally:
        environment.close()
    return config.environment_steps + (limit or 1) - 1


def replayed(config: ExpertConfig, round: int) -> Recorded:
    """All that the run had seen at the end of `round`, in order, from the replay of its last round.

    Raises UserError when the replay is gone, or too small to have kept all of it.
    """
    if config.environment.absorbing:
        raise UserError("environment.absorbing=true: a data set has no absorbing flag; set it off")
    run = RunDirectory.read(config.run_dir)
    last = run.phase_folder(run.committed_rounds()[-1], "policy")
    path = last / REPLAY
    try:
        kept = torch.load(path, weights_only=True)
        paid = torch.load(last / REWARDS, weights_only=True).numpy()
        steps = int(_state(run, round)["steps"])
        total = int(_state(run, run.committed_rounds()[-1])["steps"])
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: not the replay of a run on the true reward: {error}") from error
    if total > kept["capacity"]:
        raise UserError(
            f"{path}: keeps the last {kept['capacity']} of {total} steps, so the first ones are "
            "gone; train with a larger sac.capacity"
        )
    rows = kept["rows"][:steps].numpy()
    return split_rows(rows, paid[:steps], Layout(*kept["layout"]))


def split_rows(rows: Floats, rewards: Floats, layout: Layout) -> Recorded:
    """Episodes of packed rows [M, width] in the order in which they happened.

    One ends where it terminated, and where the next row does not begin at the state that it led to.
    """
    o, a = layout
    following = rows[:, o + a : -1]
    ends = rows[:, -1] > 0
    ends[:-1] |= (following[:-1] != rows[1:, :o]).any(axis=1)
    ends[-1] = True
    stops = np.nonzero(ends)[0] + 1
    spans = list(zip(np.concatenate([[0], stops[:-1]]), stops, strict=True))
    return Recorded(
        [
            Trajectory(
                np.concatenate([rows[start:stop, :o], following[stop - 1 : stop]]),
                rows[start:stop, o : o + a],
                bool(rows[stop - 1, -1]),
                not rows[stop - 1, -1],
            )
            for start, stop in spans
        ],
        [rewards[start:stop] for start, stop in spans],
    )


def make_datasets(
    config: ExpertConfig,
    folder: Path,
    *,
    steps: int,
    share: float = 1 / 3,
    episodes: int = 10,
    kinds: tuple[str, ...] = KINDS,
) -> Iterator[tuple[Path, Recorded]]:
    """Write `folder`/KIND.npz for each kind, from the finished run of `config`.

    Args:
        steps: of medium, and of each half of medium-expert.
        share: of the way from random to expert at which a policy is medium.
        episodes: that a policy is judged by.

    Each file says what it was made of: run, round, policy (hash of its file), returns, seed.
    """
    run = RunDirectory.read(config.run_dir)
    medium = choose_medium(config, share, episodes=episodes)
    last = run.committed_rounds()[-1]
    folder.mkdir(parents=True, exist_ok=True)
    environment = make(config.environment.name, **config.environment.options())
    identifier = Collector(environment).spaces.environment
    environment.close()
    parts: dict[str, Recorded] = {}
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}")
        if kind == "medium-replay":
            found = replayed(config, medium.round)
        else:
            if "medium" not in parts:
                parts["medium"] = _recorded(run, medium.round, config, steps, "medium")
            found = parts["medium"]
            if kind == "medium-expert":
                found = found + _recorded(run, last, config, steps, "expert")
        path = folder / f"{kind}.npz"
        save_demonstrations(
            path,
            Trajectories(found.trajectories),
            TrueRewards(found.rewards),
            environment=identifier,
            options=config.environment.options(),
            kind=kind,
            run=config.run_dir,
            seed=config.seed,
            rounds={"medium": medium.round, "expert": last},
            policies={
                "medium": sha256_file(_actor_file(run, medium.round)),
                "expert": sha256_file(_actor_file(run, last)),
            },
            returns={
                "medium": medium.mean_return,
                "expert": medium.expert,
                "random": medium.random,
            },
            share=share,
        )
        yield path, found


def _recorded(
    run: RunDirectory, round: int, config: ExpertConfig, steps: int, name: str
) -> Recorded:
    seed = derive_seed(config.seed, round=round, phase=name)
    return record(_actor(run, round, seed), config, steps, seed=seed)


def _actor_file(run: RunDirectory, round: int) -> Path:
    return run.phase_folder(round, "policy") / ACTOR


def _actor(run: RunDirectory, round: int, seed: int) -> Policy:
    return load_actor(_actor_file(run, round)).stochastic(seed)


def _state(run: RunDirectory, round: int) -> dict[str, Any]:
    return dict(torch.load(run.phase_folder(round, "policy") / STATE, weights_only=True))
