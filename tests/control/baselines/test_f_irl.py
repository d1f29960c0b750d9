from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from irl_align.control.baselines.discriminator import ClassifierConfig
from irl_align.control.baselines.f_irl import (
    FIRLConfig,
    FIRLRewardConfig,
    MatchingReward,
    MatchingStep,
    covariance_loss,
    divergence_slope,
)
from irl_align.control.config import DemonstrationConfig
from irl_align.control.ml_irl import Samples
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.core.config import load_config
from irl_align.core.errors import UserError
from irl_align.core.protocols import PhaseContext

GENERATORS = {
    "fkl": lambda u: u * u.log(),
    "rkl": lambda u: -u.log(),
    "js": lambda u: u * u.log() - (1 + u) * ((1 + u) / 2).log(),
}


@pytest.mark.parametrize("divergence", GENERATORS)
def test_the_slope_is_that_of_the_generator(divergence):
    u = torch.linspace(0.05, 6, 30, dtype=torch.float64, requires_grad=True)
    f = GENERATORS[divergence](u)
    (slope,) = torch.autograd.grad(f.sum(), u)
    expected = slope * u - f
    torch.testing.assert_close(divergence_slope(u.detach().log(), divergence), expected.detach())


# Two-step problem, small enough to list every trajectory: exp(r(s) / alpha) and the weights of
# p(tau) are whole numbers, so a sample can hold each trajectory exactly as often as rho_theta does.
ALPHA, STATES, LENGTH = 0.5, 3, 2
ODDS = np.array([1, 2, 3])
DYNAMICS = np.array([[1, 2, 1], [2, 1, 1], [1, 1, 2]])  # weights of s_2 given s_1
START = np.array([2, 1, 1])
EXPERT = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)


def weight(path) -> int:
    return int(START[path[0]] * DYNAMICS[path[0], path[1]])


def marginal(rewards: torch.Tensor) -> torch.Tensor:
    """[S]: the exact state marginal of rho_theta."""
    paths = list(itertools.product(range(STATES), repeat=LENGTH))
    mass = torch.stack([weight(p) * (rewards[list(p)].sum() / ALPHA).exp() for p in paths])
    mass = mass / mass.sum()
    visits = torch.stack([torch.bincount(torch.tensor(p), minlength=STATES) for p in paths])
    return (mass[:, None] * visits.double()).sum(dim=0) / LENGTH


@pytest.mark.parametrize("divergence", GENERATORS)
def test_the_covariance_is_the_gradient_of_the_divergence(divergence):
    rewards = ALPHA * torch.tensor(ODDS, dtype=torch.float64).log()

    def objective(r: torch.Tensor) -> float:
        rho = marginal(r)
        return (rho * GENERATORS[divergence](EXPERT / rho)).sum().item()

    by_differences = []
    for state in range(STATES):
        step = torch.zeros(STATES, dtype=torch.float64)
        step[state] = 1e-6
        by_differences.append((objective(rewards + step) - objective(rewards - step)) / 2e-6)
    sample = [
        path
        for path in itertools.product(range(STATES), repeat=LENGTH)
        for _ in range(weight(path) * int(ODDS[list(path)].prod()))
    ]
    visited = torch.tensor(sample)  # [N, T]
    slope = divergence_slope((EXPERT / marginal(rewards)).log(), divergence)
    leaf = rewards.clone().requires_grad_()
    loss = covariance_loss(slope[visited].sum(1), leaf[visited].sum(1), ALPHA, LENGTH)
    (found,) = torch.autograd.grad(loss, leaf)
    biased = found * (len(sample) - 1) / len(sample)  # the sample is the whole distribution
    torch.testing.assert_close(biased, torch.tensor(by_differences, dtype=torch.float64))
    assert biased.abs().max() > 0.01


# The reward verb


def paths(*rows: list[float]) -> Trajectories:
    """Trajectories through states on a line; the last state of a row is where it ends."""
    return Trajectories(
        Trajectory(np.array(row)[:, None], np.zeros((len(row) - 1, 1)), False, True) for row in rows
    )


def stepping(expert: Trajectories, divergence="fkl", **options):
    config = FIRLConfig(
        demonstrations=DemonstrationConfig(path="x"),
        reward=FIRLRewardConfig(divergence=divergence, hidden=[16], steps=5, weight_decay=0.0),
        ratio=ClassifierConfig(hidden=[16], every=1, gradient_penalty=0.0, bound=5.0),
    )
    spaces = Spaces("Line", 1, np.array([-1], np.float32), np.array([1], np.float32), 3)
    return MatchingStep(expert, config, horizon=3), MatchingReward(spaces, config)


def context(number: int) -> PhaseContext:
    return PhaseContext(number, "reward", number, None, [])


def samples(trajectories: Trajectories) -> Samples:
    return Samples(trajectories, True, 0.2, None)


