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
    def of(
        cls, trajectories: Trajectories, horizon: int, gamma: float, *, cut: bool = False
    ) -> Weighted:
        """`gamma` = 1 counts every step alike. Of trajectories that were `cut` short of the horizon
        the steps that there are stand for those that are not: together they weigh as much as N
        whole ones."""
        steps = trajectories.steps()
        weights = gamma ** torch.from_numpy(steps.times).double() / horizon
        if cut:
            whole = (gamma ** torch.arange(horizon).double() / horizon).sum()
            weights *= len(trajectories) * whole / weights.sum()
        return cls(
            torch.from_numpy(steps.observations),
            torch.from_numpy(steps.actions),
            weights.float(),
            torch.from_numpy(steps.trajectories),
        )

    def mass(self) -> float:
        """What a reward of 1 at every step comes to: the mean of its returns."""
        return self.returns(torch.ones_like(self.weights)).mean().item()

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
        pace: what `slow_down` was last told.

    Raises UserError when `config` does not fit the observations.
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
            "standardised": config.standardised,
            "columns": config.columns,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                self.net = RewardNet(observation_dim, action_dim, config.hidden, **options).eval()
            except ValueError as error:
                raise UserError(f"reward: {error}") from error
        self.average = copy.deepcopy(self.net) if config.average is not None else None
        self.optimiser = torch.optim.Adam(
            self.net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.facts: dict[str, Any] = {}
        self.pace = 1.0

    def look_at(self, demonstrations: Batch) -> None:
        """Before the first fit: what a standardised net measures its inputs by."""
        if self.config.standardised:
            for net in (self.net, self.average):
                if net is not None:
                    net.standardise(demonstrations.observations, demonstrations.actions)

    def slow_down(self, share: float) -> None:
        """Set learning rate and trust region to `share` of the configured ones."""
        for group in self.optimiser.param_groups:
            group["lr"] = share * self.config.learning_rate
        self.pace = share

    @property
    def most(self) -> float | None:
        """By how much a round may move r, root mean square."""
        return None if self.config.trust_region is None else self.pace * self.config.trust_region

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
        _check_constant_is_free(demonstrations, samples)
    before = copy.deepcopy(net)
    seen = torch.cat([demonstrations.observations, samples.observations])
    done = torch.cat([demonstrations.actions, samples.actions])
    generator = torch.Generator().manual_seed(seed)
    first: dict[str, float] = {}
    mass = samples.mass()
    net.train()
    for _ in range(config.steps):
        unbounded = net.unbounded(seen, done)
        rewards = net.bounded(unbounded)
        count = len(demonstrations.weights)
        expert = demonstrations.returns(rewards[:count])
        loss = contrast(expert, samples.returns(rewards[count:]))
        if replay is not None:
            past = net(replay.observations, replay.actions)
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
    change = _stay_near(net, before, seen, done, reward.most)
    if not all(torch.isfinite(p).all() for p in net.parameters()):
        raise UserError("the reward net is no longer finite; lower reward.learning_rate")
    if reward.average is not None and config.average is not None:
        _follow(reward.average, net, 1 - config.average)
    return {**first, "reward/change": change}


def _check_constant_is_free(*parts: Weighted) -> None:
    """A constant changes no policy only where every episode has, or stands for, as many steps."""
    masses = [part.mass() for part in parts]
    if max(masses) - min(masses) > 1e-4 * max(masses):
        lengths = torch.cat([part.trajectory.bincount() for part in parts])
        raise UserError(
            f"reward.centre=true, but episodes have from {lengths.min()} to {lengths.max()} steps: "
            "there a constant says how good it is to live on; set environment.fixed_horizon=true "
            "or environment.absorbing=true, or reward.centre=false"
        )


def _gradient_penalty(
    net: RewardNet, demonstrations: Weighted, samples: Weighted, generator: torch.Generator
) -> Tensor:
    """E[|d r / d features|^2], r before its bound, at random points between what it sees of a
    demonstrated and of a sampled step."""
    ends: list[Tensor] = []
    for part in (demonstrations, samples):
        index = torch.randint(len(part.weights), (_PENALISED,), generator=generator)
        ends.append(net.features(part.observations[index], part.actions[index]))
    share = torch.rand(_PENALISED, 1, generator=generator)
    points = (share * ends[0] + (1 - share) * ends[1]).detach().requires_grad_()
    slopes = torch.autograd.grad(net.of_features(points).sum(), points, create_graph=True)[0]
    return slopes.square().sum(dim=-1).mean()


@torch.no_grad()
def _stay_near(
    net: RewardNet, before: RewardNet, seen: Tensor, done: Tensor, most: float | None
) -> float:
    """Shorten the round's step until r moved by at most `most`; returns by how much it moved."""
    old = before.eval()(seen, done)
    starts = list(before.parameters())
    ends = [parameter.clone() for parameter in net.parameters()]
    keep = 1.0
    while True:
        change = (net(seen, done) - old).square().mean().sqrt().item()
        if most is None or not change > most or keep == 0.0:  # "not >": nan is for the caller
            return change
        # r is no linear function of theta: aim a little shorter, look again. A share of the whole
        # step, not of what is left of it: of a last bit nine tenths are that bit again, for ever.
        keep *= 0.95 * most / change
        for parameter, start, end in zip(net.parameters(), starts, ends, strict=True):
            parameter.copy_(start + keep * (end - start))


@torch.no_grad()
def _follow(average: RewardNet, net: RewardNet, share: float) -> None:
    for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
        slow.lerp_(fast, share)
