from __future__ import annotations

import pytest
import torch

from irl_align.control.buffers import Batch
from irl_align.control.world_model.model import Imagined
from irl_align.control.world_model.rollouts import PenalisedBuffer, fill, imagine


class Counting:
    """s = (name, t); t grows by 1, the penalty is t, and row `name` ends when t reaches it."""

    def step(self, observations, actions, generator, penalty):
        following = observations + torch.tensor([0.0, 1.0])
        ended = following[:, 1] >= following[:, 0]
        return Imagined(following, ended, observations[:, 1] * (penalty is not None))


def still(observations, generator):
    return 10 * observations[:, 1:]


def starts(*lives: float):
    return torch.tensor([[float(life), 0.0] for life in lives])


def test_rows_go_on_until_they_end_or_the_horizon():
    lives = (1, 9, 3, 9, 2)
    seen = {row: [] for row in range(5)}
    for step in imagine(Counting(), still, starts(*lives), 4, torch.Generator(), chunk=2):
        for place, row in enumerate(step.rows.tolist()):
            batch = Batch(*(column[place] for column in step.batch))
            seen[row].append((step.time, *batch.observations.tolist(), batch.terminated.item()))
            assert batch.actions.item() == 10 * step.time
            assert batch.next_observations.tolist() == [lives[row], step.time + 1]
    for row, life in enumerate(lives):
        assert seen[row] == [
            (t, float(life), float(t), float(t + 1 == life)) for t in range(min(life, 4))
        ]


def test_a_chunk_that_is_over_makes_room_for_the_next():
    steps = list(imagine(Counting(), still, starts(1, 2, 3, 1), 50, torch.Generator(), chunk=3))
    assert [len(step.rows) for step in steps] == [3, 2, 1, 1]


@pytest.mark.parametrize("capacity", [100, 7, 4])
def test_the_buffer_keeps_the_newest_with_their_penalties(capacity):
    buffer = PenalisedBuffer(capacity, 2, 1)
    told = fill(
        buffer, Counting(), still, starts(3, 9, 2), 5, torch.Generator(), penalty="mopo_default"
    )
    assert told == {
        "model/steps": 10.0,
        "model/length": pytest.approx(10 / 3),
        "model/penalty": pytest.approx((0 + 0 + 0 + 1 + 1 + 1 + 2 + 2 + 3 + 4) / 10),
    }
    index = buffer.latest_index(100)
    batch = buffer.layout.unpack(buffer.rows(index))
    times = torch.tensor([0.0, 0, 0, 1, 1, 1, 2, 2, 3, 4])[-capacity:]
    assert torch.equal(batch.observations[:, 1], times)
    assert torch.equal(buffer.penalties[index], times)
    # And going on around the ring.
    fill(buffer, Counting(), still, starts(2), 5, torch.Generator(), penalty=None)
    index = buffer.latest_index(100)
    both = torch.cat([times, torch.tensor([0.0, 0.0])])[-capacity:]
    assert torch.equal(buffer.penalties[index], both)


def test_a_saved_buffer_goes_on_where_it_was():
    buffers = [PenalisedBuffer(6, 2, 1, seed=seed) for seed in (1, 2)]
    fill(buffers[0], Counting(), still, starts(3, 9, 2), 5, torch.Generator(), penalty="morel")
    buffers[0].draw(3)
    buffers[1].load_state_dict(buffers[0].state_dict())
    index = [buffer.draw_index(50) for buffer in buffers]
    assert torch.equal(*index)
    assert torch.equal(*(b.penalties[i] for b, i in zip(buffers, index, strict=True)))
    assert torch.equal(*(b.rows(i) for b, i in zip(buffers, index, strict=True)))
