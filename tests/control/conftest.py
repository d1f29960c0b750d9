"""Small data and a small environment that the tests of control share."""

from __future__ import annotations

import os
import signal

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from irl_align.control.experts import record_demonstrations
from irl_align.control.policies import RandomPolicy
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


class Poisoned(PendulumEnv):
    """A pendulum whose reward is of no use to anyone."""

    def step(self, action):
        seen, _, terminated, truncated, info = super().step(action)
        return seen, float("nan"), terminated, truncated, info


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """A process that has had several cannot be forked: the child would wait for them for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def registered(build):
    """`tests/Poisoned-v0`, `tests/Counter-v0`; the counters that were made, with their steps."""
    made = []

    def counter(**options):
        env = build.counter(**options)
        made.append(env)
        return env

    gymnasium.register("tests/Poisoned-v0", Poisoned, max_episode_steps=12)
    gymnasium.register("tests/Counter-v0", counter, max_episode_steps=7)
    yield made
    for name in ("tests/Poisoned-v0", "tests/Counter-v0"):
        del gymnasium.registry[name]


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory) -> str:
    """Twelve steps each of a pendulum that nobody steers well."""
    path = tmp_path_factory.mktemp("demonstrations") / "pendulum.npz"
    spaces = Spaces("Pendulum-v1", 3, np.array([-2], np.float32), np.array([2], np.float32))
    policy = RandomPolicy(spaces, 0)
    record_demonstrations(policy, "Pendulum", 4, seed=7, path=path, max_episode_steps=12)
    return str(path)


@pytest.fixture(scope="session")
def killed():
    """killed(work, verbs, round): `work` in a child that is killed in that round, when the first of
    `verbs` (class, method) that is called there has done its work and not handed it on; without
    verbs `work` sees to that."""

    def run(work, verbs=(), round=0) -> None:
        child = os.fork()
        if child == 0:
            for owner, name in verbs:
                real = getattr(owner, name)

                def verb(*arguments, real=real):
                    done = real(*arguments)
                    if arguments[-1].round == round:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return done

                setattr(owner, name, verb)
            try:
                work()
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    return run


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
