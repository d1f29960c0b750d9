"""The policy verb of every learner in a world model: MOPO (Yu et al. 2020).

An epoch rolls the policy out in the model, from states of the data set and, for a share of them
(`continued`), from states that the newest rollouts came to, and then makes updates of SAC on what
it imagined, with rewards r(s, a) - lambda u(s, a) at the moment of the draw. Short rollouts from
the data alone never see where a policy gets to, and leave its Q there to chance.
A share of each batch comes from the data set itself: with the same r, and u = 0, for there the
dynamics are the true ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, cast

import torch
from torch import Tensor

from irl_align.control.offline.config import ImaginationConfig
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.sac.agent import named
from irl_align.control.sac.batches import RewardFunction
from irl_align.control.sac.compiling import threads_for
from irl_align.control.sac.learner import Learner
from irl_align.control.world_model.model import WorldModel
from irl_align.control.world_model.rollouts import PenalisedBuffer, fill, stochastic
from irl_align.core.protocols import Metrics, PhaseContext, RewardT


class ConservativeBatches:
    """Imagined transitions and a share of real ones, with penalised rewards.

    `reward` is asked once for all K batches, without gradients. Real rows are drawn with
    `generator`, imagined ones by the buffer.
    """

    def __init__(
        self,
        imagined: PenalisedBuffer,
        real: OfflineDataset,
        reward: RewardFunction,
        *,
        penalty_coef: float,
        real_share: float,
        generator: torch.Generator,
    ) -> None:
        self.imagined, self.real, self.reward = imagined, real, reward
        self.penalty_coef, self.real_share, self.generator = penalty_coef, real_share, generator

    def draw(self, batches: int, batch_size: int, /) -> tuple[Tensor, Tensor]:
        known = round(self.real_share * batch_size)
        index = self.imagined.draw_index(batches * (batch_size - known))
        rows = self.imagined.rows(index).view(batches, batch_size - known, -1)
        unsure = self.imagined.penalties.index_select(0, index).view(batches, -1)
        if known:
            real = self.real.draw(batches * known, self.generator).view(batches, known, -1)
            rows = torch.cat([rows, real], dim=1)
            unsure = torch.cat([unsure, unsure.new_zeros(batches, known)], dim=1)
        drawn = self.imagined.layout.unpack(rows)
        with torch.no_grad():
            rewards = self.reward(drawn.observations, drawn.actions)
        return rows, rewards - self.penalty_coef * unsure


class ModelBasedSoftActorCritic(Generic[RewardT]):
    """Epochs of rollouts in the model and updates of SAC.

    Args:
        reward: r of single steps, given the reward artefact of the round.

    The learner's buffer is a `PenalisedBuffer`, which keeps what earlier rounds imagined until
    newer steps displace it.
    """

    def __init__(
        self,
        model: WorldModel,
        data: OfflineDataset,
        config: ImaginationConfig,
        reward: Callable[[RewardT], RewardFunction],
    ) -> None:
        self.model, self.data, self.config, self.reward = model, data, config, reward

    def improve(
        self, policy: Learner, reward: RewardT, samples: object, ctx: PhaseContext, /
    ) -> tuple[Learner, Metrics]:
        config, agent = self.config, policy.agent
        buffer = cast(PenalisedBuffer, policy.buffer)
        generator = torch.Generator().manual_seed(ctx.seed)
        source = ConservativeBatches(
            buffer,
            self.data,
            self.reward(reward),
            penalty_coef=config.penalty_coef,
            real_share=config.real_share,
            generator=generator,
        )
        together = policy.config.update_every
        act = stochastic(agent.actor)
        losses: list[Tensor] = []
        told: list[dict[str, float]] = []
        for _ in range(config.epochs):
            starts = self._starts(buffer, generator)
            told.append(
                fill(
                    buffer,
                    self.model,
                    act,
                    starts,
                    config.horizon,
                    generator,
                    penalty=config.penalty if config.penalty_coef else None,
                )
            )
            with threads_for(policy.config.hidden):
                for _ in range(config.updates // together):
                    losses.append(agent.update(*source.draw(together, policy.config.batch_size)))
            policy.follow(config.updates)
        means = {key: sum(one[key] for one in told) / len(told) for key in told[0]}
        return policy, {
            **named(torch.stack(losses).mean(dim=0)),
            **means,
            "policy/updates": float(agent.updates),
        }

    def _starts(self, buffer: PenalisedBuffer, generator: torch.Generator) -> Tensor:
        """[starts, O]: states of the data set, and a share of what the newest starts x horizon
        imagined steps led to. Where one of these is an end the data set's state stays."""
        config = self.config
        starts = self.data.layout.unpack(self.data.draw(config.starts, generator)).observations
        wanted = round(config.continued * config.starts)
        if wanted and len(buffer):
            newest = buffer.latest_index(config.starts * config.horizon)
            index = newest[torch.randint(len(newest), (wanted,), generator=generator)]
            reached = buffer.layout.unpack(buffer.rows(index))
            goes_on = reached.terminated == 0
            starts[:wanted][goes_on] = reached.next_observations[goes_on]
        return starts
