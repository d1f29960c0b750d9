"""The learner of ValueDICE: actor, nu, and their update; see `value_dice`."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from irl_align.control.fixed_data import FixedDataConfig
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.networks.numpy_actor import NumpyActor, save_actor
from irl_align.control.spaces import Spaces
from irl_align.control.transitions import Transitions
from irl_align.core.checks import not_negative, positive
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open

STATE, ACTOR = "value_dice.pt", "actor.npz"
# Added to the standard deviation of an observation, as the authors do.
_LEAST_SPREAD = 1e-3


@dataclass
class ValueDICEConfig(FixedDataConfig):
    """ValueDICE from demonstrations; the values are the authors'."""

    takes_dataset: ClassVar[bool] = False
    run_dir: str = "runs/value_dice"
    hidden: list[int] = field(default_factory=lambda: [256, 256])
    gamma: float = 0.99
    batch_size: int = 256
    steps: int = 500  # updates a round
    nu_learning_rate: float = 1e-3
    actor_learning_rate: float = 1e-5
    gradient_penalty: float = 10.0
    orthogonal: float = 1e-4  # times the squared overlaps of the actor's units

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch_size", "steps", "nu_learning_rate", "actor_learning_rate")
        not_negative(self, "gradient_penalty", "orthogonal")
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; it must lie strictly between 0 and 1")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {list(self.hidden)!r}; give the width of each layer")
        if self.dataset is not None:
            raise ValueError(
                "dataset is set, but value_dice learns from demonstrations alone; set it to null"
            )


def value_dice_objective(
    differences: Tensor, starts: Tensor, gamma: float, weights: Tensor | None = None
) -> Tensor:
    """J [] of nu(s, a) - gamma (1 - d) nu(s', a') [B] and nu(s0, a0) [N].

    `weights` [B] sum to one; None is their mean.
    """
    shares = differences.new_full((), -math.log(len(differences)))
    logs = shares if weights is None else weights.log()
    return torch.logsumexp(differences + logs, dim=0) - (1.0 - gamma) * starts.mean()


def orthogonality(actor: SquashedGaussianActor) -> Tensor:
    """Sum over the layers of the squared inner products of different units' weights []."""
    total = actor.half_width.new_zeros(())
    for parameter in actor.parameters():
        if parameter.ndim == 2:
            overlaps = parameter @ parameter.T
            total = total + (overlaps - torch.diag(overlaps.diagonal())).square().sum()
    return total


