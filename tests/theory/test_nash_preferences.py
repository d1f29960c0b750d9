"""Preferences in a circle: no reward explains them, and Nash-MD finds the policy nobody beats.

Three answers that beat each other in turn, P(1 > 2) = .9, P(2 > 3) = .7, P(3 > 1) = .6. Without
the KL term the policy to which no other is preferred is (.2, .1, .4) / .7, where every answer wins
half of its comparisons; the regularised one answers to itself,
pi = pi_ref exp(P(. > pi) / beta) / Z.
"""

from __future__ import annotations

import numpy as np
import pytest

CIRCLE = np.array([[0.5, 0.9, 0.4], [0.1, 0.5, 0.7], [0.6, 0.3, 0.5]])
NASH = np.array([0.2, 0.1, 0.4]) / 0.7
REFERENCE = np.array([0.6, 0.3, 0.1])
BETA = 0.1


def normalised(logs: np.ndarray) -> np.ndarray:
    shifted = np.exp(logs - logs.max())
    return shifted / shifted.sum()


def kl(first: np.ndarray, second: np.ndarray) -> float:
    return float((first * np.log(first / second)).sum())


def gain_of_the_best_answer(policy: np.ndarray) -> float:
    """How much more than half the best single answer wins against the policy."""
    return float((CIRCLE @ policy).max() - 0.5)


def gap(policy: np.ndarray, beta: float, reference: np.ndarray = REFERENCE) -> float:
    """What the best opponent of the regularised game gains over playing the policy itself:
    beta log E_ref exp(P(. > pi) / beta) - (1/2 - beta KL(pi || pi_ref)); 0 at the Nash policy."""
    best = beta * np.log((reference * np.exp(CIRCLE @ policy / beta)).sum())
    return float(best - (policy @ CIRCLE @ policy - beta * kl(policy, reference)))


def nash_md(
    steps: int, beta: float = BETA, mixture: float | None = None, reference: np.ndarray = REFERENCE
) -> list[np.ndarray]:
    """Munos et al.'s iteration: pi_{t+1} = mixture exp(eta P(. > mixture)) / Z, the mixture being
    pi_t^(1-m) pi_ref^m with m = eta beta. `mixture` None: m = 2 / (t + 2), as their theorem has it;
    else fixed."""
    policy, found = reference, []
    for t in range(steps):
        m = 2 / (t + 2) if mixture is None else mixture
        opponent = normalised((1 - m) * np.log(policy) + m * np.log(reference))
        policy = normalised(np.log(opponent) + m / beta * (CIRCLE @ opponent))
        found.append(policy)
    return found


def bradley_terry_reward(sampling: np.ndarray) -> np.ndarray:
    """The maximum-likelihood reward of comparisons between answers drawn from `sampling`, by
    Newton's method on the concave likelihood; mean 0."""
    weights = np.outer(sampling, sampling)
    reward = np.zeros(3)
    for _ in range(100):
        model = 1 / (1 + np.exp(reward[None] - reward[:, None]))
        slope = (weights * (CIRCLE - model)).sum(1)
        curvature = weights * model * (1 - model)
        hessian = np.diag(curvature.sum(1)) - curvature
        reward = reward + np.linalg.lstsq(hessian, slope, rcond=None)[0]
        reward -= reward.mean()
    assert (
        np.abs((weights * (CIRCLE - 1 / (1 + np.exp(reward[None] - reward[:, None])))).sum(1)).max()
        < 1e-12
    )
    return reward


def test_the_preference_is_one_and_goes_in_a_circle():
    assert np.allclose(CIRCLE + CIRCLE.T, 1)
    assert min(CIRCLE[0, 1], CIRCLE[1, 2], CIRCLE[2, 0]) > 0.5
    assert np.allclose(CIRCLE @ NASH, 0.5), "against the Nash policy every answer wins half"


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_nash_md_reaches_the_policy_that_answers_to_itself(beta):
    last = nash_md(4000, beta)[-1]
    itself = normalised(np.log(REFERENCE) + CIRCLE @ last / beta)
    assert kl(last, itself) < 1e-5
    assert 0 <= gap(last, beta) < 1e-4 < gap(REFERENCE, beta) / 50


def test_the_distance_falls_as_the_theorem_says():
    """KL(pi* || pi_T) <= 8 / (beta^2 (T + 1))."""
    path = nash_md(10_000)
    nash = path[-1]
    for t in (10, 100, 1000):
        assert kl(nash, path[t - 1]) <= 8 / (BETA**2 * (t + 1))
    distances = [kl(nash, path[t - 1]) for t in (10, 100, 1000)]
    assert distances[2] < distances[1] / 5 < distances[0] / 25


def test_a_fixed_mixture_leads_elsewhere():
    """It answers to the mixture: pi = pi_ref exp(P(. > mixture) / beta) / Z."""
    nash = nash_md(4000)[-1]
    last = nash_md(4000, mixture=0.2)[-1]
    opponent = normalised(0.8 * np.log(last) + 0.2 * np.log(REFERENCE))
    assert kl(last, normalised(np.log(REFERENCE) + CIRCLE @ opponent / BETA)) < 1e-8
    assert kl(nash, last) > 1e-3


def test_with_little_regularisation_nobody_beats_it():
    """From the uniform policy; the best single answer gains next to nothing."""
    last = nash_md(4000, beta=0.01, reference=np.full(3, 1 / 3))[-1]
    assert gain_of_the_best_answer(last) < 0.005
    assert np.abs(last - NASH).max() < 0.03


@pytest.mark.parametrize("sampling", [(1, 1, 1), (6, 3, 1), (1, 8, 1), (1, 2, 9)])
def test_no_bradley_terry_reward_gets_there(sampling):
    """Whatever pairs it was fitted on and whatever beta: pi_ref exp(r / beta) / Z can be beaten."""
    reward = bradley_terry_reward(np.array(sampling) / sum(sampling))
    for reference in (REFERENCE, np.full(3, 1 / 3)):
        policies = [
            normalised(np.log(reference) + reward / beta) for beta in np.geomspace(1e-3, 1e3, 200)
        ]
        assert min(map(gain_of_the_best_answer, policies)) > 0.02
        regularised = normalised(np.log(reference) + reward / BETA)
        assert gap(regularised, BETA, reference) > 0.02


def test_every_reward_gets_a_side_of_the_circle_wrong():
    generator = np.random.default_rng(0)
    for reward in generator.normal(size=(1000, 3)):
        model = 1 / (1 + np.exp(reward[None] - reward[:, None]))
        assert min(model[0, 1], model[1, 2], model[2, 0]) <= 0.5
