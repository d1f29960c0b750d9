"""Environments by name, with the options that inverse RL cares about.

Left out: observation normalisation (a policy and a reward that need running statistics cannot be
handed on as files) and vectorised environments (slower here than one, see `rollouts`).
"""

from __future__ import annotations

import contextlib
import difflib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from irl_align.core.errors import UserError

if TYPE_CHECKING:
    import gymnasium

# Short name -> gymnasium id.
ENVIRONMENTS = {
    "Hopper": "Hopper-v5",
    "HalfCheetah": "HalfCheetah-v5",
    "Walker2d": "Walker2d-v5",
    "Ant": "Ant-v5",
    "Humanoid": "Humanoid-v5",
    "CustomAnt": "irl_align/CustomAnt-v0",
    "DisabledAnt": "irl_align/DisabledAnt-v0",
    "Pendulum": "Pendulum-v1",
    "MountainCarContinuous": "MountainCarContinuous-v0",
    "CartPole": "CartPole-v1",
    "MountainCar": "MountainCar-v0",
    "Acrobot": "Acrobot-v1",
}
# These end early when the robot falls, unless they are told not to.
FALL = {"Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"}
NEVER_END = {
    *("HalfCheetah-v5", "Pendulum-v1"),
    *("irl_align/CustomAnt-v0", "irl_align/DisabledAnt-v0"),
}


def make(
    name: str,
    *,
    max_episode_steps: int | None = None,
    fixed_horizon: bool = False,
    absorbing_flag: bool = False,
    cut_after_fall: int | None = None,
    **options: Any,
) -> gymnasium.Env[Any, Any]:
    """The environment `name`: a key of `ENVIRONMENTS`, or any registered gymnasium id.

    `step` keeps `terminated` (nothing comes after) apart from `truncated` (the time limit).

    Args:
        max_episode_steps: another time limit than the registered one.
        fixed_horizon: episodes last to the time limit whatever happens (f-IRL's setting); a
            fallen robot goes on lying there.
        absorbing_flag: observations get one more number that is 0 (see `absorbing`).
        cut_after_fall: with `fixed_horizon`, truncate once the robot has lain for so many steps on
            end. It ends no life, as a time limit does not, but spares steps that all look alike.
        options: handed to the environment, such as `reset_noise_scale`.

    Raises UserError for an unknown name (with the nearest one), an option that the environment does
    not have, a missing package, `fixed_horizon` where an early end cannot be switched off, and
    `cut_after_fall` where no robot falls.
    """
    try:
        import gymnasium

        from irl_align.control.environments import ants  # registers the pair of ants
    except ImportError as error:
        raise UserError(
            f"environments need gymnasium and mujoco ({error}): pip install 'irl-align[control]'"
        ) from error
    del ants
    identifier = ENVIRONMENTS.get(name, name)
    if identifier not in gymnasium.registry and ":" not in identifier:
        raise UserError(_unknown(name, list(gymnasium.registry)))
    if fixed_horizon:
        if identifier in FALL:
            options["terminate_when_unhealthy"] = False
        elif identifier not in NEVER_END:
            raise UserError(
                f"{name}: fixed_horizon=true, but its early end cannot be switched off; use one "
                f"of {', '.join(sorted(FALL | NEVER_END))}, or absorbing_flag=true"
            )
    if cut_after_fall is not None:
        _check_cut(name, identifier, cut_after_fall, fixed_horizon)
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UserError(f"{name}: max_episode_steps={max_episode_steps}, must be 1 or more")
    try:
        with _model_warnings():
            env = gymnasium.make(
                identifier,
                max_episode_steps=max_episode_steps,
                disable_env_checker=True,  # it costs time in every first step; tests check
                **options,
            )
    except TypeError as error:
        raise UserError(f"{name}: an option does not fit: {error}") from error
    except ModuleNotFoundError as error:  # of "module:id"
        raise UserError(f"{name}: {error}; check the name before the colon") from error
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"{name}: {error}; pip install 'irl-align[control]'") from error
    except gymnasium.error.Error as error:
        raise UserError(f"{name}: {error}") from error
    if cut_after_fall is not None:
        from irl_align.control.environments.falling import CutAfterFall

        env = CutAfterFall(env, cut_after_fall)
    return _with_absorbing_flag(env) if absorbing_flag else env


def _check_cut(name: str, identifier: str, steps: int, fixed_horizon: bool) -> None:
    if identifier not in FALL or not fixed_horizon:
        raise UserError(
            f"{name}: cut_after_fall={steps} needs fixed_horizon=true and a robot that falls, one "
            f"of {', '.join(sorted(FALL))}"
        )
    if steps < 1:
        raise UserError(f"{name}: cut_after_fall={steps}, must be 1 or more")


def _unknown(name: str, registered: list[str]) -> str:
    near = difflib.get_close_matches(name, [*ENVIRONMENTS, *registered], n=1, cutoff=0.5)
    hint = f"; is it a slip of {near[0]!r}?" if near else ""
    return (
        f"unknown environment {name!r}{hint} (short names: {', '.join(ENVIRONMENTS)}; or any "
        "registered gymnasium id)"
    )


def _with_absorbing_flag(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    import numpy as np
    from gymnasium.spaces import Box
    from gymnasium.wrappers import TransformObservation

    from irl_align.control.spaces import Spaces

    Spaces.of(env)  # refuses what is not a vector
    space: Any = env.observation_space
    flagged = Box(
        np.append(space.low, 0).astype(space.dtype),
        np.append(space.high, 1).astype(space.dtype),
        dtype=space.dtype,
    )
    return TransformObservation(env, lambda seen: np.append(seen, space.dtype.type(0)), flagged)


@contextlib.contextmanager
def _model_warnings() -> Iterator[None]:
    """MuJoCo's warnings while a model is read, as Python's, but for one that is not ours to mend.

    By default MuJoCo prints them and leaves a MUJOCO_LOG.TXT in the working folder; half-cheetah's
    model, which gymnasium ships, has an attribute that MuJoCo 4 calls deprecated.
    """
    import mujoco

    previous = mujoco.get_mju_user_warning()
    found: list[str] = []
    mujoco.set_mju_user_warning(found.append)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(previous)
    for message in found:
        if "settotalmass" not in message:
            warnings.warn(f"mujoco: {message}", stacklevel=4)
