"""The outer objective and the reference are one choice: KL(demo || pi) round by round.

Fixed reference, pi_r = pi_ref exp(r), eight responses, pairs enumerated. Contrast makes one step of
2 a round; the logistic fits are warm-started and make 200 gradient steps of 0.5.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from irl_align.core.trainer import BilevelTrainer

ROUNDS = (1, 2, 3, 4, 10, 30)
TABLE = {
    "pairwise_logistic": (0.005, 0.509, 0.011, 0.471, 0.427, 0.390),
    "contrast": (0.307, 0.146, 0.080, 0.052, 0.015, 0.004),
    "residual_logistic": (0.005, 0.002, 0.001, 0.000, 0.000, 0.000),
}


@pytest.fixture
def divergences(bandit, gradient_fit, exact_policy):
    def run(objective: str, seed: int, rounds: int) -> list[float]:
        problem = bandit(seed)
        exact = exact_policy(problem)
        trainer = BilevelTrainer(
            exact, gradient_fit(problem, objective), exact, exact, rounds=rounds, seed=0
        )
        result = trainer.train(problem.reference, torch.zeros(8, dtype=torch.float64))
        return [metrics["eval/kl"] for metrics in result.history]

    return run


@pytest.mark.parametrize("objective", TABLE)
def test_printed_table(divergences, objective):
    found = divergences(objective, seed=0, rounds=30)
    assert [found[r - 1] for r in ROUNDS] == pytest.approx(TABLE[objective], abs=6e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
class TestEverySeed:
    def test_pairwise_logistic_oscillates(self, divergences, seed, bandit, demo_kl):
        found = divergences("pairwise_logistic", seed, rounds=12)
        problem = bandit(seed)
        start = demo_kl(problem.demo, problem.reference)
        assert found[0] < 0.05 * start
        assert found[1] > 0.6 * start  # round two undoes round one
        for odd, even in zip(found[0::2], found[1::2], strict=True):
            assert odd < 0.25 * even

    def test_residual_logistic_reaches_the_demonstrations(self, divergences, seed):
        found = divergences("residual_logistic", seed, rounds=12)
        assert all(later < earlier for earlier, later in pairwise(found))
        assert found[-1] < 1e-4

    def test_contrast_is_monotone_and_slower(self, divergences, seed):
        found = divergences("contrast", seed, rounds=30)
        assert all(later < earlier for earlier, later in pairwise(found))
        assert found[-1] < 0.02 * found[0]
        assert found[11] > divergences("residual_logistic", seed, rounds=12)[-1]
