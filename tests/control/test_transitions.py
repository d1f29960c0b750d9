from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.spaces import Spaces
from irl_align.control.transitions import Transitions
from irl_align.core.errors import UserError


def arrays(count=4):
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=(count, 3)),
        rng.integers(0, 3, size=(count, 1)),
        rng.normal(size=(count, 3)),
        rng.random(count) < 0.5,
    ]


def test_trajectories_and_arrays_are_the_same(trajectories):
    steps = trajectories.steps()
    one = Transitions.of(trajectories)
    other = Transitions.from_arrays(
        steps.observations, steps.actions, steps.next_observations, steps.terminated
    )
    assert torch.equal(one.rows, other.rows) and one.layout == other.layout and len(one) == 10
    assert one.sha256() == other.sha256() != one.head(5).sha256()
    np.testing.assert_array_equal(one.batch.actions, steps.actions)
    assert one.batch.terminated.sum() == 1


def test_a_head_is_spread_over_all(trajectories):
    found = Transitions.of(trajectories)
    assert torch.equal(found.head(2).rows, found.rows[[0, 9]])
    assert found.head(10) is found and len(found.head(4)) == 4


def test_indices_become_unit_vectors():
    data = Transitions.from_arrays(*arrays())
    spaces = Spaces("Three", 3, np.zeros(1), np.full(1, 2), discrete_actions=3)
    units = data.with_one_hot_actions(spaces)
    assert units.layout == (3, 3)
    np.testing.assert_array_equal(units.batch.actions.argmax(1), data.batch.actions[:, 0])
    assert (units.batch.actions.sum(1) == 1).all()
    for name in ("observations", "next_observations", "terminated"):
        assert torch.equal(getattr(units.batch, name), getattr(data.batch, name))
    box = Spaces("Box", 3, np.zeros(1), np.full(1, 2))
    assert data.with_one_hot_actions(box) is data
    two = Spaces("Two", 3, np.zeros(1), np.ones(1), discrete_actions=2)
    with pytest.raises(UserError, match="but Two has the actions 0 to 1"):
        data.with_one_hot_actions(two)


@pytest.mark.parametrize(
    ("number", "value", "said"),
    [
        (0, np.zeros((3, 3)), "transitions need observations"),
        (2, np.zeros((4, 2)), "transitions need observations"),
        (3, np.zeros((4, 1, 1)), "transitions need observations"),
        (1, np.array([[0], [1], [np.inf], [0]]), "actions is inf in row 2"),
    ],
)
def test_what_does_not_fit_is_named(number, value, said):
    columns = arrays()
    columns[number] = value
    with pytest.raises(UserError, match=said):
        Transitions.from_arrays(*columns)
