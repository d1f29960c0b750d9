"""Small data and a small environment that the tests of control share."""

from __future__ import annotations

import os

import gymnasium
import numpy as np
import pytest

from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Trajectories, Trajectory

O, A = 4, 2  # noqa: E741  # observation and action dimensions, as in the docstrings


def make_trajectory(length: int, seed: int, terminated: bool = False) -> Trajectory:
    rng = np.random.default_rng(seed)
    return Trajectory(
        rng.normal(size=(length + 1, O)).astype(np.float32),
        rng.uniform(-1, 1, size=(length, A)).astype(np.float32),
        terminated,
        not terminated,
    )


def make_trajectories(lengths=(3, 5, 2), terminated=(False, True, False)) -> Trajectories:
    return Trajectories(
        make_trajectory(length, seed, ends)
        for seed, (length, ends) in enumerate(zip(lengths, terminated, strict=True))
    )


class Counter(gymnasium.Env):
    """Observation = (start, t, last action); it ends for good after `lives` steps, if ever.

    `start` is drawn from the reset's seed, and so are the lives when they are not given.
    """

    def __init__(self, lives: int | None = None, limit: int | None = 7) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (O,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (A,), np.float32)
        self.given, self.limit = lives, limit
        self.taken = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start, self.t, self.last = self.np_random.normal(), 0, np.zeros(A)
        self.lives = self.given or int(self.np_random.integers(1, 12))
        return self._observation(), {}

    def step(self, action):
        self.t, self.last, self.taken = self.t + 1, np.array(action), self.taken + 1
        ended = self.t == self.lives
        cut = not ended and self.limit is not None and self.t == self.limit
        return self._observation(), float(action[0]) + self.t, ended, cut, {}

    def _observation(self):
        return np.array([self.start, self.t, *self.last])


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """Nobody cuts the power here: do not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def trajectories() -> Trajectories:
    return make_trajectories()


@pytest.fixture(scope="session")
def build():
    """make_trajectory, make_trajectories and Counter, for tests that need their own."""

    class Build:
        trajectory = staticmethod(make_trajectory)
        trajectories = staticmethod(make_trajectories)
        counter = Counter

    return Build


@pytest.fixture(scope="session")
def spaces() -> Spaces:
    """A box that is neither centred nor of width 2, so that mixed-up units show."""
    return Spaces("Test-v0", O, np.array([-2, 0], np.float32), np.array([2, 5], np.float32), 7)
