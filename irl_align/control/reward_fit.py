"""The outer level: what moves a reward net towards the demonstrations.

    loss = (1 / T) (E_A[sum_t w_t r(s_t, a_t)] - E_E[sum_t w_t r(s_t, a_t)]) + penalties

Its gradient is minus the likelihood gradient (thesis Lemma 1), for w_t = gamma^t; practice has
w_t = 1. Sums over trajectories, not means over steps: an agent that falls early has a short sum.
Dividing by the horizon T makes the penalties' weights mean the same in every environment. They look
at r before its bound: behind it a reward that is all steps between -bound and bound is flat nearly
everywhere, and no penalty would hold it back.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from irl_align.control.buffers import Batch
from irl_align.control.config import RewardConfig
from irl_align.control.networks.rewards import RewardNet, load_reward, save_reward
from irl_align.control.trajectories import Trajectories
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open
from irl_align.core.objectives import contrast

NET, AVERAGE, OPTIMISER = "reward.pt", "average.pt", "optimiser.pt"
# Points between demonstrations and samples that the gradient penalty looks at in a step.
_PENALISED = 512


class Weighted(NamedTuple):
    """The steps of N trajectories, M in all, as a reward net takes them."""

    observations: Tensor  # [M, O]
    actions: Tensor  # [M, A]
    weights: Tensor  # [M], w_t / T
    trajectory: Tensor  # [M], its number

    @classmethod
    def of(cls, trajectories: Trajectories, horizon: int, gamma: float) -> Weighted:
        """`gamma` = 1 counts every step alike."""
        steps = trajectories.steps()
        times = torch.from_numpy(steps.times).double()
        return cls(
            torch.from_numpy(steps.observations),
            torch.from_numpy(steps.actions),
            (gamma**times / horizon).float(),
            torch.from_numpy(steps.trajectories),
        )

    def returns(self, rewards: Tensor) -> Tensor:
        """[N]: sums of w_t r_t / T over each trajectory, for rewards [M]."""
        count = int(self.trajectory[-1]) + 1
        return rewards.new_zeros(count).index_add(0, self.trajectory, self.weights * rewards)


class LearnedReward:
    """A reward net with all that its next fit depends on.

    Attributes:
        net: r_theta.
        average: a moving average of theta over the rounds; None when none is asked for.
        facts: what is saved beside the net (environment, alpha).
    """

    def __init__(
        self, observation_dim: int, action_dim: int, config: RewardConfig, *, seed: int
    ) -> None:
        self.config = config
        options: dict[str, Any] = {
            "inputs": config.inputs,
            "activation": config.activation,
            "bound": config.bound,
            "spectral_norm": config.spectral_norm,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = RewardNet(observation_dim, action_dim, config.hidden, **options).eval()
        self.average = copy.deepcopy(self.net) if config.average is not None else None
        self.optimiser = torch.optim.Adam(
            self.net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.facts: dict[str, Any] = {}

    def slow_down(self, share: float) -> None:
        """Set the learning rate to `share` of the configured one."""
        for group in self.optimiser.param_groups:
            group["lr"] = share * self.config.learning_rate

    def save(self, folder: Path) -> None:
        save_reward(folder / NET, self.net, **self.facts)
        if self.average is not None:
            save_reward(folder / AVERAGE, self.average, **self.facts)
        with atomic_open(folder / OPTIMISER) as file:
            torch.save(self.optimiser.state_dict(), file)

    def load(self, folder: Path) -> None:
        """In place. Raises UserError when a file is missing, damaged or of another net."""
        try:
            self.net.load_state_dict(load_reward(folder / NET)[0].state_dict())
            if self.average is not None:
                self.average.load_state_dict(load_reward(folder / AVERAGE)[0].state_dict())
            self.optimiser.load_state_dict(torch.load(folder / OPTIMISER, weights_only=True))
        except UserError:
            raise
        except Exception as error:  # torch.load has no error of its own for foreign files
            raise UserError(f"{folder}: not a reward of this configuration: {error}") from error


class RewardCodec:
    """How core's round loop keeps a learned reward. It loads into the one that there is."""

    def __init__(self, reward: LearnedReward) -> None:
        self.reward = reward

    def save(self, value: LearnedReward, folder: Path, /) -> None:
        value.save(folder)

    def load(self, folder: Path, /) -> LearnedReward:
        self.reward.load(folder)
        return self.reward


