"""Sampling first or improving first is the same sequence once warm-started."""

from __future__ import annotations

import pytest
import torch

from irl_align.core.trainer import BilevelTrainer


@pytest.mark.parametrize("objective", ["contrast", "pairwise_logistic", "residual_logistic"])
def test_rotations_agree(bandit, gradient_fit, exact_policy, objective):
    problem = bandit(1)
    learner, exact = gradient_fit(problem, objective, steps=5), exact_policy(problem)
    start = torch.linspace(-1, 1, 8, dtype=torch.float64)

    def run(order, policy, rounds):
        trainer = BilevelTrainer(exact, learner, exact, exact, rounds=rounds, seed=0, order=order)
        return trainer.train(policy, start)

    # Improving first makes pi_0 out of r_0; sampling first is given that pi_0.
    warm = problem.policy_of(start)
    first_improve = run(("policy", "sample", "reward", "evaluate"), problem.reference, 6)
    first_sample = run(("sample", "reward", "policy", "evaluate"), warm, 6)
    torch.testing.assert_close(first_improve.reward, first_sample.reward, rtol=0, atol=0)
    improve_kl = [metrics["eval/kl"] for metrics in first_improve.history]
    sample_kl = [metrics["eval/kl"] for metrics in first_sample.history]
    assert improve_kl[1:] == sample_kl[:-1]
    assert len(set(sample_kl)) == 6

    # Without the warm start the sequences differ: the test above does not hold by itself.
    cold = run(("sample", "reward", "policy", "evaluate"), problem.reference, 6)
    assert not torch.equal(cold.reward, first_sample.reward)


def test_fitting_first_takes_last_rounds_samples(bandit, gradient_fit, exact_policy):
    """("reward", "policy", "sample"): the reward sees None in round 0, then the samples carried."""
    problem = bandit(2)
    inner, exact = gradient_fit(problem, "contrast"), exact_policy(problem)
    seen = []

    class Learner:
        def fit(self, reward, samples, ctx):
            seen.append(samples)
            return inner.fit(reward, problem.reference if samples is None else samples, ctx)

    zero = torch.zeros(8, dtype=torch.float64)
    rotated = BilevelTrainer(
        exact, Learner(), exact, exact, rounds=4, seed=0, order=("reward", "policy", "sample")
    ).train(problem.reference, zero)
    plain = BilevelTrainer(exact, inner, exact, exact, rounds=4, seed=0).train(
        problem.reference, zero
    )
    assert seen[0] is None and all(s is not None for s in seen[1:])
    torch.testing.assert_close(rotated.reward, plain.reward, rtol=0, atol=0)
