from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.absorbing import absorbing_state, with_flags
from irl_align.control.buffers import Layout, ReplayBuffer
from irl_align.control.trajectories import Transition
from irl_align.core.errors import UserError

O, A = 4, 2  # noqa: E741


def transition(number: float, terminated: bool = False) -> Transition:
    return Transition(
        np.full(O, number, np.float32),
        np.full(A, number + 0.25, np.float32),
        np.full(O, number + 0.5, np.float32),
        terminated,
        False,
    )


def filled(capacity: int, count: int, seed: int = 0) -> ReplayBuffer:
    buffer = ReplayBuffer(capacity, O, A, seed=seed)
    for number in range(count):
        buffer.add(transition(number, number % 3 == 2))
    return buffer


def test_a_drawn_row_is_one_transition():
    batch = filled(10, 10).draw(200)
    assert batch.observations.shape == (200, O) and batch.actions.shape == (200, A)
    number = batch.observations[:, 0]
    torch.testing.assert_close(batch.observations, number[:, None].expand(-1, O))
    torch.testing.assert_close(batch.actions, number[:, None].expand(-1, A) + 0.25)
    torch.testing.assert_close(batch.next_observations, number[:, None].expand(-1, O) + 0.5)
    assert torch.equal(batch.terminated, (number % 3 == 2).float())
    assert set(number.tolist()) == set(range(10))  # all of them, and nothing else


def test_the_oldest_go_first():
    buffer = filled(4, 6)
    assert len(buffer) == 4
    assert set(buffer.draw(100).observations[:, 0].tolist()) == {2, 3, 4, 5}
    assert buffer.recent(3).observations[:, 0].tolist() == [3, 4, 5]
    assert buffer.recent(99).observations[:, 0].tolist() == [2, 3, 4, 5]
    with pytest.raises(ValueError, match="empty"):
        ReplayBuffer(4, O, A).draw(1)


def test_drawing_is_uniform():
    drawn = filled(5, 5).draw(20_000).observations[:, 0].long()
    shares = torch.bincount(drawn, minlength=5) / len(drawn)
    assert (shares - 0.2).abs().max() < 0.015  # 5 standard deviations


@pytest.mark.parametrize("count", [3, 4, 6, 9, 13])
def test_extending_equals_adding_one_by_one(count, trajectories):
    one_by_one, at_once = filled(4, 3), filled(4, 3)
    many = torch.stack([filled(1, n + 1).draw_packed(1)[0] for n in range(count)])
    for number in range(count):
        one_by_one.add(transition(number, number % 3 == 2))
    at_once.extend_packed(many)
    for a, b in zip(one_by_one.recent(4), at_once.recent(4), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one_by_one.draw_packed(50), at_once.draw_packed(50))


def test_extending_by_trajectories(trajectories):
    buffer = ReplayBuffer(100, O, A)
    buffer.extend(trajectories)
    steps = trajectories.steps()
    batch = buffer.recent(100)
    np.testing.assert_array_equal(batch.observations, steps.observations)
    np.testing.assert_array_equal(batch.next_observations, steps.next_observations)
    np.testing.assert_array_equal(batch.actions, steps.actions)
    np.testing.assert_array_equal(batch.terminated, steps.terminated)
    with pytest.raises(ValueError, match="do not fit"):
        ReplayBuffer(100, O + 1, A).extend(trajectories)


def test_absorbing_transitions(trajectories):
    flagged = with_flags(trajectories)
    buffer = ReplayBuffer(100, O + 1, A, absorbing_transitions=3)
    buffer.extend(flagged)
    assert len(buffer) == trajectories.total_steps + 3  # one of the three terminated
    batch = buffer.recent(100)
    assert not batch.terminated.any()
    absorbing = torch.from_numpy(absorbing_state(O + 1))
    is_end = (batch.next_observations == absorbing).all(dim=1)
    assert is_end.nonzero().flatten().tolist() == [7, 8, 9, 10]
    # The last real step leads there with its own state and action; then state and action are idle.
    np.testing.assert_array_equal(batch.observations[7], flagged[1].observations[4])
    np.testing.assert_array_equal(batch.actions[7], flagged[1].actions[4])
    assert torch.equal(batch.observations[8:11], absorbing.expand(3, -1))
    assert not batch.actions[8:11].any()
    # A time limit leads to the observation that was seen.
    np.testing.assert_array_equal(batch.next_observations[2], flagged[0].observations[3])


def test_it_goes_on_bit_for_bit(tmp_path):
    buffer = filled(6, 8, seed=3)
    buffer.draw(17)
    buffer.save(tmp_path / "buffer.pt")
    other = ReplayBuffer(6, O, A, seed=99)
    other.load(tmp_path / "buffer.pt")
    for each in (buffer, other):
        each.add(transition(100))
    assert torch.equal(buffer.recent(6).observations, other.recent(6).observations)
    for _ in range(3):
        assert torch.equal(buffer.draw_packed(50), other.draw_packed(50))
    assert not torch.equal(filled(6, 8, seed=4).draw_packed(50), filled(6, 8).draw_packed(50))


def test_a_partly_filled_buffer_saves_what_it_has(tmp_path):
    buffer = filled(1_000_000, 5)
    buffer.save(tmp_path / "buffer.pt")
    assert (tmp_path / "buffer.pt").stat().st_size < 50_000
    other = ReplayBuffer(1_000_000, O, A)
    other.load(tmp_path / "buffer.pt")
    assert len(other) == 5 and torch.equal(buffer.draw_packed(9), other.draw_packed(9))


def test_bad_saves_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        ReplayBuffer(4, O, A).load(tmp_path / "gone.pt")
    filled(4, 2).save(tmp_path / "small.pt")
    with pytest.raises(UserError, match="capacity 4, this one 5"):
        ReplayBuffer(5, O, A).load(tmp_path / "small.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "small.pt").read_bytes()[:100])
    with pytest.raises(UserError, match=r"cut\.pt"):
        ReplayBuffer(4, O, A).load(tmp_path / "cut.pt")


def test_a_batch_is_views_of_the_packed_rows():
    rows = filled(4, 4).draw_packed(6)
    batch = Layout(O, A).unpack(rows)
    assert all(
        part.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr() for part in batch
    )
    stacked = Layout(O, A).unpack(rows.view(2, 3, -1))  # several batches for several updates
    assert stacked.observations.shape == (2, 3, O) and stacked.terminated.shape == (2, 3)
