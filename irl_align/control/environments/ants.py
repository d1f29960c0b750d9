"""CustomAnt and DisabledAnt as gymnasium environments; importing this module registers them.

    observation [111] = qpos[2:] (13), qvel (14), cfrc_ext of all 14 bodies clipped to +-1 (84)
    reward = x velocity before the step - 0.01 |a|^2 - 0.0005 sum cfrc_ext^2 (clipped)
             - 1 when the torso's centre is below 0.2 m (its radius is 0.25 m: hardly ever)
    action [8] in [-1, 1], in the motor order of `ant_model`

An episode never terminates; the registered time limit truncates it after 500 steps of 0.05 s. It
starts from the model's pose with U(-0.1, 0.1) on positions and 0.1 N(0, 1) on velocities.

MuJoCo fills cfrc_ext only when asked (mj_rnePostConstraint); without that 84 of the 111 numbers
would be zero without a word.

Left out: rendering.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from irl_align.control.environments.ant_model import FRAME_SKIP, Ant, ant_xml

CONTROL_COST = 0.01
CONTACT_COST = 0.5e-3
FLIPPED_BELOW = 0.2  # m
FLIPPED_COST = 1.0
MAX_EPISODE_STEPS = 500

State = NDArray[np.float64]


class AntEnv(gymnasium.Env[State, NDArray[np.float32]]):
    """One of the two ants. `info` of a step has the x position and the parts of the reward."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as gymnasium declares it

    def __init__(self, ant: Ant = "CustomAnt", reset_noise_scale: float = 0.1) -> None:
        self.model = mujoco.MjModel.from_xml_string(ant_xml(ant))
        self.data = mujoco.MjData(self.model)
        self.reset_noise_scale = reset_noise_scale
        size = self.model.nq - 2 + self.model.nv + 6 * self.model.nbody
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float64)
        self.action_space = Box(-1.0, 1.0, (self.model.nu,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[State, dict[str, Any]]:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        scale = self.reset_noise_scale
        self.data.qpos[:] += self.np_random.uniform(-scale, scale, self.model.nq)
        self.data.qvel[:] += scale * self.np_random.standard_normal(self.model.nv)
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_rnePostConstraint(self.model, self.data)
        return self._observation(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[State, float, bool, bool, dict[str, Any]]:
        forward = float(self.data.qvel[0])
        self.data.ctrl[:] = action  # MuJoCo clips it to [-1, 1]; the cost sees it unclipped
        mujoco.mj_step(self.model, self.data, FRAME_SKIP)
        mujoco.mj_rnePostConstraint(self.model, self.data)
        control = CONTROL_COST * float(np.square(action, dtype=np.float64).sum())
        contact = CONTACT_COST * float(np.square(self._contact_forces()).sum())
        flipped = FLIPPED_COST * float(self.data.qpos[2] < FLIPPED_BELOW)
        info = {
            "x_position": float(self.data.qpos[0]),
            "reward_forward": forward,
            "reward_control": -control,
            "reward_contact": -contact,
            "reward_flipped": -flipped,
        }
        return self._observation(), forward - control - contact - flipped, False, False, info

    def _contact_forces(self) -> State:
        """[14, 6]: external torque and force on every body, clipped to +-1."""
        return np.clip(self.data.cfrc_ext, -1.0, 1.0)

    def _observation(self) -> State:
        return np.concatenate([self.data.qpos[2:], self.data.qvel, self._contact_forces().ravel()])


for _ant in ("CustomAnt", "DisabledAnt"):
    if f"irl_align/{_ant}-v0" not in gymnasium.registry:
        gymnasium.register(
            f"irl_align/{_ant}-v0",
            entry_point="irl_align.control.environments.ants:AntEnv",
            max_episode_steps=MAX_EPISODE_STEPS,
            kwargs={"ant": _ant},
        )
