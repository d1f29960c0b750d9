"""The true reward offline, for yardsticks: r(s, a) fitted to the rewards of a data set.

The only way on which a data set's rewards can reach a learner in a world model, and only `mopo`
takes it, when its configuration says `reward: true_reward`. Imagined steps have no true reward, so
it has to be a function; where the environment pays for more than (s, a), that is an approximation,
whose error is reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from irl_align.control.networks.rewards import RewardNet, load_reward, save_reward
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.true_rewards import TrueRewards

FILE = "true_reward.pt"
_HIDDEN = (128, 128)
_EPOCHS, _BATCH, _LEARNING_RATE = 50, 256, 1e-3
_MOST_UPDATES = 20_000
_HOLDOUT = 0.1


@dataclass(frozen=True)
class FittedTrueReward:
    """r(s, a) in the environment's units.

    Attributes:
        explained: share of the variance of held-out rewards.
    """

    net: RewardNet
    mean: float
    scale: float
    explained: float

    def __call__(self, observations: Tensor, actions: Tensor, /) -> Tensor:
        return self.mean + self.scale * self.net(observations, actions)

    def save(self, folder: Path) -> None:
        facts = {"mean": self.mean, "scale": self.scale, "explained": self.explained}
        save_reward(folder / FILE, self.net, **facts)

    @classmethod
    def load(cls, folder: Path) -> FittedTrueReward:
        """What `save` wrote. UserError when it is missing or damaged."""
        net, facts = load_reward(folder / FILE)
        return cls(net, facts["mean"], facts["scale"], facts["explained"])


def fit_true_reward(data: OfflineDataset, rewards: TrueRewards, *, seed: int) -> FittedTrueReward:
    """Least squares on the rewards of the data set's steps."""
    paid = np.concatenate([rewards.of(number) for number in range(len(rewards))])
    mean, scale = float(paid.mean()), float(paid.std()) or 1.0
    target = torch.from_numpy((paid - mean) / scale).float()
    batch = data.batch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RewardNet(*data.layout, _HIDDEN, inputs="state_action", bound=None)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(data), generator=generator)
    aside = max(1, int(_HOLDOUT * len(data)))
    held_out, learned = order[:aside], order[aside:]
    optimiser = torch.optim.Adam(net.parameters(), lr=_LEARNING_RATE)
    updates = min(_MOST_UPDATES, _EPOCHS * -(-len(learned) // _BATCH))
    for _ in range(updates):
        index = learned[torch.randint(len(learned), (_BATCH,), generator=generator)]
        said = net(batch.observations[index], batch.actions[index])
        loss = (said - target[index]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval().requires_grad_(False)
    wanted = target[held_out]
    off = net(batch.observations[held_out], batch.actions[held_out]) - wanted
    spread = float((wanted - wanted.mean()).square().mean()) or 1.0
    return FittedTrueReward(net, mean, scale, 1.0 - float(off.square().mean()) / spread)
