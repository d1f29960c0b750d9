"""Trajectories drawn from a policy in the true dynamics, and the occupancy that they estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array, Ints, check_discount, check_policy
from irl_align.tabular.mdp import TabularMDP

__all__ = ["Rollouts", "horizon_for", "roll_out"]


@dataclass(frozen=True, eq=False)
class Rollouts:
    """N trajectories of T steps each, in pairs: ``actions`` [N, T] were taken in ``states`` [N, T].

    Raises UserError on shapes that do not match, no step, or entries that are no whole numbers.
    """

    states: Ints
    actions: Ints

    def __post_init__(self) -> None:
        for name in ("states", "actions"):
            table = np.asarray(getattr(self, name))
            if table.ndim != 2 or not table.size:
                raise UserError(f"{name} of rollouts have shape [N, T], got {list(table.shape)}")
            if not np.issubdtype(table.dtype, np.integer):
                raise UserError(f"{name} of rollouts are whole numbers, got {table.dtype}")
            object.__setattr__(self, name, table.astype(np.int64, copy=False))
        if self.states.shape != self.actions.shape:
            raise UserError(
                f"rollouts need one action a state: states {list(self.states.shape)}, "
                f"actions {list(self.actions.shape)}"
            )

    def __len__(self) -> int:
        return len(self.states)

    @property
    def horizon(self) -> int:
        return int(self.states.shape[1])

    def pick(self, rollouts: Ints) -> Rollouts:
        """The rollouts with these numbers, in this order."""
        return Rollouts(self.states[rollouts], self.actions[rollouts])

    def occupancy(self, mdp: TabularMDP) -> Array:
        """Mean over rollouts of sum_t gamma^t 1[s_t = s, a_t = a]: [S, A].

        It sums to (1 - gamma^T) / (1 - gamma): what lies behind the horizon is missing. Raises
        UserError on states or actions that the MDP does not have.
        """
        for name, table, size in zip(
            ("state", "action"), (self.states, self.actions), mdp.shape, strict=True
        ):
            if table.min() < 0 or table.max() >= size:
                raise UserError(
                    f"rollouts hold {name}s from {table.min()} to {table.max()}, the MDP has "
                    f"{size} {name}s"
                )
        weights = np.tile(mdp.gamma ** np.arange(self.horizon) / len(self), len(self))
        pairs = (self.states * mdp.actions + self.actions).reshape(-1)
        counted = np.bincount(pairs, weights, minlength=mdp.states * mdp.actions)
        return counted.astype(np.float64, copy=False).reshape(mdp.shape)


def roll_out(
    mdp: TabularMDP, policy: Any, episodes: int, horizon: int, rng: np.random.Generator
) -> Rollouts:
    """``episodes`` trajectories of ``horizon`` steps, started from the initial distribution.

    All advance together, so a step costs the same few array operations for one or for a thousand.
    Raises UserError on a policy whose rows are no distributions and on counts below one.
    """
    policy = check_policy(policy, *mdp.shape)
    if episodes < 1 or horizon < 1:
        raise UserError(f"need episodes >= 1 and horizon >= 1, got {episodes=}, {horizon=}")
    cumulative = np.cumsum(policy, axis=1)  # [S, A]
    # Strictly below the last running sum, so that rounding cannot point behind the last action.
    ceiling = np.nextafter(cumulative[:, -1], -np.inf)
    uniforms = rng.random((2, horizon, episodes))
    states = np.empty((horizon, episodes), dtype=np.int64)
    actions = np.empty_like(states)
    now = rng.choice(mdp.states, size=episodes, p=mdp.initial / mdp.initial.sum())
    for step in range(horizon):
        top = ceiling[now]
        target = np.minimum(uniforms[0, step] * cumulative[now, -1], top)
        chosen = (cumulative[now] > target[:, None]).argmax(1)
        states[step], actions[step] = now, chosen
        if step + 1 < horizon:
            now = mdp.kernel.draw(now, chosen, uniforms[1, step])
    return Rollouts(states.T, actions.T)


def horizon_for(gamma: float, tail: float = 1e-3) -> int:
    """The fewest steps T with gamma^T <= ``tail``: the share of the discounted mass cut off."""
    check_discount(gamma)
    if not 0 < tail < 1:
        raise UserError(f"tail must lie strictly between 0 and 1, got {tail}")
    return max(1, math.ceil(math.log(tail) / math.log(gamma)))
