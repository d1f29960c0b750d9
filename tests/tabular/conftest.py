"""A second implementation to check against: loops and enumeration, no line shared."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest


def random_tables(seed: int, states: int = 6, actions: int = 3, zeros: bool = False):
    """P [S, A, S], eta [S], reward [S, A], policy [S, A]; ``zeros`` forbids some successors."""
    rng = np.random.default_rng(seed)
    kernel = rng.dirichlet(np.ones(states), size=(states, actions))
    if zeros:
        kernel[rng.random(kernel.shape) < 0.4] = 0.0
        kernel[..., 0] += 1e-3
        kernel /= kernel.sum(2, keepdims=True)
    return SimpleNamespace(
        kernel=kernel,
        initial=rng.dirichlet(np.ones(states)),
        reward=rng.normal(size=(states, actions)),
        policy=rng.dirichlet(np.ones(actions), size=states),
    )


def plain_soft_optimum(kernel, reward, gamma):
    """Q* and V* by value iteration in Python loops."""
    states, actions, _ = kernel.shape
    v = [0.0] * states
    while True:
        q = [
            [
                reward[s][a] + gamma * sum(kernel[s][a][t] * v[t] for t in range(states))
                for a in range(actions)
            ]
            for s in range(states)
        ]
        after = [max(row) + math.log(sum(math.exp(x - max(row)) for x in row)) for row in q]
        if max(abs(x - y) for x, y in zip(after, v, strict=True)) < 1e-14:
            return np.array(q), np.array(after)
        v = after


def enumerate_trajectories(kernel, initial, policy, gamma, steps):
    """Every trajectory of ``steps`` steps: their probabilities [n] and discounted counts [n, S*A].

    n = (S A)^steps paths, built up step by step; only the last state is kept of the past.
    """
    states, actions, _ = kernel.shape
    chance = initial.copy()
    last = np.arange(states)
    counts = np.zeros((states, states * actions))
    for t in range(steps):
        chance = (chance[:, None] * policy[last]).ravel()
        counts = np.repeat(counts, actions, axis=0)
        taken = np.tile(np.arange(actions), len(last))
        last = np.repeat(last, actions)
        counts[np.arange(len(last)), last * actions + taken] += gamma**t
        if t + 1 < steps:
            chance = (chance[:, None] * kernel[last, taken]).ravel()
            counts = np.repeat(counts, states, axis=0)
            last = np.tile(np.arange(states), len(taken))
    return chance, counts


@pytest.fixture
def tables():
    return random_tables


@pytest.fixture
def plain_optimum():
    return plain_soft_optimum


@pytest.fixture
def trajectories():
    return enumerate_trajectories
