"""Telling demonstrated steps from the agent's: a classifier, its training, and how it is kept.

    D = sigmoid(logit),   loss = -E_E[log D] - E_A[log(1 - D)] + c E[(|d logit / d x| - 1)^2]

Without the penalty the optimum is logit = log p_E - log p_A: what GAIL rewards, what f-IRL reads a
density ratio from, and what AIRL splits into a reward and a policy. The penalty (WGAN-GP's form, as
in DAC) is taken at random points between both sides.

The net is a `RewardNet`, a plain perceptron with a soft bound. f-IRL's code has a residual one and
clamps; both are left out, because a clamped logit has no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor
from torch.nn.functional import softplus

from irl_align.control.buffers import Batch, ReplayBuffer
from irl_align.control.networks.rewards import RewardNet, load_reward, save_reward
from irl_align.control.sac.compiling import threads_for
from irl_align.core.checks import choice, not_negative, positive
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open

__all__ = [
    "ClassifierConfig",
    "Discriminator",
    "DiscriminatorCodec",
    "drawn",
    "fit_discriminator",
]

TRAINING = "classifier.pt"


@dataclass
class ClassifierConfig:
    """A classifier of steps and its training."""

    hidden: list[int] = field(default_factory=lambda: [128, 128])
    activation: str = "tanh"
    bound: Optional[float] = 10.0  # of the soft bound; None: unbounded
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    batch_size: int = 256  # of each side
    every: int = 10  # new steps of the agent for each Adam step
    gradient_penalty: float = 4.0
    recent: Optional[int] = None  # of the agent's steps only the last so many; None: all

    def __post_init__(self) -> None:
        choice("activation", self.activation, ("relu", "tanh"))
        positive(self, "learning_rate", "batch_size", "every")
        not_negative(self, "weight_decay", "gradient_penalty")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {list(self.hidden)}; give the width of each hidden layer")
        if self.bound is not None and not self.bound > 0:
            raise ValueError(f"bound is {self.bound}; it must be positive, or null for none")
        if self.recent is not None and self.recent < 1:
            raise ValueError(f"recent is {self.recent}; give 1 or more, or null for all")

    def net(self, observation_dim: int, action_dim: int, inputs: str, seed: int) -> RewardNet:
        """A new net of this shape; the global generator stays as it was."""
        options: dict[str, Any] = {
            "inputs": inputs,
            "activation": self.activation,
            "bound": self.bound,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return RewardNet(observation_dim, action_dim, self.hidden, **options).eval()


class Discriminator:
    """Nets with all that their next training depends on.

    Args:
        nets: by the name of their file. The gradient penalty and the saturation are the first's.

    Attributes:
        owed: new steps of the agent that no training step was made for yet.
        facts: what is saved beside every net.
    """

    def __init__(self, nets: Mapping[str, RewardNet], config: ClassifierConfig) -> None:
        self.nets, self.config = dict(nets), config
        self.owed = 0
        self.facts: dict[str, Any] = {}
        self.optimiser = torch.optim.Adam(
            [p for net in self.nets.values() for p in net.parameters()],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )

    @property
    def first(self) -> RewardNet:
        return next(iter(self.nets.values()))

    def steps_for(self, new: int) -> int:
        """How many training steps `new` steps of the agent call for; the rest is owed."""
        steps, self.owed = divmod(self.owed + new, self.config.every)
        return steps

    def save(self, folder: Path) -> None:
        for name, net in self.nets.items():
            save_reward(folder / f"{name}.pt", net, **self.facts)
        with atomic_open(folder / TRAINING) as file:
            torch.save({"optimiser": self.optimiser.state_dict(), "owed": self.owed}, file)

    def load(self, folder: Path) -> None:
        """In place. Raises UserError when a file is missing, damaged or of other nets."""
        try:
            for name, net in self.nets.items():
                net.load_state_dict(load_reward(folder / f"{name}.pt")[0].state_dict())
            saved = torch.load(folder / TRAINING, weights_only=True)
            self.optimiser.load_state_dict(saved["optimiser"])
            self.owed = int(saved["owed"])
        except UserError:
            raise
        except Exception as error:  # torch.load has no error of its own for foreign files
            raise UserError(
                f"{folder}: not a discriminator of this configuration: {error}"
            ) from error


class DiscriminatorCodec:
    """How core's round loop keeps a discriminator. It loads into the one that there is."""

    def __init__(self, discriminator: Discriminator) -> None:
        self.discriminator = discriminator

    def save(self, value: Discriminator, folder: Path, /) -> None:
        value.save(folder)

    def load(self, folder: Path, /) -> Discriminator:
        self.discriminator.load(folder)
        return self.discriminator


