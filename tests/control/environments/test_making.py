from __future__ import annotations

import warnings

import mujoco
import numpy as np
import pytest

from irl_align.control.environments.making import ENVIRONMENTS, FALL, make
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError

DIMENSIONS = {
    "Hopper": (11, 3),
    "HalfCheetah": (17, 6),
    "Walker2d": (17, 6),
    "Ant": (105, 8),
    "Humanoid": (348, 17),
    "CustomAnt": (111, 8),
    "DisabledAnt": (111, 8),
    "Pendulum": (3, 1),
    "MountainCarContinuous": (2, 1),
    "CartPole": (4, 1),
    "MountainCar": (2, 1),
    "Acrobot": (6, 1),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_name_makes_its_environment(name):
    env = make(name)
    spaces = Spaces.of(env)
    assert spaces.environment == ENVIRONMENTS[name]
    assert (spaces.observation_dim, spaces.action_dim) == DIMENSIONS[name]
    observation, _ = env.reset(seed=0)
    assert observation.shape == (spaces.observation_dim,)
    _, _, terminated, truncated, _ = env.step(env.action_space.sample())
    assert not terminated and not truncated


def test_registered_ids_are_names_too():
    assert make("InvertedPendulum-v5").spec.id == "InvertedPendulum-v5"
    assert make("irl_align/CustomAnt-v0").spec.max_episode_steps == 500


def test_the_time_limit_truncates_and_does_not_terminate():
    env = make("Pendulum", max_episode_steps=3)
    env.reset(seed=0)
    flags = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]


def fall(name: str, **options) -> list[bool]:
    env = make(name, max_episode_steps=150, **options)
    env.reset(seed=0)
    env.action_space.seed(0)
    found = []
    while True:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        found.append(terminated)
        if terminated or truncated:
            return found


@pytest.mark.parametrize("name", ["Hopper", "Walker2d", "Humanoid"])
def test_a_fixed_horizon_outlives_the_fall(name):
    assert ENVIRONMENTS[name] in FALL
    assert fall(name)[-1]  # it does fall
    lying = fall(name, fixed_horizon=True)
    assert len(lying) == 150 and not any(lying)


def test_a_fixed_horizon_where_nothing_ends_or_cannot_be_kept_from_it():
    assert make("HalfCheetah", fixed_horizon=True) and make("CustomAnt", fixed_horizon=True)
    with pytest.raises(UserError, match="cannot be switched off"):
        make("CartPole", fixed_horizon=True)


def test_an_episode_is_cut_so_many_steps_after_a_fall_and_not_ended():
    env = make("Walker2d", fixed_horizon=True, cut_after_fall=20)
    for seed in (0, 1):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        healthy, truncated = [], False
        while not truncated:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            healthy.append(env.unwrapped.is_healthy)
            assert not terminated
        assert len(healthy) < 1000 and not any(healthy[-20:])
        assert all(any(healthy[i : i + 20]) for i in range(len(healthy) - 20))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Walker2d", {"cut_after_fall": 20}),
        ("HalfCheetah", {"cut_after_fall": 20, "fixed_horizon": True}),
        ("Hopper", {"cut_after_fall": 0, "fixed_horizon": True}),
    ],
)
def test_a_cut_where_nothing_falls_or_nothing_goes_on_is_refused(name, options):
    with pytest.raises(UserError, match=rf"{name}: cut_after_fall"):
        make(name, **options)


def test_the_absorbing_flag_is_zero_while_the_episode_lasts():
    env = make("Hopper", absorbing_flag=True)
    bare = make("Hopper")
    observation, _ = env.reset(seed=3)
    np.testing.assert_array_equal(observation, [*bare.reset(seed=3)[0], 0.0])
    action = env.action_space.sample()
    np.testing.assert_array_equal(env.step(action)[0], [*bare.step(action)[0], 0.0])
    assert Spaces.of(env).observation_dim == 12
    assert env.observation_space.contains(observation)


def test_options_reach_the_environment():
    still = make("Hopper", reset_noise_scale=0.0)
    np.testing.assert_array_equal(still.reset(seed=0)[0], still.reset(seed=1)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Hoper"}, "slip of 'Hopper'"),
        ({"name": "customant"}, "slip of 'CustomAnt'"),
        ({"name": "zzz"}, "short names: Hopper"),
        ({"name": "Hopper-v99"}, "unknown environment 'Hopper-v99'"),
        ({"name": "Hopper", "reset_nose_scale": 1}, "reset_nose_scale"),
        ({"name": "Hopper", "max_episode_steps": 0}, "must be 1 or more"),
        ({"name": "no_such_module:Hopper-v5"}, "no_such_module.*before the colon"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        make(**arguments)


def test_the_known_deprecation_is_silent_and_leaves_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("HalfCheetah").close()
    printed = capfd.readouterr()
    assert printed.out == printed.err == "" and not list(tmp_path.iterdir())
    assert mujoco.get_mju_user_warning() is None


def test_other_model_warnings_are_shown(monkeypatch):
    import gymnasium

    real = gymnasium.make

    def warns(*args, **kwargs):
        mujoco.MjModel.from_xml_string('<mujoco><compiler settotalmass="1"/></mujoco>')
        mujoco.get_mju_user_warning()("the model is odd")
        return real(*args, **kwargs)

    monkeypatch.setattr(gymnasium, "make", warns)
    with pytest.warns(UserWarning, match="the model is odd") as shown:
        make("Pendulum")
    assert len(shown) == 1
