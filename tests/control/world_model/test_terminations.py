from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.environments.making import make
from irl_align.control.policies import RandomPolicy
from irl_align.control.rollouts import Collector
from irl_align.control.spaces import Spaces
from irl_align.control.world_model import terminations as module
from irl_align.control.world_model.terminations import (
    KNOWN,
    Known,
    LearnedTermination,
    Never,
    choose_termination,
    known_condition,
)


@pytest.mark.parametrize(
    "name", ["Hopper", "Walker2d", "Ant", "Humanoid", "InvertedPendulum-v5", "HalfCheetah"]
)
def test_known_conditions_are_those_of_the_environment(name):
    env = make(name, max_episode_steps=150)
    collector = Collector(env)
    policy = RandomPolicy(collector.spaces, 0)
    steps = collector.collect(policy, 6, seed=0).trajectories.steps()
    env.close()
    condition = known_condition(collector.spaces)
    assert condition is not None
    found = condition(torch.from_numpy(steps.next_observations)).numpy()
    np.testing.assert_array_equal(found, steps.terminated)
    assert found.any() == (name != "HalfCheetah")


@pytest.mark.parametrize(
    ("name", "healthy", "changes"),
    [
        ("Hopper", [1.2, 0.0, 0, 0], {0: 0.7, 1: -0.2, 2: -100.0, 3: 100.0}),
        ("Walker2d", [1.2, 0.0], {0: 2.0, 1: 1.0}),
        ("Ant", [0.6, 0.0], {0: 0.19, 1: float("inf")}),
        ("Humanoid", [1.4, 0.0], {0: 2.0}),
        ("InvertedPendulum", [0.0, 0.1], {1: -0.21}),
    ],
)
def test_each_limit_ends_and_so_does_nan(name, healthy, changes):
    condition = KNOWN[name]
    assert not condition(torch.tensor([healthy])).any()
    for column, value in changes.items():
        for wrong in (value, float("nan")):
            state = list(healthy)
            state[column] = wrong
            assert condition(torch.tensor([state])).all(), (column, wrong)


def spaces(name: str) -> Spaces:
    return Spaces(name, 2, np.array([-1], np.float32), np.array([1], np.float32))


def chosen(wanted: str, name: str, ended, fixed_horizon: bool = False):
    states = torch.randn(len(ended), 2, generator=torch.Generator().manual_seed(0))
    return choose_termination(
        wanted, spaces(name), states, ended, fixed_horizon=fixed_horizon, seed=0
    )


def test_which_condition_is_taken(monkeypatch):
    monkeypatch.setattr(module, "_UPDATES", 3)
    no_end = torch.zeros(50)
    some = torch.zeros(50).index_fill(0, torch.tensor([3, 9]), 1.0)
    found, said = chosen("auto", "Walker2d-v5", some)
    assert isinstance(found, Known) and said["name"] == "Walker2d"
    assert said["disagreements"] > 0  # noise is not a walker
    assert isinstance(chosen("auto", "Walker2d-v5", some, fixed_horizon=True)[0], Never)
    assert isinstance(chosen("never", "Walker2d-v5", some)[0], Never)
    assert isinstance(chosen("auto", "Other-v0", no_end)[0], Never)
    assert isinstance(chosen("auto", "Other-v0", some)[0], LearnedTermination)
    assert isinstance(chosen("learned", "Walker2d-v5", some)[0], LearnedTermination)


def test_a_rare_end_is_learned():
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(5_000, 2, generator=generator) * torch.tensor([1.0, 100.0]) + 3
    ended = (states[:, 0] > 5).float()  # 2.3%
    condition, said = choose_termination(
        "auto", spaces("Other-v0"), states, ended, fixed_horizon=False, seed=0
    )
    assert said["ends"] == int(ended.sum()) and said["missed"] + said["false_alarms"] < 25
    fresh = torch.randn(2_000, 2, generator=generator) * torch.tensor([1.0, 100.0]) + 3
    assert (condition(fresh) == (fresh[:, 0] > 5)).float().mean() > 0.99
    assert (condition(fresh)[fresh[:, 0] > 5.3]).all()


def test_episodes_of_one_step_end_always():
    condition, _ = chosen("auto", "Other-v0", torch.ones(20))
    assert condition(torch.randn(5, 2)).all()