def drawn(
    buffer: ReplayBuffer, count: int, generator: torch.Generator, recent: int | None = None
) -> Batch:
    """`count` transitions with replacement, of the last `recent` ones where that is given.

    With a generator of the caller's: the replay's own must stay where the policy phase left it, or
    a run that was killed between the two phases would end elsewhere.
    """
    size = len(buffer) if recent is None else min(recent, len(buffer))
    index = torch.randint(size, (count,), generator=generator)
    if recent is not None:
        index = buffer.latest_index(size)[index]
    return buffer.layout.unpack(buffer.rows(index))


def fit_discriminator(
    discriminator: Discriminator,
    logits: Callable[[Batch], Tensor],
    expert: ReplayBuffer,
    agent: ReplayBuffer,
    steps: int,
    *,
    seed: int,
    prefix: str = "reward",
) -> dict[str, float]:
    """`steps` Adam steps on batches of both sides, in place.

    Args:
        logits: of a batch [B] -> [B], differentiable in the nets.
        seed: of the batches and of the points that the penalty looks at.

    Returns, as means over the steps, `{prefix}/{loss,accuracy,demo_score,sample_score}` (loss
    without the penalty, 2 log 2 at chance; scores are logits) and `{prefix}/saturation` at the end;
    nothing for no step. Raises UserError when a net leaves the finite numbers.
    """
    config, net = discriminator.config, discriminator.first
    generator = torch.Generator().manual_seed(seed)
    measured: list[Tensor] = []
    saturation = 0.0
    with threads_for(config.hidden):
        for step in range(steps):
            theirs = drawn(expert, config.batch_size, generator)
            ours = drawn(agent, config.batch_size, generator, config.recent)
            demo, sample = logits(theirs), logits(ours)
            loss = classification_loss(demo, sample)
            total = loss
            if config.gradient_penalty:
                penalty = _gradient_penalty(net, theirs, ours, generator)
                total = loss + config.gradient_penalty * penalty
            discriminator.optimiser.zero_grad()
            total.backward()
            discriminator.optimiser.step()
            with torch.no_grad():
                accuracy = ((demo > 0).float().mean() + (sample < 0).float().mean()) / 2
                measured.append(torch.stack([loss, accuracy, demo.mean(), sample.mean()]).detach())
                if step + 1 == steps:
                    both = [torch.cat([theirs[i], ours[i]]) for i in (0, 1)]
                    saturation = net.saturation(net(*both))
    if not measured:
        return {}
    if not all(
        torch.isfinite(p).all() for n in discriminator.nets.values() for p in n.parameters()
    ):
        raise UserError(
            "the discriminator is no longer finite; lower its learning_rate or gradient_penalty"
        )
    keys = ("loss", "accuracy", "demo_score", "sample_score")
    means = torch.stack(measured).mean(dim=0).tolist()
    found = {f"{prefix}/{key}": value for key, value in zip(keys, means, strict=True)}
    return {**found, f"{prefix}/saturation": saturation}


def classification_loss(demo: Tensor, sample: Tensor) -> Tensor:
    """-mean log sigmoid(demo) - mean log(1 - sigmoid(sample)) []; logits [N] and [M]."""
    return softplus(-demo).mean() + softplus(sample).mean()


def _gradient_penalty(
    net: RewardNet, theirs: Batch, ours: Batch, generator: torch.Generator
) -> Tensor:
    """E[(|d net / d (s, a)| - 1)^2] at random points between a demonstrated and an agent's step."""
    share = torch.rand(len(theirs.actions), 1, generator=generator)
    observations, actions = (
        (share * theirs[i] + (1 - share) * ours[i]).requires_grad_() for i in (0, 1)
    )
    wanted = [observations, actions] if net.inputs == "state_action" else [observations]
    slopes = torch.autograd.grad(net(observations, actions).sum(), wanted, create_graph=True)
    # The square root has no derivative at 0, where a dead net stands.
    steepness = (torch.cat(slopes, dim=-1).square().sum(dim=-1) + 1e-12).sqrt()
    return (steepness - 1.0).square().mean()
