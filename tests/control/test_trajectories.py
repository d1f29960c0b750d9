from __future__ import annotations

import numpy as np
import pytest

from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Steps, Trajectories, Trajectory, Transition


def test_a_trajectory_is_float32_and_checked():
    trajectory = Trajectory([[0.0], [1.0], [2.0]], [[1], [2]], np.True_, 0)
    assert trajectory.observations.dtype == trajectory.actions.dtype == np.float32
    assert trajectory.terminated is True and trajectory.truncated is False
    assert len(trajectory) == 2
    for observations, actions in [
        ([[0.0], [1.0]], [[1], [2]]),  # the last observation is missing
        ([[0.0]], np.zeros((0, 1))),  # no step
        ([0.0, 1.0, 2.0], [[1], [2]]),  # no rows
    ]:
        with pytest.raises(ValueError):
            Trajectory(observations, actions, False, True)


def test_steps_pair_states_with_their_own_actions(trajectories):
    steps = trajectories.steps()
    assert len(steps.times) == trajectories.total_steps == 10
    for row, (number, t) in enumerate(zip(steps.trajectories, steps.times, strict=True)):
        source = trajectories[number]
        np.testing.assert_array_equal(steps.observations[row], source.observations[t])
        np.testing.assert_array_equal(steps.actions[row], source.actions[t])
        np.testing.assert_array_equal(steps.next_observations[row], source.observations[t + 1])
    assert steps.terminated.tolist() == [False] * 7 + [True] + [False] * 2
    np.testing.assert_array_equal(steps.weights, 1)


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_subsampling_keeps_each_trajectorys_weight(trajectories, every, seed):
    steps = trajectories.steps(every, seed)
    for number, length in enumerate(trajectories.lengths):
        mine = steps.trajectories == number
        assert steps.weights[mine].sum() == pytest.approx(length)
        times = steps.times[mine]
        assert (np.diff(times) == every).all() and times[0] < every
        assert len(times) >= 1
    if seed is None:
        assert (steps.times % every == 0).all()


def test_subsampling_marks_the_end_only_where_it_is_kept(build):
    one = build.trajectories((5,), (True,))
    assert one.steps(2).terminated.tolist() == [False, False, True]  # 0, 2, 4
    assert not one.steps(3).terminated.any()  # 0, 3
    with pytest.raises(ValueError):
        one.steps(0)


def test_the_container(trajectories, build):
    assert trajectories.lengths.tolist() == [3, 5, 2]
    assert (trajectories.observation_dim, trajectories.action_dim) == (4, 2)
    picked = trajectories.select([2, 0])
    assert [t is s for t, s in zip(picked, (trajectories[2], trajectories[0]), strict=True)]
    swapped = trajectories.mapped_actions([1, 0])
    np.testing.assert_array_equal(swapped[1].actions, trajectories[1].actions[:, ::-1])
    assert swapped[1].terminated
    with pytest.raises(ValueError, match="no trajectory"):
        Trajectories([])
    other = Trajectory(np.zeros((2, 3)), np.zeros((1, 2)), False, True)
    with pytest.raises(ValueError, match="different"):
        Trajectories([build.trajectory(2, 0), other])


def test_nothing_that_a_learner_takes_has_room_for_a_reward():
    from irl_align.control.buffers import Batch

    names = {*Steps._fields, *Transition._fields, *Batch._fields, *Trajectory.__annotations__}
    assert not [name for name in names if "reward" in name or "return" in name]


def test_spaces_of_environments(build):
    import gymnasium

    from irl_align.core.errors import UserError

    spaces = Spaces.of(gymnasium.make("Humanoid-v5"))
    assert (spaces.observation_dim, spaces.action_dim) == (348, 17)
    assert spaces.environment == "Humanoid-v5" and spaces.max_episode_steps == 1000
    np.testing.assert_allclose(spaces.action_high, 0.4)
    discrete = Spaces.of(gymnasium.make("CartPole-v1"))
    assert (discrete.discrete_actions, discrete.action_dim) == (2, 1)
    assert Spaces.of(build.counter()).max_episode_steps is None
    env = build.counter()
    env.observation_space = gymnasium.spaces.Dict({"a": env.observation_space})
    with pytest.raises(UserError, match="FlattenObservation"):
        Spaces.of(env)
