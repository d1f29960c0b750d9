"""The two laboratories of the theory tests, everything exact and in float64.

A bandit of eight responses, by enumeration; and small random MDPs, by plain power series and value
iteration that share no code with the package.
"""

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


@dataclass(frozen=True)
class RandomMDP:
    """Dynamics, features and a soft-optimal expert; ``optimum`` and ``visits`` are written plainly.

    Shapes: kernel [S, A, S], initial [S], features [S, A, d], theta [d], expert [S, A].
    """

    kernel: np.ndarray
    initial: np.ndarray
    gamma: float
    features: np.ndarray
    theta: np.ndarray
    expert: np.ndarray

    @staticmethod
    def make(seed: int, states: int = 6, actions: int = 3, size: int = 5, gamma: float = 0.9):
        rng = np.random.default_rng(seed)
        kernel = rng.dirichlet(np.ones(states), size=(states, actions))
        initial = rng.dirichlet(np.ones(states))
        features = rng.normal(size=(states, actions, size))
        theta = rng.normal(size=size)
        problem = RandomMDP(kernel, initial, gamma, features, theta, np.empty(0))
        expert = np.exp(problem.optimum(features @ theta)[2])
        return RandomMDP(kernel, initial, gamma, features, theta, expert)

    @property
    def mdp(self):
        from irl_align.tabular.mdp import make_mdp

        return make_mdp(self.kernel, self.gamma, self.initial)

    def optimum(self, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Q* [S, A], V* [S] and log pi* [S, A], by value iteration to the last digit."""
        values = np.zeros(len(self.initial))
        while True:
            q = reward + self.gamma * self.kernel @ values
            after = np.logaddexp.reduce(q, axis=1)
            if np.abs(after - values).max() <= 1e-14 * max(1.0, np.abs(after).max()):
                return q, after, q - after[:, None]
            values = after

    def visits(self, policy: np.ndarray) -> np.ndarray:
        """d [S, A] = sum_t gamma^t Pr(s_t, a_t), by following the distribution of s_t."""
        now, total, weight = self.initial, np.zeros(policy.shape), 1.0
        while weight > 1e-17:
            both = now[:, None] * policy
            total += weight * both
            now = np.einsum("sa,sat->t", both, self.kernel)
            weight *= self.gamma
        return total

    def likelihood(self, reward: np.ndarray) -> float:
        """L = E_E[sum_t gamma^t log pi_r(a_t|s_t)]."""
        return float((self.visits(self.expert) * self.optimum(reward)[2]).sum())


@pytest.fixture
def random_mdp() -> Callable[..., RandomMDP]:
    return RandomMDP.make
