"""Reward nets r(s) and r(s, a).

A perceptron with an activation after every hidden layer and a smooth bound: a hard clamp has no
gradient once it is reached, so a saturated reward could never come back. State-only rewards
("maxentirl") transfer to other bodies, state-action ones ("maxentirl_sa") fit more.

A robot's joints turn at 10 rad/s while its posture moves by a tenth: a net that is held smooth sees
the first alone. `standardise` measures every input in the demonstrations' standard deviations; the
scale is part of the saved net. Running statistics of the agent's steps are left out: r would move
without a step of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open

Inputs = Literal["state", "state_action"]
RewardActivation = Literal["relu", "tanh"]
LEAST_DEVIATION = 0.1  # in the observations' own units (m, rad, m/s, rad/s)
_MODULES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def soft_bound(x: Tensor, bound: float) -> Tensor:
    """bound * tanh(x / bound): the identity near 0, never beyond +-bound."""
    return bound * torch.tanh(x / bound)


class RewardNet(nn.Module):
    """r(s) or r(s, a) as a perceptron.

    Args:
        inputs: "state" ignores the actions that it is given, so that learners need not ask.
        bound: of the soft bound; None leaves the output unbounded.
        spectral_norm: divide every weight by its largest singular value, so that r is at most
            1-Lipschitz. The estimate improves by one power iteration per call in training mode;
            in `eval()` mode the net is fixed.
        standardised: inputs are divided by a `scale` [F], which is 1 until `standardise` is called.
        columns: numbers of the observations' columns that r looks at; None for all. F is their
            number, with the actions' if r sees those.

    Raises ValueError on a choice or a column that does not exist, or a bound that is not positive.
    """

    scale: Tensor | None
    columns: Tensor | None

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (64, 64),
        *,
        inputs: Inputs = "state_action",
        activation: RewardActivation = "relu",
        bound: float | None = 10.0,
        spectral_norm: bool = False,
        standardised: bool = False,
        columns: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if inputs not in get_args(Inputs) or activation not in _MODULES:
            raise ValueError(f"unknown {inputs=} or {activation=}")
        if bound is not None and not bound > 0:
            raise ValueError(f"bound must be positive, or None, got {bound}")
        if columns is not None and not (
            len(columns) == len(set(columns)) > 0
            and all(0 <= column < observation_dim for column in columns)
        ):
            raise ValueError(
                f"columns must be different numbers from 0 to {observation_dim - 1}, one at least, "
                f"got {list(columns)}"
            )
        self.config: dict[str, Any] = {
            "observation_dim": observation_dim,
            "action_dim": action_dim,
            "hidden": list(hidden),
            "inputs": inputs,
            "activation": activation,
            "bound": bound,
            "spectral_norm": spectral_norm,
            "standardised": standardised,
            "columns": None if columns is None else list(columns),
        }
        self.inputs, self.bound = inputs, bound
        width = observation_dim if columns is None else len(columns)
        width += action_dim if inputs == "state_action" else 0
        self.register_buffer("columns", None if columns is None else torch.tensor(list(columns)))
        self.register_buffer("scale", torch.ones(width) if standardised else None)
        sizes = (width, *hidden, 1)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            linear = nn.Linear(a, b)
            layers += [with_spectral_norm(linear) if spectral_norm else linear]
            layers += [_MODULES[activation]()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[..., O], [..., A] -> rewards of single steps [...]."""
        return self.bounded(self.unbounded(observations, actions))

    def unbounded(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[..., O], [..., A] -> what the bound is put on [...]."""
        return self.of_features(self.features(observations, actions))

    def features(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[..., O], [..., A] -> what the first layer sees [..., F], in its own units."""
        seen = self._seen(observations, actions)
        return seen if self.scale is None else seen / self.scale

    def of_features(self, features: Tensor) -> Tensor:
        """[..., F] -> what the bound is put on [...]."""
        return self.net(features).squeeze(-1)

    def _seen(self, observations: Tensor, actions: Tensor) -> Tensor:
        if self.columns is not None:
            observations = observations.index_select(-1, self.columns)
        if self.inputs == "state":
            return observations
        return torch.cat([observations, actions], dim=-1)

    @torch.no_grad()
    def standardise(self, observations: Tensor, actions: Tensor) -> None:
        """Let `scale` be the standard deviations over these steps [N, O], [N, A].

        They count as `LEAST_DEVIATION` at least: what hardly moves in a demonstration would be
        magnified without end elsewhere.
        """
        if self.scale is None:
            raise ValueError("the net was made without standardised=True")
        deviations = self._seen(observations, actions).std(dim=0, correction=0)
        self.scale.copy_(deviations.clamp(min=LEAST_DEVIATION))

    def bounded(self, rewards: Tensor) -> Tensor:
        """What `unbounded` gave, with the soft bound if there is one."""
        return rewards if self.bound is None else soft_bound(rewards, self.bound)

    @torch.no_grad()
    def centre(self, observations: Tensor, actions: Tensor) -> None:
        """Shift r, before its bound, so that its mean over these steps is 0."""
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        last.bias.sub_(self.unbounded(observations, actions).mean())

    def saturation(self, rewards: Tensor) -> float:
        """Share of `rewards` beyond 95% of the bound, where little gradient is left."""
        if self.bound is None:
            return 0.0
        return (rewards.detach().abs() > 0.95 * self.bound).float().mean().item()


class PermutedActions(nn.Module):
    """A reward for a body whose motors are numbered differently: r(s, a[..., order]).

    `order` comes from `environments.ant_model.actuator_permutation(source, target)`.
    """

    order: Tensor

    def __init__(self, reward: nn.Module, order: ArrayLike) -> None:
        super().__init__()
        self.reward = reward
        self.register_buffer("order", torch.from_numpy(np.array(order, dtype=np.int64)))

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.reward(observations, actions.index_select(-1, self.order))


def save_reward(path: Path, reward: RewardNet, **facts: Any) -> None:
    """Write a reward net, atomically. `facts` (plain values) say what it belongs to.

    Put the environment and alpha there: the scale of a reward means something only with the
    temperature that it was learned under.
    """
    with atomic_open(path) as file:
        torch.save({"config": reward.config, "weights": reward.state_dict(), "facts": facts}, file)


def load_reward(path: Path) -> tuple[RewardNet, dict[str, Any]]:
    """What `save_reward` wrote: the net in `eval()` mode on the CPU, and the facts.

    Raises UserError when the file is missing, damaged or something else. Loads no pickled code.
    """
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        reward = RewardNet(**saved["config"])
        reward.load_state_dict(saved["weights"])
        facts = dict(saved["facts"])
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such reward net; check the path") from error
    except Exception as error:  # torch.load has no error of its own for foreign files
        raise UserError(f"{path}: not a reward net that can be loaded: {error}") from error
    return reward.eval(), facts
