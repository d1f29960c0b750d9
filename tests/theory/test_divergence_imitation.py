"""Imitation by divergence: what the two rewards are at their optimum, and where they lead.

Eight responses, all by enumeration. The policy's step is from pi_t, pi_{t+1} = pi_t exp(r / beta)
/ Z: with a fixed reference a reward that is 0 at the goal would lead away from it again.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

BETA = 0.7


def fitted(problem, objective: str, samples: Tensor) -> Tensor:
    """The reward that minimises the objective against `samples`."""
    reward = torch.zeros_like(problem.demo).requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [reward], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = problem.loss(objective, reward, samples, torch.zeros(8), BETA)
        loss.backward()
        return loss

    optimiser.step(closure)
    return reward.detach()


def chi_squared(first: Tensor, second: Tensor) -> float:
    return float(((first - second) ** 2 / second).sum())


@pytest.mark.parametrize("seed", [0, 1, 2])
class TestOptimum:
    def test_the_discriminator_is_the_log_ratio(self, bandit, seed):
        problem = bandit(seed)
        found = fitted(problem, "reverse_kl", problem.reference)
        wanted = BETA * (problem.demo / problem.reference).log()
        assert torch.allclose(found, wanted, atol=1e-4)

    def test_chi_square_is_bounded_and_its_value_the_divergence(self, bandit, seed):
        problem = bandit(seed)
        found = fitted(problem, "chi_square", problem.reference)
        mix = (problem.demo + problem.reference) / 2
        assert torch.allclose(found, BETA * (problem.demo - problem.reference) / mix, atol=1e-5)
        assert float(found.abs().max()) < 2 * BETA
        value = problem.loss("chi_square", found, problem.reference, torch.zeros(8), BETA)
        assert float(value) == pytest.approx(-2 * BETA * chi_squared(problem.demo, mix), abs=1e-8)

    def test_the_policy_gradient_descends_reverse_kl(self, bandit, seed, demo_kl):
        """sum_y grad pi(y) r(y) = -beta grad KL(pi || demo), by central differences at pi_t."""
        problem = bandit(seed)
        logits = problem.reference.log()
        reward = fitted(problem, "reverse_kl", problem.reference)
        for i in range(8):
            step = torch.zeros(8, dtype=torch.float64)
            step[i] = 1e-5
            up, down = ((logits + sign * step).softmax(0) for sign in (1, -1))
            raised = float((up - down) @ reward)
            fallen = demo_kl(down, problem.demo) - demo_kl(up, problem.demo)
            assert raised == pytest.approx(BETA * fallen, abs=1e-9)


def rounds(problem, objective: str, count: int, *, fixed: bool = False) -> list[Tensor]:
    policy, found = problem.reference, []
    for _ in range(count):
        start = problem.reference if fixed else policy
        reward = fitted(problem, objective, policy)
        policy = torch.softmax(start.log() + reward / BETA, 0)
        found.append(policy)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reverse_kl_arrives_in_one_whole_step(bandit, demo_kl, seed):
    problem = bandit(seed)
    assert demo_kl(problem.reference, problem.demo) > 0.3
    assert demo_kl(rounds(problem, "reverse_kl", 1)[0], problem.demo) < 1e-7


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_chi_square_arrives_step_by_step(bandit, demo_kl, seed):
    problem = bandit(seed)
    distances = [demo_kl(p, problem.demo) for p in rounds(problem, "chi_square", 6)]
    assert distances[0] < 0.5 * demo_kl(problem.reference, problem.demo)
    assert all(later < earlier or later < 1e-8 for earlier, later in pairwise(distances))
    assert distances[-1] < 1e-6


@pytest.mark.parametrize("objective", ["reverse_kl", "chi_square"])
def test_a_fixed_reference_undoes_what_was_learned(bandit, demo_kl, objective):
    problem = bandit(0)
    distances = [demo_kl(p, problem.demo) for p in rounds(problem, objective, 8, fixed=True)]
    assert max(distances[-2:]) > 0.05
