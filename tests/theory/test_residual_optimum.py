"""Where the logistic objectives end, with all pairs enumerated.

Residual: r = r_t + beta log(demo / pi_t) + c(x), so that the next policy is the demonstrations.
Pairwise: r = beta log(demo / pi_t) + c(x), whatever r_t was.
"""

from __future__ import annotations

import pytest
import torch


def optimum(problem, objective, samples, previous, beta):
    theta = previous.clone().requires_grad_(True)
    solver = torch.optim.LBFGS(
        [theta],
        max_iter=500,
        tolerance_grad=1e-13,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure():
        solver.zero_grad()
        loss = problem.loss(objective, theta, samples, previous, beta)
        loss.backward()
        return loss

    solver.step(closure)
    return theta.detach()


def up_to_a_constant(reward):
    return reward - reward.mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_residual_optimum(bandit, demo_kl, seed, beta):
    problem = bandit(seed)
    previous = torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    policy = problem.policy_of(previous, beta)
    found = optimum(problem, "residual_logistic", policy, previous, beta)
    expected = previous + beta * (problem.demo / policy).log()
    torch.testing.assert_close(
        up_to_a_constant(found), up_to_a_constant(expected), rtol=1e-4, atol=1e-4
    )
    assert demo_kl(problem.demo, policy) > 0.1
    assert demo_kl(problem.demo, problem.policy_of(found, beta)) < 1e-8


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_samples_of_all_rounds_agree_on_the_residual_optimum(bandit, seed):
    """pi_j = pi_ref exp(r_j / beta): r_j + beta log demo / pi_j is the same reward for every j."""
    problem, beta = bandit(seed), 0.7
    generator = torch.Generator().manual_seed(seed)
    rewards = [torch.zeros(8, dtype=torch.float64)]
    rewards.append(torch.randn(8, generator=generator, dtype=torch.float64))

    class _AllRounds:
        def loss(self, objective, theta, samples, previous, beta):
            return sum(
                problem.loss(objective, theta, problem.policy_of(r, beta), r, beta) for r in rewards
            )

    found = optimum(_AllRounds(), "residual_logistic", None, rewards[0], beta)
    expected = beta * (problem.demo / problem.reference).log()
    torch.testing.assert_close(
        up_to_a_constant(found), up_to_a_constant(expected), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pairwise_optimum_forgets_the_previous_reward(bandit, demo_kl, seed):
    problem = bandit(seed)
    # A policy that is the demonstrations already: the optimum is constant, back to the reference.
    at_demo = (problem.demo / problem.reference).log()
    found = optimum(problem, "pairwise_logistic", problem.demo, at_demo, 1.0)
    assert up_to_a_constant(found).abs().max() < 1e-4
    back = problem.policy_of(found)
    torch.testing.assert_close(back, problem.reference, rtol=1e-3, atol=1e-5)
    kept = optimum(problem, "residual_logistic", problem.demo, at_demo, 1.0)
    assert demo_kl(problem.demo, problem.policy_of(kept)) < 1e-10


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_reward_lacks_what_its_reference_knows(bandit, seed):
    """Against the base model the reward is what the demonstrations mean. Against an SFT policy that
    has learned all of that, and brings manners of its own, only the manners are left to judge."""
    problem = bandit(seed)
    nothing = torch.zeros(8, dtype=torch.float64)
    manners = torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    sft = (problem.demo.log() + manners).softmax(0)
    for reference, expected in (
        (problem.reference, (problem.demo / problem.reference).log()),
        (sft, -manners),
    ):
        found = optimum(problem, "residual_logistic", reference, nothing, 1.0)
        torch.testing.assert_close(
            up_to_a_constant(found), up_to_a_constant(expected), rtol=1e-4, atol=1e-4
        )