class ValueDICE:
    """Actor, nu and all that their next update depends on.

    Attributes:
        acting: the actor on observations as they are; made anew when parameters have changed.
        steps: 0, for it takes no environment steps.
        updates: how many were ever made.
    """

    steps = 0

    def __init__(self, spaces: Spaces, data: Transitions, config: ValueDICEConfig) -> None:
        self.spaces, self.config = spaces, config
        observations = data.batch.observations
        self.mean = observations.mean(dim=0)
        self.spread = observations.std(dim=0, unbiased=False) + _LEAST_SPREAD
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            try:
                self.actor = SquashedGaussianActor(spaces, config.hidden)
            except ValueError as error:
                raise UserError(f"{error}: value_dice draws actions from a bounded box") from None
            self.nu = _perceptron(spaces.observation_dim + spaces.action_dim, config.hidden)
        self.actor_optimiser = torch.optim.Adam(
            self.actor.parameters(), lr=config.actor_learning_rate
        )
        self.nu_optimiser = torch.optim.Adam(self.nu.parameters(), lr=config.nu_learning_rate)
        self.updates = 0

    @property
    def acting(self) -> NumpyActor:
        """With the standardisation folded into the first layer."""
        folded = copy.deepcopy(self.actor)
        layer: Any = folded.layers[0]
        with torch.no_grad():
            layer.weight.div_(self.spread)
            layer.bias.sub_(layer.weight @ self.mean)
        return NumpyActor.of(folded)

    def update(self, data: Transitions, generator: torch.Generator) -> Tensor:
        """One step of nu, then one of the actor: [J, penalty, E[log pi]] before them."""
        config = self.config
        batch = data.layout.unpack(data.draw(config.batch_size, generator))
        starts = data.layout.unpack(data.draw(config.batch_size, generator)).observations
        states, following, starts = (
            (x - self.mean) / self.spread
            for x in (batch.observations, batch.next_observations, starts)
        )
        going = config.gamma * (1.0 - batch.terminated)
        noise = torch.randn(2, *batch.actions.shape, generator=generator)
        next_actions, _ = self.actor.sample(following, noise[0])
        first_actions, first_log_probs = self.actor.sample(starts, noise[1])

        def objective(next_actions: Tensor, first_actions: Tensor) -> Tensor:
            differences = self._nu(states, batch.actions)
            differences = differences - going * self._nu(following, next_actions)
            return value_dice_objective(differences, self._nu(starts, first_actions), config.gamma)

        value = objective(next_actions.detach(), first_actions.detach())
        share = torch.rand(config.batch_size, 1, generator=generator)
        penalty = self._penalty(
            share,
            (torch.cat([states, states]), torch.cat([batch.actions, batch.actions])),
            (
                torch.cat([starts, following]),
                torch.cat([first_actions, next_actions]).detach(),
            ),
        )
        self.nu_optimiser.zero_grad()
        (value + config.gradient_penalty * penalty).backward()
        self.nu_optimiser.step()

        loss = -objective(next_actions, first_actions)
        if config.orthogonal:
            loss = loss + config.orthogonal * orthogonality(self.actor)
        self.actor_optimiser.zero_grad()
        loss.backward()
        self.actor_optimiser.step()
        self.updates += 1
        return torch.stack([value, penalty, first_log_probs.mean()]).detach()

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """log pi(a|s) in densities of the box scaled to [-1, 1]: [B]."""
        with torch.no_grad():
            return self.actor.log_prob((observations - self.mean) / self.spread, actions)

    def _nu(self, states: Tensor, actions: Tensor) -> Tensor:
        return self.nu(torch.cat([states, actions], dim=-1)).squeeze(-1)

    def _penalty(
        self, share: Tensor, ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]
    ) -> Tensor:
        """E[(|d nu / d (s, a)| - 1)^2] at random points between both."""
        share = torch.cat([share, share])
        points = [
            (share * one.detach() + (1.0 - share) * other.detach()).requires_grad_()
            for one, other in zip(ours, theirs, strict=True)
        ]
        slopes = torch.autograd.grad(self._nu(*points).sum(), points, create_graph=True)
        steepness = (torch.cat(slopes, dim=-1).square().sum(dim=-1) + 1e-12).sqrt()
        return (steepness - 1.0).square().mean()

    def save(self, folder: Path) -> None:
        """Two files: the actor alone (for anyone), and everything."""
        state = {
            "actor": self.actor.state_dict(),
            "nu": self.nu.state_dict(),
            "actor_optimiser": self.actor_optimiser.state_dict(),
            "nu_optimiser": self.nu_optimiser.state_dict(),
            "updates": self.updates,
        }
        with atomic_open(folder / STATE) as file:
            torch.save(state, file)
        save_actor(folder / ACTOR, self.acting, environment=self.spaces.environment)

    def load(self, folder: Path) -> None:
        """Go on exactly where `save` was called. UserError when it cannot be."""
        path = folder / STATE
        try:
            state = torch.load(path, weights_only=True)
            self.actor.load_state_dict(state["actor"])
            self.nu.load_state_dict(state["nu"])
            self.actor_optimiser.load_state_dict(state["actor_optimiser"])
            self.nu_optimiser.load_state_dict(state["nu_optimiser"])
            self.updates = int(state["updates"])
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file; the learner's state is gone") from error
        except Exception as error:  # torch.load has no error of its own for foreign files
            raise UserError(f"{path}: not a learner of this configuration: {error}") from error


class ValueDICECodec:
    """How core's round loop keeps a learner. It loads into the one learner that there is."""

    def __init__(self, learner: ValueDICE) -> None:
        self.learner = learner

    def save(self, value: ValueDICE, folder: Path, /) -> None:
        value.save(folder)

    def load(self, folder: Path, /) -> ValueDICE:
        self.learner.load(folder)
        return self.learner


def _perceptron(inputs: int, hidden: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise((inputs, *hidden)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else inputs, 1))
