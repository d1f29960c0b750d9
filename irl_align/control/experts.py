"""Demonstrations from a trained policy: our own saved ones, or Stable-Baselines3's."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from irl_align.control.demonstrations.saving import save_demonstrations
from irl_align.control.environments.making import make
from irl_align.control.networks.numpy_actor import load_actor
from irl_align.control.policies import Policy
from irl_align.control.rollouts import Collector, Rollouts
from irl_align.control.trajectories import Floats
from irl_align.core.errors import UserError

SB3_ALGORITHMS = ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")


class StableBaselinesPolicy:
    """A Stable-Baselines3 model as a policy.

    Args:
        model: has `predict(observation, deterministic=...) -> (action, state)`.
        normaliser: has `normalize_obs(observation)`, as a `VecNormalize`: an expert that was
            trained on normalised observations needs it, and is no expert without.
    """

    def __init__(self, model: Any, *, deterministic: bool = True, normaliser: Any = None) -> None:
        self._model, self._deterministic, self._normaliser = model, deterministic, normaliser

    def __call__(self, observation: Floats, /) -> Any:
        if self._normaliser is not None:
            observation = self._normaliser.normalize_obs(observation)
        action, _ = self._model.predict(observation, deterministic=self._deterministic)
        return action


def load_policy(
    path: Path | str, *, algorithm: str | None = None, deterministic: bool = True, seed: int = 0
) -> Policy:
    """A policy from a file: `.npz` as our actors are saved, or `.zip` of Stable-Baselines3.

    `algorithm` is the class that a zip was saved by ("SAC", "PPO", ...), which it does not say.
    `seed` is for the noise of our own stochastic actors. A zip is unpickled in part: load only what
    you trust. Raises UserError naming the file and the mend.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file{_near(path)}")
    if path.suffix == ".npz":
        actor = load_actor(path)
        return actor.deterministic() if deterministic else actor.stochastic(seed)
    if path.suffix != ".zip":
        raise UserError(
            f"{path}: unknown kind of policy {path.suffix!r}; accepted: .npz (an actor saved by "
            "save_actor) and .zip (Stable-Baselines3)"
        )
    return StableBaselinesPolicy(_load_sb3(path, algorithm), deterministic=deterministic)


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist"
    names = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"; is it a slip of {near[0]!r}?" if near else ""


def _load_sb3(path: Path, algorithm: str | None) -> Any:
    if algorithm not in SB3_ALGORITHMS:
        raise UserError(
            f"{path}: algorithm={algorithm!r}; say which class saved it, one of "
            f"{', '.join(SB3_ALGORITHMS)}"
        )
    try:
        import stable_baselines3
    except ImportError as error:
        raise UserError(
            f"{path}: a zip of Stable-Baselines3 needs it: pip install stable-baselines3"
        ) from error
    try:
        return getattr(stable_baselines3, algorithm).load(path, device="cpu")
    except Exception as error:  # whatever the zip's pickles raise
        raise UserError(f"{path}: cannot be loaded as {algorithm}: {error}") from error


def record_demonstrations(
    policy: Policy,
    environment: str,
    episodes: int,
    *,
    seed: int,
    path: Path | str | None = None,
    policy_name: str = "",
    **options: Any,
) -> Rollouts:
    """Whole episodes of a policy, saved to `path` (.npz) with what they came from.

    `options` go to `environments.making.make`. All episodes are kept, good or bad: to select by
    the true return is a choice of its own.
    """
    env = make(environment, **options)
    try:
        rollouts = Collector(env).collect(policy, episodes, seed=seed)
    finally:
        env.close()
    if path is not None:
        identifier = env.spec.id if env.spec is not None else environment
        save_demonstrations(
            path,
            rollouts.trajectories,
            rollouts.true_rewards,
            environment=identifier,
            options=options,
            policy=policy_name,
            seed=seed,
        )
    return rollouts
