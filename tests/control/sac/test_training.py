from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.config import SACConfig
from irl_align.control.networks.numpy_actor import load_actor
from irl_align.control.rollouts import Collector
from irl_align.control.sac.batches import Relabelled
from irl_align.control.sac.learner import Learner
from irl_align.control.sac.training import train
from irl_align.core.errors import UserError


@pytest.fixture
def config() -> SACConfig:
    return SACConfig(hidden=[8, 8], batch_size=6, capacity=500, update_every=2, compile="never")


def learner_of(build, config, **options):
    collector = Collector(build.counter(**options), horizon=7)
    return Learner(collector.spaces, config, seed=0, remember=3), collector


def first_number(observations, actions):
    """A reward that shows which pairs it was asked for."""
    return observations[..., 1] + 100 * actions[..., 0]


def test_rewards_are_those_of_the_moment_of_the_draw(build, config):
    learner, collector = learner_of(build, config)
    learner.take(collector.collect(lambda o: np.zeros(2), 3, seed=0).trajectories)
    scale = 1.0

    def reward(observations, actions):
        assert not torch.is_grad_enabled()
        return scale * first_number(observations, actions)

    source = Relabelled(learner.buffer, reward)
    for scale in (1.0, -5.0):  # the one in the closure
        rows, rewards = source.draw(3, 4)
        assert rows.shape[:2] == rewards.shape == (3, 4)
        batch = learner.buffer.layout.unpack(rows)
        torch.testing.assert_close(rewards, scale * first_number(batch[0], batch[1]))


def test_one_update_for_each_step_in_groups(build, config):
    learner, collector = learner_of(build, config)
    source = Relabelled(learner.buffer, first_number)
    _, metrics = train(learner, collector, source, 2, seed=0, random=True)
    assert metrics == {} and learner.agent.updates == 0
    before = learner.steps
    rollouts, metrics = train(learner, collector, source, 5, seed=1)
    taken = rollouts.trajectories.total_steps
    assert learner.steps == before + taken == collector.steps == len(learner.buffer)
    assert learner.agent.updates == 2 * (taken // 2) and learner.due == taken % 2
    assert set(metrics) == {
        f"policy/{k}" for k in ("critic_loss", "actor_loss", "alpha", "entropy")
    }
    assert [len(t) for t in learner.latest] == [len(t) for t in rollouts.trajectories][-3:]
    np.testing.assert_array_equal(
        learner.buffer.recent(taken).observations,
        np.concatenate([t.observations[:-1] for t in rollouts.trajectories]),
    )


def test_the_averaged_actor_follows_by_environment_steps(build, config, tmp_path):
    config.average_over = 20
    learner, collector = learner_of(build, config)
    source = Relabelled(learner.buffer, first_number)
    assert learner.average is not None
    expected = [p.clone() for p in learner.agent.actor.parameters()]
    train(learner, collector, source, 2, seed=0, random=True)
    for seed in (1, 2):
        rollouts, _ = train(learner, collector, source, 2, seed=seed)
        share = 1 - np.exp(-rollouts.trajectories.total_steps / 20)
        for slow, fast in zip(expected, learner.agent.actor.parameters(), strict=True):
            slow.mul_(1 - share).add_(share * fast.detach())
    for slow, wanted in zip(learner.average.parameters(), expected, strict=True):
        torch.testing.assert_close(slow, wanted)
    latest, _ = learner.agent.acting.distribution(np.ones(4, np.float32))
    averaged, _ = learner.acting.distribution(np.ones(4, np.float32))
    assert np.abs(latest - averaged).max() > 1e-4  # else this test shows nothing
    learner.save(tmp_path)
    saved, _ = load_actor(tmp_path / "actor.npz").distribution(np.ones(4, np.float32))
    np.testing.assert_array_equal(saved, averaged)


def test_nothing_is_learned_before_a_batch_is_there(build, config):
    config.batch_size = 50
    learner, collector = learner_of(build, config)
    train(learner, collector, Relabelled(learner.buffer, first_number), 2, seed=0)
    assert learner.agent.updates == 0 and len(learner.buffer) == learner.steps > 0


def test_a_saved_learner_goes_on_as_the_one_that_never_stopped(build, config, tmp_path, same):
    def run(stop: bool) -> Learner:
        learner, collector = learner_of(build, config)
        for number in range(4):
            if stop and number == 2:
                learner.save(tmp_path)
                learner, collector = learner_of(build, config)
                learner.agent.update(torch.randn(1, 6, 11), torch.randn(1, 6))  # other weights
                learner.load(tmp_path)
            source = Relabelled(learner.buffer, first_number)
            train(learner, collector, source, 2, seed=number)
        return learner

    whole, broken = run(False), run(True)
    assert whole.agent.updates > 10
    assert same(whole.agent.state_dict(), broken.agent.state_dict())
    assert same(whole.buffer.state_dict(), broken.buffer.state_dict())
    assert (whole.steps, whole.due) == (broken.steps, broken.due)
    for a, b in zip(whole.latest, broken.latest, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)


def test_a_damaged_learner_is_named(build, config, tmp_path):
    learner, _ = learner_of(build, config)
    with pytest.raises(UserError, match=r"learner\.pt: no such file"):
        learner.load(tmp_path)
    learner.save(tmp_path)
    wider = SACConfig(hidden=[9], batch_size=6, capacity=500, compile="never")
    other, _ = learner_of(build, wider)
    with pytest.raises(UserError, match=r"learner\.pt: not a learner of this configuration"):
        other.load(tmp_path)


def test_compiling_on_request_only_where_it_can_be(spaces, config, monkeypatch):
    from irl_align.control.sac import agent as module
    from irl_align.control.sac import compiling

    monkeypatch.setattr(compiling, "why_not", lambda: "there is no C++ compiler")
    config.compile = "always"
    with pytest.raises(UserError, match=r"sac\.compile=always.*no C\+\+ compiler.*auto"):
        module.SAC(spaces, config, seed=0)
    config.compile = "auto"
    with pytest.warns(UserWarning, match="no C"):
        assert not module.SAC(spaces, config, seed=0, planned_updates=10**6).compiled
    monkeypatch.setattr(compiling, "why_not", lambda: None)
    assert module.SAC(spaces, config, seed=0, planned_updates=10**6).compiled
    assert not module.SAC(spaces, config, seed=0, planned_updates=100).compiled


def test_actions_without_a_box_are_refused(config):
    import gymnasium

    from irl_align.control.sac.agent import SAC
    from irl_align.control.spaces import Spaces

    spaces = Spaces.of(gymnasium.make("CartPole-v1"))
    with pytest.raises(UserError, match="CartPole-v1: actions must be a box with bounds"):
        SAC(spaces, config, seed=0)
