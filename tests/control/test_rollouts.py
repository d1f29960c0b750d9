from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from irl_align.control.policies import RandomPolicy
from irl_align.control.rollouts import Collector, episode_seed
from irl_align.control.spaces import Spaces


def halving(observation):
    """Deterministic, and works on [O] and [B, O]."""
    return 0.5 * np.tanh(observation[..., :2])


def test_whole_episodes_aligned_and_counted(build):
    env = build.counter()
    collector = Collector(env, horizon=7, steps=100)
    rollouts = collector.collect(halving, 6, seed=3)
    assert len(rollouts.trajectories) == 6
    assert collector.steps == 100 + rollouts.trajectories.total_steps == 100 + env.taken
    ends = set()
    for number, trajectory in enumerate(rollouts.trajectories):
        length = len(trajectory)
        np.testing.assert_array_equal(trajectory.observations[:, 1], np.arange(length + 1))
        # The action of row t is what the policy said to the observation of row t ...
        np.testing.assert_allclose(trajectory.actions, halving(trajectory.observations[:-1]))
        # ... and it shows in the observation of row t + 1.
        np.testing.assert_array_equal(trajectory.observations[1:, 2:], trajectory.actions)
        expected = trajectory.actions[:, 0] + np.arange(1, length + 1)
        np.testing.assert_allclose(rollouts.true_rewards.of(number), expected, rtol=1e-6)
        assert trajectory.terminated != trajectory.truncated
        assert not trajectory.truncated or length == 7
        ends.add(trajectory.terminated)
    assert ends == {True, False}  # else this test saw half of what it asks


def test_termination_is_kept_apart_from_the_time_limit(build):
    dies, cut = build.counter(lives=3), build.counter(lives=100, limit=None)
    (died,) = Collector(dies, horizon=7).collect(halving, 1, seed=0).trajectories
    (ended,) = Collector(cut, horizon=7).collect(halving, 1, seed=0).trajectories
    assert (len(died), died.terminated, died.truncated) == (3, True, False)
    assert (len(ended), ended.terminated, ended.truncated) == (7, False, True)
    both = build.counter(lives=7, limit=None)  # dies in the very step of the limit
    (last,) = Collector(both, horizon=7).collect(halving, 1, seed=0).trajectories
    assert (last.terminated, last.truncated) == (True, False)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_several_environments_give_the_same_episodes(build, count):
    alone = Collector(build.counter(), horizon=7).collect(halving, 6, seed=5)
    many = [build.counter() for _ in range(count)]
    collector = Collector(many, horizon=7)
    together = collector.collect(halving, 6, seed=5)
    assert collector.steps == sum(env.taken for env in many)
    for a, b in zip(alone.trajectories, together.trajectories, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.actions, b.actions)
    np.testing.assert_array_equal(alone.true_rewards.returns(), together.true_rewards.returns())


def test_the_seed_decides(build):
    def run(seed, policy_seed):
        env = gymnasium.make("Pendulum-v1", max_episode_steps=5)
        collector = Collector(env)
        for _ in range(2):  # what ran before does not matter
            found = collector.collect(RandomPolicy(Spaces.of(env), policy_seed), 2, seed=seed)
        return np.concatenate([t.observations for t in found.trajectories])

    np.testing.assert_array_equal(run(0, 0), run(0, 0))
    assert (run(0, 0) != run(0, 1)).any() and (run(0, 0)[0] != run(1, 0)[0]).any()
    assert len({episode_seed(s, e) for s in range(20) for e in range(20)}) == 400


def test_a_callback_sees_every_step_in_time(build):
    seen = []
    policy_saw = []

    def policy(observation):
        policy_saw.append(len(seen))
        return halving(observation)

    rollouts = Collector(build.counter(), horizon=7).collect(policy, 3, seed=1, on_step=seen.append)
    assert policy_saw == list(range(rollouts.trajectories.total_steps))  # after each step, at once
    steps = rollouts.trajectories.steps()
    for row, transition in enumerate(seen):
        np.testing.assert_array_equal(transition.observation, steps.observations[row])
        np.testing.assert_array_equal(transition.action, steps.actions[row])
        np.testing.assert_array_equal(transition.next_observation, steps.next_observations[row])
        assert transition.terminated == steps.terminated[row]


def test_steps_of_unfinished_episodes_count(build):
    collector = Collector(build.counter(lives=7), horizon=7)

    def stop(transition):
        if transition.observation[1] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collector.collect(halving, 1, seed=0, on_step=stop)
    assert collector.steps == 4


def test_what_is_recorded_is_what_was_done(build):
    shared = np.zeros(2, np.float32)

    def reuses_its_array(observation):
        shared[:] = observation[1] / 10
        return shared

    collector = Collector(build.counter(lives=5), horizon=9)
    (trajectory,) = collector.collect(reuses_its_array, 1, seed=0).trajectories
    np.testing.assert_allclose(trajectory.actions[:, 0], np.arange(5) / 10, rtol=1e-6)


def test_bad_policies_are_named(build):
    collector = Collector(build.counter(lives=5), horizon=9)

    def breaks_down(observation):
        return np.full(2, np.nan) if observation[1] == 2 else np.zeros(2)

    with pytest.raises(ValueError, match=r"episode 0, step 2: the policy returned \[nan nan\]"):
        collector.collect(breaks_down, 1, seed=0)
    with pytest.raises(ValueError, match="must be 2 finite numbers"):
        collector.collect(lambda observation: np.zeros(3), 1, seed=0)
    with pytest.raises(ValueError, match=r"\[B, A\]"):
        Collector([build.counter(), build.counter()], horizon=9).collect(
            lambda observation: np.zeros((1, 2)), 2, seed=0
        )
    with pytest.raises(ValueError, match="no time limit"):
        Collector(build.counter())
    with pytest.raises(ValueError, match="episodes=0"):
        collector.collect(halving, 0, seed=0)


def test_discrete_actions():
    env = gymnasium.make("CartPole-v1", max_episode_steps=20)
    rollouts = Collector(env).collect(RandomPolicy(Spaces.of(env), 0), 4, seed=0)
    actions = np.concatenate([t.actions for t in rollouts.trajectories])
    assert actions.shape[1] == 1 and set(np.unique(actions)) == {0, 1}
    assert (rollouts.true_rewards.returns() == rollouts.trajectories.lengths).all()


def test_random_policy_fills_the_box(spaces):
    policy = RandomPolicy(spaces, 0)
    actions = np.stack([policy(np.zeros(4, np.float32)) for _ in range(500)])
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions.min(axis=0), spaces.action_low, atol=0.1)
    np.testing.assert_allclose(actions.max(axis=0), spaces.action_high, atol=0.1)
    assert policy(np.zeros((3, 4), np.float32)).shape == (3, 2)
