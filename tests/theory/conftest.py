"""The bandit of the theory tests: eight responses, everything by enumeration, float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from irl_align.core.objectives import DemonstrationObjective, demonstration_loss
from irl_align.core.protocols import PhaseContext


def kl(p: Tensor, q: Tensor) -> float:
    return float((p * (p / q).log()).sum())


@dataclass(frozen=True)
class Bandit:
    """One prompt with ``responses`` answers; demonstrations and reference are distributions."""

    demo: Tensor  # [A]
    reference: Tensor  # [A]

    def policy_of(self, reward: Tensor, beta: float = 1.0) -> Tensor:
        """pi_r = pi_ref exp(r / beta) / Z, the optimum of E r - beta KL(pi || pi_ref)."""
        return torch.softmax(self.reference.log() + reward / beta, 0)

    def loss(
        self,
        objective: DemonstrationObjective,
        reward: Tensor,
        samples: Tensor,
        previous: Tensor,
        beta: float = 1.0,
    ) -> Tensor:
        """The objective over all pairs (y, y'), each with its probability demo(y) samples(y')."""
        size = len(self.demo)
        y, other = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        weights = self.demo[:, None] * samples[None, :]  # [A, A]
        return demonstration_loss(
            objective,
            reward[y],
            reward[other],
            previous[y],
            previous[other],
            beta=beta,
            weights=weights,
        )


@dataclass(frozen=True)
class GradientFit:
    """Fits the reward by gradient descent, warm-started; one step of contrast, many of a logit."""

    bandit: Bandit
    objective: DemonstrationObjective
    beta: float = 1.0
    learning_rate: float | None = None
    steps: int | None = None

    def fit(
        self, reward: Tensor, samples: Tensor, ctx: PhaseContext
    ) -> tuple[Tensor, dict[str, float]]:
        contrast = self.objective == "contrast"
        rate = self.learning_rate or (2.0 if contrast else 0.5)
        previous, theta = reward, reward.clone()
        for _ in range(self.steps or (1 if contrast else 200)):
            theta.requires_grad_(True)
            loss = self.bandit.loss(self.objective, theta, samples, previous, self.beta)
            (gradient,) = torch.autograd.grad(loss, theta)
            theta = (theta - rate * gradient).detach()
        return theta, {"reward/loss": loss.item()}


@dataclass(frozen=True)
class ExactPolicy:
    """Sampler, policy learner and evaluator of the bandit: all in closed form."""

    bandit: Bandit
    beta: float = 1.0

    def sample(self, policy: Tensor, ctx: PhaseContext) -> tuple[Tensor, dict[str, float]]:
        return policy, {}

    def improve(
        self, policy: Tensor, reward: Tensor, samples: Tensor | None, ctx: PhaseContext
    ) -> tuple[Tensor, dict[str, float]]:
        return self.bandit.policy_of(reward, self.beta), {}

    def evaluate(self, policy: Tensor, reward: Tensor, ctx: PhaseContext) -> dict[str, float]:
        return {"eval/kl": kl(self.bandit.demo, policy)}


def make_bandit(seed: int, responses: int = 8) -> Bandit:
    generator = np.random.default_rng(seed)
    reference = torch.tensor(generator.normal(size=responses)).softmax(0)
    demo = torch.tensor(2 * generator.normal(size=responses)).softmax(0)
    return Bandit(demo, reference)


@pytest.fixture
def bandit() -> Callable[[int], Bandit]:
    return make_bandit


@pytest.fixture
def gradient_fit() -> type[GradientFit]:
    return GradientFit


@pytest.fixture
def exact_policy() -> type[ExactPolicy]:
    return ExactPolicy


@pytest.fixture
def demo_kl() -> Callable[[Tensor, Tensor], float]:
    return kl
