"""Saved rewards in other environments than the one that they were learned in (thesis, Table 2.2).

A reward of states alone can be used wherever observations mean the same. One of states and actions
also needs actions that mean the same: between the two ants they are permuted, since their motors
are numbered differently. That numbers of equal count mean the same cannot be seen from a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irl_align.control.environments.ant_model import motor_order
from irl_align.control.networks.rewards import PermutedActions, load_reward
from irl_align.control.reward_fit import NET
from irl_align.control.sac.batches import RewardFunction
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError
from irl_align.core.files import sha256_file
from irl_align.core.run import RunDirectory


@dataclass(frozen=True)
class FrozenReward:
    """A saved reward, ready for an environment.

    Attributes:
        function: r(s, a) of that environment's observations and actions.
        path: the file.
        sha256: of its bytes.
        inputs: state | state_action.
        learned_in: gymnasium id; None when the file does not say.
        alpha: the temperature that it was learned with; None when the file does not say.
        permutation: the index of the environment's action that each of the reward's action inputs
            takes; None when they stand in the same order, or are not looked at.
    """

    function: RewardFunction
    path: Path
    sha256: str
    inputs: str
    learned_in: str | None
    alpha: float | None
    permutation: list[int] | None

    def render(self) -> str:
        """One line for a person."""
        parts = [f"{self.path}: r({'s' if self.inputs == 'state' else 's, a'})"]
        parts.append(f"learned in {self.learned_in or 'an environment that it does not name'}")
        if self.permutation is not None:
            parts.append(f"actions permuted: {self.permutation}")
        return ", ".join(parts)


def reward_file(path: Path | str, seed: int) -> Path:
    """The reward that `path` means: a file, the last one of a run, or that of its run `seed-SEED`.

    The last committed round counts, whatever any round returned: to choose by the true return would
    be to train on it. Raises UserError when there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; give a saved reward, or a run with one")
    run = path
    if not (path / "config.yaml").is_file():
        run = path / f"seed-{seed}"
        if not run.is_dir():
            raise UserError(
                f"{path}: no run, and no seed-{seed} in it; give a saved reward, a run, or a "
                f"folder with a run seed-{seed}"
            )
    committed = RunDirectory.read(run).committed_rounds()
    if not committed:
        raise UserError(f"{run}: no round of this run is committed yet; let it go on first")
    found = RunDirectory.read(run).phase_folder(committed[-1], "reward") / NET
    if not found.is_file():
        raise UserError(
            f"{run}: its last round {committed[-1]} has no reward/{NET}; give a run that learns one"
        )
    return found


def frozen_reward(path: Path, spaces: Spaces) -> FrozenReward:
    """The reward saved at `path`, for the observations and actions of `spaces`.

    Raises UserError when the file is missing or damaged, or does not fit.
    """
    net, facts = load_reward(path)
    observations, actions = net.config["observation_dim"], net.config["action_dim"]
    if observations != spaces.observation_dim:
        one_apart = abs(observations - spaces.observation_dim) == 1
        hint = "; is it environment.absorbing, which adds one?" if one_apart else ""
        raise UserError(
            f"{path}: a reward of {observations} observation numbers, but {spaces.environment} "
            f"has {spaces.observation_dim}{hint}; name an environment with the observations that "
            "it was learned on"
        )
    if net.inputs == "state_action" and actions != spaces.action_dim:
        raise UserError(
            f"{path}: a reward of states and {actions} action numbers, but {spaces.environment} "
            f"has {spaces.action_dim}; name an environment with the same actions, or learn the "
            "reward with reward.inputs=state"
        )
    learned_in = facts.get("environment")
    order = None
    if net.inputs == "state_action" and learned_in is not None:
        order = motor_order(learned_in, spaces.environment)
    return FrozenReward(
        function=net if order is None else PermutedActions(net, order),
        path=path,
        sha256=sha256_file(path),
        inputs=net.inputs,
        learned_in=learned_in,
        alpha=facts.get("alpha"),
        permutation=None if order is None else order.tolist(),
    )
