"""Steps of a policy in the world model, in chunks of rows that fit into a cache.

A buffer of all that an epoch imagines would be millions of rows for long horizons; here every step
of every chunk goes straight into a ring (`PenalisedBuffer`) that keeps the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from irl_align.control.buffers import Batch, ReplayBuffer
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.world_model.fit import CHUNK
from irl_align.control.world_model.model import WorldModel

# What a policy does in [B, O]: actions [B, A], with noise of the generator.
Act = Callable[[Tensor, torch.Generator], Tensor]


class ImaginedSteps(NamedTuple):
    """One step of all rows of a chunk that still go on, R of them."""

    time: int  # from 0
    rows: Tensor  # [R]: which of the starts they come from
    batch: Batch
    penalties: Tensor  # [R]


def stochastic(actor: SquashedGaussianActor) -> Act:
    """Draws from pi(.|s)."""

    def act(observations: Tensor, generator: torch.Generator) -> Tensor:
        shape = len(observations), len(actor.centre)
        return actor.sample(observations, torch.randn(shape, generator=generator)).actions

    return act


@torch.no_grad()
def imagine(
    model: WorldModel,
    act: Act,
    starts: Tensor,
    horizon: int,
    generator: torch.Generator,
    *,
    penalty: str | None = None,
    chunk: int = CHUNK,
) -> Iterator[ImaginedSteps]:
    """Rollouts of at most `horizon` steps from starts [B, O], chunk after chunk.

    A row that terminates is part of its step and of none after it.
    """
    for first in range(0, len(starts), chunk):
        observations = starts[first : first + chunk]
        rows = torch.arange(first, first + len(observations))
        for time in range(horizon):
            actions = act(observations, generator)
            step = model.step(observations, actions, generator, penalty)
            batch = Batch(observations, actions, step.next_observations, step.terminated.float())
            yield ImaginedSteps(time, rows, batch, step.penalties)
            if step.terminated.any():
                going = ~step.terminated
                observations, rows = step.next_observations[going], rows[going]
                if not len(rows):
                    break
            else:
                observations = step.next_observations


class PenalisedBuffer(ReplayBuffer):
    """The last `capacity` imagined transitions with how unsure the model was of them.

    Attributes:
        penalties: [capacity], beside the rows; u(s, a), before it is weighed.
    """

    def __init__(
        self, capacity: int, observation_dim: int, action_dim: int, *, seed: int = 0
    ) -> None:
        super().__init__(capacity, observation_dim, action_dim, seed=seed)
        self.penalties = torch.zeros(capacity)

    def extend_imagined(self, batch: Batch, penalties: Tensor) -> None:
        """A step of R rows."""
        self.extend_packed(torch.cat([*batch[:3], batch.terminated[:, None]], dim=-1))
        kept = penalties[-self.capacity :]
        self.penalties[self.latest_index(len(kept))] = kept

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "penalties": self.penalties[: len(self)].clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        penalties = state["penalties"]
        super().load_state_dict(state)
        self.penalties[: len(penalties)] = penalties


def fill(
    buffer: PenalisedBuffer,
    model: WorldModel,
    act: Act,
    starts: Tensor,
    horizon: int,
    generator: torch.Generator,
    *,
    penalty: str | None,
) -> dict[str, float]:
    """Imagine from starts [B, O] into the buffer.

    Returns `model/{steps,length,penalty}`: transitions, mean length of a rollout, mean penalty.
    """
    steps, unsure = 0, torch.zeros((), dtype=torch.float64)
    for done in imagine(model, act, starts, horizon, generator, penalty=penalty):
        buffer.extend_imagined(done.batch, done.penalties)
        steps += len(done.rows)
        unsure += done.penalties.sum(dtype=torch.float64)
    return {
        "model/steps": float(steps),
        "model/length": steps / len(starts),
        "model/penalty": float(unsure) / steps,
    }
