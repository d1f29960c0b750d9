"""The sample verb of offline ML-IRL: the policy in the world model, beside the expert.

    grad L_hat = E_E[sum_t gamma^t grad r] - E_{pi, P_hat}[sum_t gamma^t grad r]       (Lemma 10)

The two sides have the same number of steps to go. A side that ends early, because the expert fell
or the model says so, has a shorter sum: being over is worth 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irl_align.control.buffers import Batch
from irl_align.control.offline.config import ComparisonConfig
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.reward_fit import Weighted
from irl_align.control.sac.learner import Learner
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.control.world_model.model import WorldModel
from irl_align.control.world_model.rollouts import Act, imagine, stochastic
from irl_align.core.errors import UserError
from irl_align.core.protocols import Metrics, PhaseContext


@dataclass(frozen=True)
class Comparison:
    """What the reward step sees.

    Attributes:
        alpha: temperature of the policy that was rolled out.
        replay: imagined transitions of all its past; None where none are asked for.
    """

    expert: Weighted
    agent: Weighted
    alpha: float
    replay: Batch | None


class InTheModel:
    """Rollouts of pi_k in the model from where `config.start` says, and the expert's part."""

    def __init__(
        self,
        model: WorldModel,
        demonstrations: Trajectories,
        data: OfflineDataset,
        config: ComparisonConfig,
        *,
        gamma: float,
    ) -> None:
        self.model, self.demonstrations, self.data = model, demonstrations, data
        self.config, self.gamma = config, gamma
        cut = [len(t) for t in demonstrations if not t.terminated]
        # Where a demonstration was cut, what the expert would have done is not known.
        self.horizon = min([config.horizon, *cut])

    def sample(self, policy: Learner, ctx: PhaseContext, /) -> tuple[Comparison, Metrics]:
        generator = torch.Generator().manual_seed(ctx.seed)
        expert, starts = self._starts(generator)
        act = stochastic(policy.agent.actor)
        agent = imagined_steps(self.model, act, starts, self.horizon, generator, self.gamma)
        demonstrated = Weighted.of(expert, self.horizon, self.gamma)
        if not torch.isfinite(agent.observations).all():
            raise UserError("rollouts in the world model left the finite numbers; fit it anew")
        replay = None
        if self.config.replay_share and len(policy.buffer):
            shape = (self.config.replay_steps,)
            index = torch.randint(len(policy.buffer), shape, generator=generator)
            replay = policy.buffer.layout.unpack(policy.buffer.rows(index))
        count = int(agent.trajectory[-1]) + 1
        return Comparison(demonstrated, agent, policy.agent.alpha, replay), {
            "samples/length": len(agent.weights) / count,
            "samples/demo_length": len(demonstrated.weights) / len(expert),
        }

    def _starts(self, generator: torch.Generator) -> tuple[Trajectories, Tensor]:
        """The expert's part, and the states [R, O] that rollouts begin at."""
        every, count = self.demonstrations, self.config.rollouts
        if self.config.start == "anywhere":
            parts = Trajectories(self._somewhere(generator) for _ in range(count))
            return parts, _first(parts)
        parts = Trajectories(_part(t, 0, self.horizon) for t in every)
        if self.config.start == "dataset":
            index = torch.randint(len(self.data.first), (count,), generator=generator)
            return parts, self.data.first[index]
        # As often from each demonstration as from any other, but for a rest.
        turns = -(-count // len(every))
        order = torch.cat([torch.randperm(len(every), generator=generator) for _ in range(turns)])
        return parts, _first(parts)[order[:count]]

    def _somewhere(self, generator: torch.Generator) -> Trajectory:
        def below(limit: int) -> int:
            return int(torch.randint(limit, (), generator=generator))

        trajectory = self.demonstrations[below(len(self.demonstrations))]
        # After an end there is nothing, so any of its states will do; after a cut, nobody knows.
        last = len(trajectory) if trajectory.terminated else len(trajectory) - self.horizon + 1
        return _part(trajectory, below(last), self.horizon)


def imagined_steps(
    model: WorldModel,
    act: Act,
    starts: Tensor,
    horizon: int,
    generator: torch.Generator,
    gamma: float,
) -> Weighted:
    """Rollouts from starts [R, O], as `Weighted.of` has them: one after the other, in time."""
    observations, actions, rows, times = [], [], [], []
    for step in imagine(model, act, starts, horizon, generator):
        observations.append(step.batch.observations)
        actions.append(step.batch.actions)
        rows.append(step.rows)
        times.append(torch.full_like(step.rows, step.time))
    row, time = torch.cat(rows), torch.cat(times)
    order = (row * horizon + time).argsort()
    return Weighted(
        torch.cat(observations)[order],
        torch.cat(actions)[order],
        (gamma ** time[order].double() / horizon).float(),
        row[order],
    )


def _part(trajectory: Trajectory, start: int, steps: int) -> Trajectory:
    stop = min(start + steps, len(trajectory))
    ends = trajectory.terminated and stop == len(trajectory)
    return Trajectory(
        trajectory.observations[start : stop + 1], trajectory.actions[start:stop], ends, not ends
    )


def _first(trajectories: Trajectories) -> Tensor:
    return torch.stack([torch.from_numpy(t.observations[0]) for t in trajectories])
