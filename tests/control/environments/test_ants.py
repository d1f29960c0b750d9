from __future__ import annotations

from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from irl_align.control.environments.ant_model import (
    actuator_names,
    actuator_permutation,
    ant_xml,
)
from irl_align.control.environments.ants import AntEnv
from irl_align.control.environments.making import make

ANTS = ("CustomAnt", "DisabledAnt")


def model_of(ant):
    return mujoco.MjModel.from_xml_string(ant_xml(ant))


@pytest.mark.filterwarnings("ignore:.*infinity:UserWarning")
@pytest.mark.parametrize("ant", ANTS)
def test_gymnasium_accepts_it(ant):
    check_env(AntEnv(ant), skip_render_check=True)


@pytest.mark.parametrize("ant", ANTS)
def test_body_and_motors(ant):
    model = model_of(ant)
    assert (model.nbody, model.nq, model.nv, model.nu) == (14, 15, 14, 8)
    assert model.opt.timestep == 0.01 and model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
    np.testing.assert_allclose(model.body("torso").pos, [0, 0, 0.75])
    assert model.geom("torso").size[0] == 0.25
    np.testing.assert_allclose(model.geom_friction[1:], [[1.5, 0.5, 0.5]] * 13)
    np.testing.assert_allclose(model.actuator_ctrlrange, [[-1, 1]] * 8)
    np.testing.assert_allclose(model.dof_damping, [0] * 6 + [1] * 8)
    np.testing.assert_allclose(model.dof_armature, [0] * 6 + [1] * 8)
    found = [model.joint(int(joint)).name for joint in model.actuator_trnid[:, 0]]
    assert tuple(found) == actuator_names(ant)
    # Observations list joints in the order of the bodies, whatever the order of the motors.
    joints = [model.joint(i).name for i in range(1, 9)]
    assert joints == [f"{joint}_{leg}" for leg in (1, 2, 3, 4) for joint in ("hip", "ankle")]


def test_the_whole_ant_is_mujocos_but_for_friction_and_motors():
    """An independent source of the same body: the model that gymnasium ships."""
    assets = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    known, ours = mujoco.MjModel.from_xml_path(str(assets / "ant.xml")), model_of("CustomAnt")
    for name in (
        *("body_mass", "body_inertia", "body_pos", "body_ipos", "qpos0"),
        *("jnt_range", "jnt_axis", "jnt_margin", "dof_damping", "dof_armature"),
        *("geom_size", "geom_margin", "geom_contype", "geom_conaffinity", "geom_condim"),
        *("geom_solref", "geom_solimp", "actuator_trnid"),
    ):
        np.testing.assert_allclose(getattr(ours, name), getattr(known, name), err_msg=name)
    np.testing.assert_allclose(ours.actuator_gear, known.actuator_gear / 5)
    np.testing.assert_allclose(ours.geom_friction[:, 0], known.geom_friction[:, 0] * 1.5)


@pytest.mark.parametrize("ant", ANTS)
def test_legs(ant):
    model = model_of(ant)
    for leg in (1, 2, 3, 4):
        short = ant == "DisabledAnt" and leg in (3, 4)
        # A capsule from end to end: half its length is its second size.
        assert model.geom(f"hip_bone_{leg}").size[1] == pytest.approx(0.2 / np.sqrt(2))
        thigh, shin = (0.1, 0.2) if short else (0.2, 0.4)
        assert model.geom(f"thigh_{leg}").size[1] == pytest.approx(thigh / np.sqrt(2))
        assert model.geom(f"shin_{leg}").size[1] == pytest.approx(shin / np.sqrt(2))
        for motor in (f"hip_{leg}", f"ankle_{leg}"):
            assert model.actuator(motor).gear[0] == (1 if short else 30)
        np.testing.assert_allclose(np.rad2deg(model.joint(f"hip_{leg}").range), [-30, 30])


@pytest.mark.parametrize("leg", [1, 2, 3, 4])
def test_every_shin_bends_down(leg):
    """The sign of an ankle's range goes with its axis: both its ends must lower the foot."""
    model = model_of("CustomAnt")
    data = mujoco.MjData(model)
    low, high = model.joint(f"ankle_{leg}").range
    assert sorted(np.abs(np.rad2deg([low, high])).round(6)) == [30, 70]
    heights = []
    for angle in (0.0, *sorted((low, high), key=abs)):
        data.qpos[model.joint(f"ankle_{leg}").qposadr[0]] = angle
        mujoco.mj_forward(model, data)
        heights.append(data.geom(f"shin_{leg}").xpos[2])
    assert heights[0] == pytest.approx(0.75) and heights[0] > heights[1] > heights[2]
    outward = data.geom(f"hip_bone_{leg}").xpos[:2]
    x, y = {1: (1, 1), 2: (-1, 1), 3: (-1, -1), 4: (1, -1)}[leg]
    assert outward[0] * x > 0 and outward[1] * y > 0


