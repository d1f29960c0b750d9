"""What SQIL's batches are made of, and what the critics learn of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.absorbing import with_flags
from irl_align.control.baselines.beside_demonstrations import HalfDemonstrations
from irl_align.control.buffers import ReplayBuffer
from irl_align.control.config import SACConfig
from irl_align.control.sac.agent import SAC


@pytest.fixture
def replay(build) -> ReplayBuffer:
    buffer = ReplayBuffer(100, 4, 2, seed=5)
    buffer.extend(build.trajectories((9, 6), (False, True)))
    return buffer


def members(rows, pool) -> bool:
    """Whether every row [.., width] is one of `pool` [M, width]."""
    return bool((rows.reshape(-1, 1, rows.shape[-1]) == pool).all(-1).any(-1).all())


@pytest.mark.parametrize("size", [6, 7, 2])
def test_half_of_every_batch_is_demonstrated_and_marked(trajectories, replay, size):
    expert = ReplayBuffer.of(trajectories).all_rows()
    agent = replay.rows(torch.arange(len(replay)))
    agent[:, 0] += 100.0  # told apart for certain
    replay.load_state_dict({**replay.state_dict(), "rows": agent})
    rows, rewards = HalfDemonstrations(expert, replay, seed=0).draw(40, size)
    half = size // 2
    assert rows.shape == (40, size, 11) and rewards.shape == (40, size)
    assert (rewards[:, :half] == 1).all() and (rewards[:, half:] == 0).all()
    assert members(rows[:, :half], expert) and not members(rows[:, :half], agent)
    assert members(rows[:, half:], agent) and not members(rows[:, half:], expert)
    # All of either kind come up sooner or later, in every place.
    assert len(rows[:, 0].unique(dim=0)) == len(expert) == 10
    assert len(rows[:, -1].unique(dim=0)) > 8


def test_demonstrations_know_where_a_step_led(trajectories):
    rows = ReplayBuffer.of(trajectories).all_rows()
    row = 0
    for t in trajectories:
        for i in range(len(t)):
            np.testing.assert_array_equal(rows[row, :4], t.observations[i])
            np.testing.assert_array_equal(rows[row, 4:6], t.actions[i])
            np.testing.assert_array_equal(rows[row, 6:10], t.observations[i + 1])
            assert rows[row, -1] == (t.terminated and i == len(t) - 1)
            row += 1
    assert row == len(rows)


def test_an_early_end_of_a_demonstration_is_absorbed(trajectories):
    rows = ReplayBuffer.of(with_flags(trajectories), 10).all_rows()
    assert len(rows) == 10 + 10  # one of the three ends early
    assert not rows[:, -1].any()
    from_there = rows[:, 4] == 1  # the flag of s
    assert from_there.sum() == 10 and not rows[from_there, 5:7].any()
    assert rows[from_there, 11].all() and (rows[:, 11] == 1).sum() == 11


def test_draws_are_decided_by_the_seed_alone(trajectories, replay):
    expert, state = ReplayBuffer.of(trajectories).all_rows(), replay.state_dict()
    found = []
    for seed in (1, 1, 2):
        replay.load_state_dict(state)
        found.append(HalfDemonstrations(expert, replay, seed=seed).draw(3, 8)[0])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert torch.equal(found[0][:, 4:], found[2][:, 4:])  # the replay has its own generator


def test_values_are_the_soft_return_of_being_the_demonstrator(spaces):
    """One state that leads to itself: the agent's action has Q = gamma V, the demonstrated one
    1 + gamma V; alpha is small, so that V is close to the better one."""
    config = SACConfig(
        hidden=[32], gamma=0.5, tau=0.1, learning_rate=3e-3, alpha=1e-3, compile="never"
    )
    agent = SAC(spaces, config, seed=0)
    state, good, bad = torch.zeros(4), torch.tensor([1.5, 4.0]), torch.tensor([-1.5, 1.0])
    expert = torch.cat([state, good, state, torch.zeros(1)])[None]
    replay = ReplayBuffer(50, 4, 2, seed=0)
    replay.extend_packed(torch.cat([state, bad, state, torch.zeros(1)]).repeat(50, 1))
    source = HalfDemonstrations(expert, replay, seed=0)
    for _ in range(60):
        agent.update(*source.draw(10, 20))
    q = agent.parts.critic(state.expand(2, -1), torch.stack([good, bad])).mean(dim=0)
    assert (q[0] - q[1]).item() == pytest.approx(1.0, abs=0.1)
    assert (agent.actor.mode(state[None])[0] - good).abs().max() < (good - bad).abs().min()
