"""Whole episodes from any policy, every step of the environment counted.

One loop serves training (with a callback after every step), the samples of a round, evaluation and
the recording of experts. Episode k of a call starts from a seed made of the call's seed and k, so
it does not depend on what ran before, and nothing of an environment need be saved between calls.

Several environments step in turn with one call of the policy for all of them: worth it for policies
that are slow to call. Processes are left out: here they were slower than one environment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, SupportsFloat

import numpy as np

from irl_align.control.policies import Policy
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Floats, Trajectories, Trajectory, Transition
from irl_align.control.true_rewards import TrueRewards


class Environment(Protocol):
    """The part of gymnasium.Env that is used."""

    def reset(self, *, seed: int | None = None) -> tuple[Any, dict[str, Any]]: ...

    def step(self, action: Any, /) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]: ...


@dataclass(frozen=True)
class Rollouts:
    """What a policy did. Learners get `trajectories`; `true_rewards` are for reports."""

    trajectories: Trajectories
    true_rewards: TrueRewards


@dataclass
class _Running:
    """An episode on its way through environment number `slot`."""

    number: int
    slot: int
    observations: list[Floats]
    actions: list[Floats]
    rewards: list[float]
    terminated: bool = False
    truncated: bool = False


class Collector:
    """Runs whole episodes in one environment, or in several side by side.

    Args:
        environments: one, or a list of the same kind. With one, the policy is called with an
            observation [O]; with a list, also of one, with a batch [B, O], B <= their number.
        horizon: cut episodes after so many steps (as truncated); needed where the environment has
            no time limit.

    Attributes:
        steps: environment steps that were ever taken, of unfinished episodes too. Set it when a
            run goes on.
    """

    def __init__(self, environments: Any, *, horizon: int | None = None, steps: int = 0) -> None:
        self._batched = isinstance(environments, Sequence)
        self._environments: list[Environment] = (
            list(environments) if self._batched else [environments]
        )
        if not self._environments:
            raise ValueError("no environment")
        self.spaces = Spaces.of(self._environments[0])
        if horizon is None and self.spaces.max_episode_steps is None:
            raise ValueError(
                f"{self.spaces.environment} has no time limit: give a horizon, or an episode may "
                "never end"
            )
        self.horizon = horizon
        self.steps = steps

    def collect(
        self,
        policy: Policy,
        episodes: int,
        *,
        seed: int,
        on_step: Callable[[Transition], None] | None = None,
    ) -> Rollouts:
        """`episodes` whole episodes, in the order of their starts.

        All that start are finished, so short episodes are not favoured. The same seed, policy
        state and number of environments give the same result. `on_step` sees each transition
        right after it happened (learning may change the policy in place there).

        Raises ValueError when the policy returns an action that is not finite or misshapen, or the
        simulation an observation that is not finite, naming episode and step.
        """
        if episodes < 1:
            raise ValueError(f"episodes={episodes}: collect 1 or more")
        finished: list[_Running | None] = [None] * episodes
        started = min(episodes, len(self._environments))
        running = [self._start(number, number, seed) for number in range(started)]
        while running:
            for episode, action in zip(running, self._act(policy, running), strict=True):
                transition = self._step(episode, action)
                if on_step is not None:
                    on_step(transition)
            still: list[_Running] = []
            for episode in running:
                if not (episode.terminated or episode.truncated):
                    still.append(episode)
                    continue
                finished[episode.number] = episode
                if started < episodes:
                    still.append(self._start(started, episode.slot, seed))
                    started += 1
            running = still
        done = [episode for episode in finished if episode is not None]
        return Rollouts(
            Trajectories(_trajectory(episode) for episode in done),
            TrueRewards([episode.rewards for episode in done]),
        )

    def _start(self, number: int, slot: int, seed: int) -> _Running:
        observation, _ = self._environments[slot].reset(seed=episode_seed(seed, number))
        return _Running(number, slot, [_copy(observation)], [], [])

    def _act(self, policy: Policy, running: list[_Running]) -> list[Any]:
        if not self._batched:
            return [policy(running[0].observations[-1])]
        actions = policy(np.stack([episode.observations[-1] for episode in running]))
        if len(actions) != len(running):
            raise ValueError(
                f"the policy was called with {len(running)} observations [B, O] and returned "
                f"{len(actions)} actions, must be [B, A]"
            )
        return list(actions)

    def _step(self, episode: _Running, action: Any) -> Transition:
        # A copy: the policy may reuse its array, and what is recorded must be what was done.
        action = _copy(action).reshape(-1)
        step = len(episode.actions)
        if action.shape != (self.spaces.action_dim,) or not np.isfinite(action).all():
            raise ValueError(
                f"episode {episode.number}, step {step}: the policy returned {action}, must be "
                f"{self.spaces.action_dim} finite numbers"
            )
        command = int(action[0]) if self.spaces.discrete_actions is not None else action
        seen, reward, terminated, truncated, _ = self._environments[episode.slot].step(command)
        self.steps += 1
        observation = _copy(seen)
        if not np.isfinite(observation).all():
            raise ValueError(
                f"episode {episode.number}, step {step}: the simulation returned an observation "
                f"that is not finite after the action {action}"
            )
        episode.observations.append(observation)
        episode.actions.append(action)
        episode.rewards.append(float(reward))
        episode.terminated = bool(terminated)
        at_horizon = self.horizon is not None and step + 1 >= self.horizon
        episode.truncated = bool(truncated) or (at_horizon and not episode.terminated)
        return Transition(
            episode.observations[-2], action, observation, episode.terminated, episode.truncated
        )


def episode_seed(seed: int, episode: int) -> int:
    """The seed that episode number `episode` of a call with `seed` is reset with."""
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])


def _copy(values: Any) -> Floats:
    return np.array(values, dtype=np.float32)


def _trajectory(episode: _Running) -> Trajectory:
    return Trajectory(
        np.stack(episode.observations),
        np.stack(episode.actions),
        episode.terminated,
        episode.truncated,
    )