def roll(env, seed=0, steps=60):
    """Observations, actions, rewards and the state before each step, under random actions."""
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(steps):
        velocity = env.unwrapped.data.qvel[0]
        action = rng.uniform(-1, 1, 8).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, velocity, terminated, truncated))
    return rows


@pytest.mark.parametrize("ant", ANTS)
def test_observation_and_contact_forces(ant):
    env = make(ant)
    start, _ = env.reset(seed=0)
    assert not start[27:].any()  # in the air
    rows = roll(env)
    data = env.unwrapped.data
    last = rows[-1][0]
    np.testing.assert_array_equal(last[:13], data.qpos[2:])
    np.testing.assert_array_equal(last[13:27], data.qvel)
    np.testing.assert_array_equal(last[27:], np.clip(data.cfrc_ext, -1, 1).ravel())
    touching = [row[0][27:] for row in rows if row[0][27:].any()]
    assert len(touching) > 10 and np.abs(touching).max() <= 1.0
    assert any(np.abs(data_row).max() == 1.0 for data_row in touching)  # clipped somewhere


@pytest.mark.parametrize("ant", ANTS)
def test_reward(ant):
    env = make(ant)
    for observation, action, reward, velocity, terminated, _ in roll(env):
        forces = np.square(observation[27:]).sum()
        expected = velocity - 0.01 * np.square(action.astype(float)).sum() - 0.0005 * forces
        expected -= 1.0 if observation[0] < 0.2 else 0.0
        assert reward == pytest.approx(expected)
        assert not terminated


def test_lying_low_costs_one():
    env = AntEnv("CustomAnt")
    env.reset(seed=0)
    for height, cost in ((0.75, 0.0), (-5.0, -1.0)):
        env.data.qpos[2] = height
        _, reward, *_, info = env.step(np.zeros(8, np.float32))
        assert info["reward_flipped"] == cost
        parts = sum(value for key, value in info.items() if key.startswith("reward_"))
        assert reward == pytest.approx(parts)


def test_an_episode_is_500_steps_and_seeded():
    env = make("DisabledAnt")
    first, _ = env.reset(seed=7)
    rows = roll(env, steps=500)
    assert not any(row[4] for row in rows)
    assert [row[5] for row in rows] == [False] * 499 + [True]
    again, _ = env.reset(seed=7)
    np.testing.assert_array_equal(first, again)
    assert (env.reset(seed=8)[0] != first).any()


def test_start_noise():
    env = AntEnv("CustomAnt")
    starts = np.stack([env.reset(seed=seed)[0] for seed in range(300)])
    positions = starts[:, :13] - np.array([0.75, 1, *[0] * 11])
    velocities = starts[:, 13:27]
    assert np.abs(positions).max() <= 0.1 and np.abs(positions).max() > 0.095
    assert velocities.std() == pytest.approx(0.1, rel=0.05)
    assert np.abs(velocities).max() > 0.25  # a Gaussian, not a box


def test_the_permutation_names_the_same_motor():
    custom, disabled = actuator_names("CustomAnt"), actuator_names("DisabledAnt")
    assert custom[:2] == ("hip_4", "ankle_4") and disabled[:2] == ("hip_1", "ankle_1")
    into_custom = actuator_permutation("CustomAnt", "DisabledAnt")
    assert tuple(np.array(disabled)[into_custom]) == custom
    back = actuator_permutation("DisabledAnt", "CustomAnt")
    np.testing.assert_array_equal(into_custom[back], np.arange(8))
    np.testing.assert_array_equal(actuator_permutation("CustomAnt", "CustomAnt"), np.arange(8))
    assert (into_custom != np.arange(8)).any()


def test_a_permuted_action_moves_the_same_joints():
    """Drive one joint in both bodies: the order differs, the joint that turns must not."""
    into_custom = actuator_permutation("CustomAnt", "DisabledAnt")
    in_disabled = np.zeros(8, np.float32)
    in_disabled[actuator_names("DisabledAnt").index("hip_1")] = 1.0

    def turned(ant, action):
        env = AntEnv(ant, reset_noise_scale=0.0)
        still = AntEnv(ant, reset_noise_scale=0.0)
        for one, command in ((env, action), (still, np.zeros(8, np.float32))):
            one.reset(seed=0)
            one.step(command)
        return int(np.abs(env.data.qvel - still.data.qvel)[6:].argmax())

    assert turned("DisabledAnt", in_disabled) == turned("CustomAnt", in_disabled[into_custom]) == 0
    assert turned("CustomAnt", in_disabled) != 0


def test_registered_once():
    assert sorted(name for name in gymnasium.registry if name.startswith("irl_align/")) == [
        "irl_align/CustomAnt-v0",
        "irl_align/DisabledAnt-v0",
    ]