@pytest.mark.parametrize("divergence", GENERATORS)
def test_the_reward_rises_where_the_expert_is_and_the_agent_is_not(divergence):
    expert = paths([1, 1, 1, 1], [1, 1, 1, 1])
    agent = samples(paths([-1, -1, 1, 1], [-1, -1, -1, -1], [-1, 1, 1, 1], [-1, -1, -1, 1]))
    verb, reward = stepping(expert, divergence)
    ends = torch.tensor([[1.0], [-1.0]])

    def gap() -> float:
        with torch.no_grad():
            good, bad = reward.net(ends, torch.zeros(2, 1))
        return (good - bad).item()

    before = gap()
    for number in range(15):
        _, metrics = verb.fit(reward, agent, context(number))
    assert gap() > before + 0.2
    assert metrics["ratio/accuracy"] > 0.6
    assert metrics["reward/demo_score"] > metrics["reward/sample_score"]


# A walk on a line of seven places, short enough to plan exactly; observations are one-hot.
PLACES, WALK, WARMTH = 7, 10, 0.5
MOVES = np.clip(np.arange(PLACES)[:, None] + np.array([-1, 0, 1]), 0, PLACES - 1)


def soft_optimal(rewards) -> list[np.ndarray]:
    """pi_t(a|s) [S, A] of each of `WALK` steps for r(s) at temperature `WARMTH`."""
    value, policies = np.zeros(PLACES), []
    for _ in range(WALK):
        q = (rewards[:, None] + value[MOVES]) / WARMTH
        value = WARMTH * np.log(np.exp(q).sum(axis=1))
        policies.append(np.exp(q - value[:, None] / WARMTH))
    return policies[::-1]


def visits(policies) -> np.ndarray:
    """[S]: the share of steps in each place, from a uniform start."""
    here, total = np.full(PLACES, 1 / PLACES), np.zeros(PLACES)
    for policy in policies:
        total += here / WALK
        after = np.zeros(PLACES)
        np.add.at(after, MOVES, here[:, None] * policy)
        here = after
    return total


def walks(policies, count: int, rng) -> Trajectories:
    found = []
    for _ in range(count):
        path = [rng.integers(PLACES)]
        for policy in policies:
            path.append(MOVES[path[-1], rng.choice(3, p=policy[path[-1]])])
        found.append(Trajectory(np.eye(PLACES)[path], np.zeros((WALK, 1)), False, True))
    return Trajectories(found)


@pytest.mark.parametrize("divergence", GENERATORS)
def test_the_optimal_policy_ends_where_the_expert_is(divergence):
    """The whole outer loop on samples, with exact policies in the place of SAC."""
    rng = np.random.default_rng(0)
    expert = soft_optimal(np.eye(PLACES)[5])
    config = FIRLConfig(
        demonstrations=DemonstrationConfig(path="x"),
        reward=FIRLRewardConfig(
            divergence=divergence, hidden=[16], learning_rate=1e-2, weight_decay=0.0
        ),
        ratio=ClassifierConfig(
            hidden=[], every=5, learning_rate=3e-2, gradient_penalty=0.0, bound=5.0, batch_size=128
        ),
    )
    spaces = Spaces("Line", PLACES, np.array([-1], np.float32), np.array([1], np.float32), WALK)
    verb = MatchingStep(walks(expert, 200, rng), config, horizon=WALK)
    reward, wanted, distances = MatchingReward(spaces, config), visits(expert), []
    for number in range(60):
        with torch.no_grad():
            rewards = reward.net(torch.eye(PLACES), torch.zeros(PLACES, 1)).double().numpy()
        policies = soft_optimal(rewards)
        distances.append(float(wanted @ np.log(wanted / visits(policies))))
        agent = Samples(walks(policies, 10, rng), True, WARMTH, None)
        verb.fit(reward, agent, context(number))
    assert distances[0] > 0.2 and max(distances[-10:]) < 0.04


def test_one_trajectory_fits_the_ratio_and_leaves_the_reward_alone():
    verb, reward = stepping(paths([1, 1, 1, 1]))
    nets = [reward.net, reward.ratio.first]
    before = [torch.nn.utils.parameters_to_vector(net.parameters()) for net in nets]
    verb.fit(reward, samples(paths([-1, 1, -1, 1])), context(0))
    after = [torch.nn.utils.parameters_to_vector(net.parameters()) for net in nets]
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])


def test_trajectories_of_several_lengths_are_refused():
    verb, reward = stepping(paths([1, 1, 1, 1]))
    with pytest.raises(UserError, match=r"ended after 2 steps.*one length"):
        verb.fit(reward, samples(paths([1, 1, 1, 1], [1, 1, 1])), context(0))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reward.divergence=kl", "fkl, rkl, js"),
        ("reward.inputs=states", "state, state_action"),
        ("reward.steps=0", "steps is 0"),
        ("round.agent_trajectories=1", "a covariance needs 2"),
        ("round.samples=old", "training, fresh"),
        ("ratio.recent=5", "recent must be null"),
    ],
)
def test_bad_values_are_named_with_their_key(override, message):
    with pytest.raises(UserError, match=message):
        load_config(FIRLConfig, None, ["demonstrations.path=x.npz", override])