def fit_reward(
    reward: LearnedReward,
    demonstrations: Weighted,
    samples: Weighted,
    *,
    replay: Batch | None = None,
    replay_share: float = 0.0,
    seed: int = 0,
) -> dict[str, float]:
    """The Adam steps of a round, in place.

    Args:
        replay: transitions of the agent's past; their mean reward stands for a share of
            `replay_share` of the agent's side, as one trajectory of T such steps.
        seed: of the points that the gradient penalty looks at.

    With `config.centre` r is shifted after every step so that its mean over the demonstrations is 0
    before the bound.

    Returns `reward/{loss,demo_score,sample_score,saturation,change}`: scores are mean rewards of a
    step before the fit, `change` is the root mean square by which the round moved r on these steps.
    Raises UserError when the net leaves the finite numbers, and when `config.centre` would take a
    constant away that is not free.
    """
    config, net = reward.config, reward.net
    if config.centre:
        _check_one_length(demonstrations, samples)
    before = copy.deepcopy(net)
    seen = torch.cat([demonstrations.observations, samples.observations])
    done = torch.cat([demonstrations.actions, samples.actions])
    generator = torch.Generator().manual_seed(seed)
    first: dict[str, float] = {}
    net.train()
    for _ in range(config.steps):
        unbounded = net.unbounded(seen, done)
        rewards = net.bounded(unbounded)
        count = len(demonstrations.weights)
        expert = demonstrations.returns(rewards[:count])
        loss = contrast(expert, samples.returns(rewards[count:]))
        if replay is not None:
            past = net(replay.observations, replay.actions)
            mass = samples.returns(torch.ones_like(samples.weights)).mean()
            loss = (1 - replay_share) * loss + replay_share * contrast(expert, mass * past)
        first = first or {
            "reward/loss": loss.item(),
            "reward/demo_score": rewards[:count].mean().item(),
            "reward/sample_score": rewards[count:].mean().item(),
            "reward/saturation": net.saturation(rewards),
        }
        if config.l2:
            loss = loss + config.l2 * unbounded.square().mean()
        if config.gradient_penalty:
            steepness = _gradient_penalty(net, demonstrations, samples, generator)
            loss = loss + config.gradient_penalty * steepness
        reward.optimiser.zero_grad()
        loss.backward()
        reward.optimiser.step()
        if config.centre:
            net.eval().centre(demonstrations.observations, demonstrations.actions)
            net.train()
    net.eval()
    change = _stay_near(net, before, seen, done, config.trust_region)
    if not all(torch.isfinite(p).all() for p in net.parameters()):
        raise UserError("the reward net is no longer finite; lower reward.learning_rate")
    if reward.average is not None and config.average is not None:
        _follow(reward.average, net, 1 - config.average)
    return {**first, "reward/change": change}


def _check_one_length(*parts: Weighted) -> None:
    """A constant changes no policy only where every episode has as many steps as any other."""
    lengths = torch.cat([part.trajectory.bincount() for part in parts])
    if lengths.min() < lengths.max():
        raise UserError(
            f"reward.centre=true, but episodes have from {lengths.min()} to {lengths.max()} steps: "
            "there a constant says how good it is to live on; set environment.fixed_horizon=true "
            "or environment.absorbing=true, or reward.centre=false"
        )


def _gradient_penalty(
    net: RewardNet, demonstrations: Weighted, samples: Weighted, generator: torch.Generator
) -> Tensor:
    """E[|d r / d (s, a)|^2], r before its bound, at random points between a demonstrated and a
    sampled step."""
    points: list[Tensor] = []
    where = [
        torch.randint(len(part.weights), (_PENALISED,), generator=generator)
        for part in (demonstrations, samples)
    ]
    share = torch.rand(_PENALISED, 1, generator=generator)
    for name in ("observations", "actions"):
        one, other = (
            getattr(part, name)[index]
            for part, index in zip((demonstrations, samples), where, strict=True)
        )
        points.append((share * one + (1 - share) * other).requires_grad_())
    wanted = points if net.inputs == "state_action" else points[:1]
    slopes = torch.autograd.grad(net.unbounded(*points).sum(), wanted, create_graph=True)
    return torch.cat(slopes, dim=-1).square().sum(dim=-1).mean()


@torch.no_grad()
def _stay_near(
    net: RewardNet, before: RewardNet, seen: Tensor, done: Tensor, most: float | None
) -> float:
    """Shorten the round's step until r moved by at most `most`; returns by how much it moved."""
    old = before.eval()(seen, done)
    change = (net(seen, done) - old).square().mean().sqrt().item()
    while most is not None and change > most:
        # r is no linear function of theta: aim a little shorter and look again.
        keep = 0.95 * most / change
        for parameter, start in zip(net.parameters(), before.parameters(), strict=True):
            parameter.copy_(start + keep * (parameter - start))
        change = (net(seen, done) - old).square().mean().sqrt().item()
    return change


@torch.no_grad()
def _follow(average: RewardNet, net: RewardNet, share: float) -> None:
    for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
        slow.lerp_(fast, share)
