"""The reward of CLARE (Yue et al. 2023): what it is fitted to.

    min_r Z E_model[r] - E_all[beta r] - E_E[r] + lambda Z E[r^2]

The weights beta move the demonstrator's mass: a demonstrated pair of which the model is unsure
(u > threshold) gets -N_all / N_E, which takes it out of E_E, and what was taken is spread over the
pairs of all data of which it is sure. So E_all[beta] = 0 and Z = 1 + E_all[beta] = 1 wherever there
is a pair to give to. Where the authors are silent: E[r^2] is over the model's steps and all data,
half each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from irl_align.control.config import RewardConfig
from irl_align.control.reward_fit import LearnedReward
from irl_align.control.sac.compiling import threads_for
from irl_align.control.transitions import Transitions
from irl_align.core.errors import UserError
from irl_align.core.protocols import Metrics, PhaseContext


def clare_weights(unsure: Tensor, demonstrated: Tensor, threshold: float) -> tuple[Tensor, float]:
    """beta [N] and Z, from u in [0, 1] [N] and which of all pairs are demonstrated [N], bool.

    Where the model is sure of no pair there is nobody to give to: beta stays -N_all / N_E on the
    demonstrated ones and Z falls to 0.
    """
    count, shown = len(unsure), int(demonstrated.sum())
    far, sure = demonstrated & (unsure > threshold), unsure < threshold
    beta = torch.zeros_like(unsure)
    beta[far] = -count / shown
    if sure.any():
        beta[sure] = beta[sure] + count / shown * int(far.sum()) / int(sure.sum())
    return beta, 1.0 + beta.mean().item()


def clare_loss(
    model: Tensor, everything: Tensor, beta: Tensor, demonstrated: Tensor, z: float, l2: float
) -> Tensor:
    """The reward's loss [] from r on steps in the model [B], on all data [N] with their beta [N],
    and on demonstrations [M]."""
    loss = z * model.mean() - (beta * everything).mean() - demonstrated.mean()
    squares = 0.5 * (model.square().mean() + everything.square().mean())
    return loss + l2 * z * squares


class ConservativeReward:
    """The reward verb."""

    def __init__(
        self,
        demonstrations: Transitions,
        everything: Transitions,
        beta: Tensor,
        z: float,
        config: RewardConfig,
        batch_size: int,
    ) -> None:
        self.demonstrations, self.everything = demonstrations, everything
        self.beta, self.z, self.config, self.batch_size = beta, z, config, batch_size

    def fit(
        self, reward: LearnedReward, samples: Tensor, ctx: PhaseContext, /
    ) -> tuple[LearnedReward, Metrics]:
        generator = torch.Generator().manual_seed(ctx.seed)
        config, net, layout = self.config, reward.net, self.everything.layout
        measured: list[Tensor] = []
        net.train()
        with threads_for(config.hidden):
            for _ in range(config.steps):
                size = (self.batch_size,)
                where = [
                    torch.randint(n, size, generator=generator)
                    for n in (len(samples), len(self.everything), len(self.demonstrations))
                ]
                rows = torch.cat(
                    [
                        samples[where[0]],
                        self.everything.rows[where[1]],
                        self.demonstrations.rows[where[2]],
                    ]
                )
                batch = layout.unpack(rows)
                parts = net(batch.observations, batch.actions).chunk(3)
                loss = clare_loss(
                    parts[0], parts[1], self.beta[where[1]], parts[2], self.z, config.l2
                )
                reward.optimiser.zero_grad()
                loss.backward()
                reward.optimiser.step()
                scores = [part.mean() for part in (parts[2], parts[0])]
                measured.append(torch.stack([loss, *scores]).detach())
        net.eval()
        if not all(torch.isfinite(p).all() for p in net.parameters()):
            raise UserError("the reward net is no longer finite; lower reward.learning_rate")
        keys = ("reward/loss", "reward/demo_score", "reward/sample_score")
        means = torch.stack(measured).mean(dim=0).tolist()
        return reward, dict(zip(keys, means, strict=True))
