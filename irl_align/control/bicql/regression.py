"""The upper level: r_theta is regressed onto the soft advantage of the current Q.

    A    = clip(Q(s, a) - gamma (1 - d) V'(s') - c)
    loss = E_{D_E}[(r_theta(s, a) - A)^2] + l2 E_D[(r_theta - elsewhere)^2] + preferences

A is what the inverse soft Bellman operator says: the reward under which Q is right. It is taken
once for each row that a round's steps will see, before the first of them: Q does not change in this
phase. r is learned on D_E alone but pays on all of D, hence the l2 term and the bound. c holds a
level (`AdvantageConfig.hold`): it is A's mean over these rows, or a pull on Q's, or 0. With
`AdvantageConfig.target` "zero" 0 stands in A's place: what is left is conservative Q-learning
without a reward, the ablation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from irl_align.control.bicql.config import AdvantageConfig, SegmentConfig
from irl_align.control.bicql.learner import QLearner
from irl_align.control.bicql.segments import Segments
from irl_align.control.reward_fit import LearnedReward
from irl_align.control.sac.compiling import threads_for
from irl_align.control.transitions import Transitions
from irl_align.core.errors import UserError
from irl_align.core.protocols import Metrics, PhaseContext
from irl_align.core.seeding import derive_seed

# How much harder than a level of Q alone would pull it back: it has that many times to do so.
_PULL = 10.0


@dataclass(frozen=True)
class Advantages:
    """What the reward of a round is regressed onto.

    Attributes:
        rows: demonstrated transitions [K_R, B, width].
        advantages: clipped [K_R, B].
    """

    rows: Tensor
    advantages: Tensor


class SoftAdvantages:
    """The sample verb: minibatches of D_E with their soft advantages.

    Args:
        hold: what is held at 0 over D_E.
    """

    def __init__(self, demonstrations: Transitions, config: AdvantageConfig, *, hold: str) -> None:
        self.demonstrations, self.config, self.hold = demonstrations, config, hold

    def sample(self, policy: QLearner, ctx: PhaseContext, /) -> tuple[Advantages, Metrics]:
        config = self.config
        generator = torch.Generator().manual_seed(ctx.seed)
        with threads_for(policy.config.hidden):
            batches = []
            for _ in range(config.steps):
                drawn = self.demonstrations.draw(config.batch_size, generator)
                batches.append((drawn, policy.advantages(drawn, generator)))
        rows = torch.stack([drawn for drawn, _ in batches])
        raw = torch.stack([advantages for _, advantages in batches])
        bound = config.bound if config.bound is not None else float("inf")
        clipped = (raw - self._level(policy, raw, rows)).clamp(-bound, bound)
        if not torch.isfinite(clipped).all():
            raise UserError("Q is no longer finite; lower critic.learning_rate")
        if config.target == "zero":
            clipped = torch.zeros_like(clipped)
        metrics = {
            "samples/advantage": raw.mean().item(),
            "samples/clipped": (clipped.abs() >= bound).float().mean().item(),
        }
        return Advantages(rows, clipped), metrics

    def _level(self, policy: QLearner, raw: Tensor, rows: Tensor) -> float:
        """c, for advantages [K, B] of rows [K, B, width]."""
        if self.hold == "reward":
            return raw.mean().item()
        if self.hold == "value":
            # r = A - c is stationary only where E[Q] = 0, for E[A] = E[r] there. A constant c in r
            # is c / (1 - gamma) in Q, once the slow critics have come to it.
            shown = self.demonstrations.layout.unpack(rows.flatten(0, 1))
            values = policy.values(shown.observations, shown.actions)
            return _PULL * (1.0 - policy.config.gamma) * values.mean().item()
        return 0.0


class AdvantageRegression:
    """The reward verb.

    Args:
        data: D, whose rewards are kept small, or near `config.elsewhere`.
        segments: None without preferences.
    """

    def __init__(
        self,
        data: Transitions,
        config: AdvantageConfig,
        preferences: SegmentConfig,
        segments: Segments | None,
    ) -> None:
        self.data, self.config = data, config
        self.preferences, self.segments = preferences, segments

    def fit(
        self, reward: LearnedReward, samples: Advantages, ctx: PhaseContext, /
    ) -> tuple[LearnedReward, Metrics]:
        generator = torch.Generator().manual_seed(ctx.seed)
        chooser = torch.Generator().manual_seed(derive_seed(ctx.seed, round=0, phase="segments"))
        config, net, layout = self.config, reward.net, self.data.layout
        net.train()
        losses: list[Tensor] = []
        scores: list[Tensor] = []
        right: list[float] = []
        with threads_for(config.hidden):
            for rows, wanted in zip(samples.rows, samples.advantages, strict=True):
                shown = layout.unpack(rows)
                drawn = layout.unpack(self.data.draw(config.batch_size, generator))
                rewards = net(
                    torch.cat([shown.observations, drawn.observations]),
                    torch.cat([shown.actions, drawn.actions]),
                )
                demonstrated, others = rewards.split([len(rows), config.batch_size])
                loss = (demonstrated - wanted).square().mean()
                losses.append(loss.detach())
                scores.append(torch.stack([demonstrated.mean(), others.mean(), rewards.std()]))
                if config.l2:
                    loss = loss + config.l2 * (others - config.elsewhere).square().mean()
                if self.segments is not None:
                    size = (self.preferences.batch_size,)
                    index = torch.randint(len(self.segments), size, generator=chooser)
                    preference, share = self.segments.loss(net, index)
                    loss = loss + self.preferences.weight * preference
                    right.append(share)
                reward.optimiser.zero_grad()
                loss.backward()
                reward.optimiser.step()
        net.eval()
        if not all(torch.isfinite(p).all() for p in net.parameters()):
            raise UserError("the reward net is no longer finite; lower reward.learning_rate")
        shown_score, data_score, spread = torch.stack(scores).detach().mean(dim=0).tolist()
        metrics = {
            "reward/loss": torch.stack(losses).mean().item(),
            "reward/demo_score": shown_score,
            "reward/sample_score": data_score,
            # A reward that has collapsed to a constant teaches nothing.
            "reward/std": spread,
            "reward/saturation": net.saturation(rewards),
        }
        if right:
            metrics["reward/accuracy"] = sum(right) / len(right)
        return reward, metrics
