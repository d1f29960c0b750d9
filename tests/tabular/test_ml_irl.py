"""Algorithm 1 against a loop written out, and what the round loop adds to it."""

from __future__ import annotations

import os

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.core.run import RunDirectory
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.ml_irl import ml_irl, step_size
from irl_align.tabular.neural import NeuralReward
from irl_align.tabular.occupancy import log_likelihood, occupancy
from irl_align.tabular.planning import log_policy, soft_policy_iteration
from irl_align.tabular.rewards import LinearReward
from irl_align.tabular.rollouts import Rollouts, horizon_for, roll_out

GAMMA = 0.8


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(10).normal(size=(6, 3, 4))


@pytest.fixture
def problem(tables, features):
    """MDP, linear family, the expert's policy and occupancy."""
    world = tables(0)
    mdp = make_mdp(world.kernel, GAMMA, world.initial)
    family = LinearReward(mdp, features)
    theta = np.array([1.0, -1.0, 0.5, 2.0])
    expert = soft_policy_iteration(mdp, family.values(theta)).policy
    return mdp, family, expert, occupancy(mdp, expert)


@pytest.fixture
def demonstrations(problem):
    mdp, _, expert, _ = problem
    return roll_out(mdp, expert, 200, horizon_for(GAMMA, 1e-3), np.random.default_rng(5))


def outcome(result):
    """Artefacts and metrics but for times."""
    rows = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in result.history]
    return result.reward.tolist(), result.policy.tolist(), rows


def algorithm_1(world, features, visits, rounds, alpha):
    """The box of the paper in dense algebra: yields (Q_k, theta_k) and returns the last theta."""
    kernel, initial = world.kernel, world.initial
    theta, policy = np.zeros(features.shape[2]), np.full((6, 3), 1 / 3)
    pairs = []
    for _ in range(rounds):
        reward = features @ theta
        under = np.einsum("sa,sat->st", policy, kernel)
        v = np.linalg.inv(np.eye(6) - GAMMA * under) @ (policy * (reward - np.log(policy))).sum(1)
        q = reward + GAMMA * np.einsum("sat,t->sa", kernel, v)
        pairs.append((q, theta))
        policy = np.exp(q) / np.exp(q).sum(1, keepdims=True)
        under = np.einsum("sa,sat->st", policy, kernel)
        d = (np.linalg.inv(np.eye(6) - GAMMA * under.T) @ initial)[:, None] * policy
        theta = theta + alpha * np.einsum("sa,sad->d", visits - d, features)
    return pairs, theta


def test_the_exact_loop_is_algorithm_1(problem, tables, features):
    mdp, family, _, visits = problem
    pairs, theta = algorithm_1(tables(0), features, visits, 25, 0.4 / 5)
    result = ml_irl(mdp, family, visits, rounds=25, alpha0=0.4, sigma=0.5)
    np.testing.assert_allclose(result.reward, theta, rtol=1e-9)
    np.testing.assert_allclose(result.policy, pairs[-1][0], rtol=1e-9)
    assert np.linalg.norm(theta) > 0.5

    # and the diagnostics belong to the pairs (Q_k, theta_k)
    for k in (0, 7, 24):
        q, theta_k = pairs[k]
        best = soft_policy_iteration(mdp, family.values(theta_k), tolerance=1e-13)
        gradient = family.gradient(theta_k, visits - occupancy(mdp, best.policy))
        expected = {
            "eval/q_error": np.abs(q - best.q).max(),
            "eval/policy_gap": np.abs(log_policy(q) - best.log_policy).max(),
            "eval/gradient_norm_squared": gradient @ gradient,
            "eval/likelihood": log_likelihood(visits, best.log_policy),
        }
        row = result.history[k]
        assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-6, abs=1e-11)


def test_it_recovers_the_expert(problem):
    mdp, family, expert, visits = problem
    result = ml_irl(mdp, family, visits, rounds=2000, alpha0=5.0)
    found = np.exp(log_policy(result.policy))
    np.testing.assert_allclose(found, expert, atol=1e-4)
    np.testing.assert_allclose(result.reward, [1.0, -1.0, 0.5, 2.0], atol=5e-3)
    assert result.history[-1]["eval/likelihood"] > result.history[0]["eval/likelihood"] + 0.3


def test_rollouts_in_exact_mode_are_their_mean_occupancy(problem, demonstrations):
    mdp, family, _, _ = problem
    as_rollouts = ml_irl(mdp, family, demonstrations, rounds=5)
    as_table = ml_irl(mdp, family, demonstrations.occupancy(mdp), rounds=5)
    assert outcome(as_rollouts) == outcome(as_table)


def test_sampled_gradients_are_unbiased_and_seeded(problem, demonstrations):
    """One round from theta = 0: the mean step over seeds is the exact step (but for the cut)."""
    mdp, family, _, _ = problem
    steps = np.array(
        [
            ml_irl(mdp, family, demonstrations, rounds=1, episodes=1, seed=seed,
                   evaluate_every=0).reward
            for seed in range(400)
        ]
    )  # fmt: skip
    exact = ml_irl(mdp, family, demonstrations, rounds=1).reward
    error = steps.std(0) / 20
    assert (np.abs(steps.mean(0) - exact) < 4 * error + 1e-3).all()
    assert (error > 1e-3).all() and np.abs(exact).max() > 10 * error.max()

    again = [
        outcome(ml_irl(mdp, family, demonstrations, rounds=3, episodes=2, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert again[0] == again[1] != again[2]


def test_more_episodes_mean_less_noise(problem, demonstrations):
    mdp, family, _, _ = problem

    def spread(episodes):
        return np.std(
            [
                ml_irl(mdp, family, demonstrations, rounds=1, episodes=episodes, seed=seed,
                       evaluate_every=0).reward
                for seed in range(60)
            ],
            axis=0,
        ).mean()  # fmt: skip

    assert spread(16) < 0.4 * spread(1)


def test_a_neural_reward_climbs_the_same_likelihood(problem, features):
    mdp, _, _, visits = problem
    family = NeuralReward(mdp, features, (16,))
    result = ml_irl(mdp, family, visits, rounds=200, alpha0=1.0, seed=1)
    likelihood = np.array([row["eval/likelihood"] for row in result.history])
    assert (np.diff(likelihood) > -1e-6).all()
    # all that there is to explain: from where it starts to the expert's own entropy
    best = log_likelihood(visits, np.log(visits / visits.sum(1, keepdims=True)))
    assert likelihood[-1] - likelihood[0] > 0.9 * (best - likelihood[0]) > 0.1


def test_a_state_only_reward_matches_states(problem, features):
    mdp, _, _, visits = problem
    family = LinearReward(mdp, features[:, 0])
    result = ml_irl(mdp, family, visits, rounds=1000, alpha0=30.0, evaluate_every=0)
    best = soft_policy_iteration(mdp, family.values(result.reward))
    gap = family.expectation(visits - occupancy(mdp, best.policy))
    start = family.expectation(visits - occupancy(mdp, np.full(mdp.shape, 1 / 3)))
    assert np.abs(gap).max() < 1e-3 < 1e-2 < np.abs(start).max()


class TestOnDisk:
    @pytest.fixture(autouse=True)
    def no_fsync(self, monkeypatch):
        """An exception leaves the page cache alone; only a power cut would not."""
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def run(self, path, problem, demonstrations, rounds=6, **options):
        mdp, family, _, _ = problem
        config = {"rounds": rounds, "alpha0": 0.3}
        with RunDirectory(path).open(config) as run:
            return ml_irl(
                mdp, family, demonstrations, rounds=rounds, episodes=2, seed=3, run=run, **options
            )

    @pytest.mark.parametrize("phase", ["policy", "sample", "reward"])
    @pytest.mark.parametrize("save_every", [1, 2])
    def test_a_killed_run_ends_as_an_undisturbed_one(
        self, problem, demonstrations, tmp_path, monkeypatch, phase, save_every
    ):
        whole = self.run(tmp_path / "whole", problem, demonstrations, save_every=save_every)
        commit = RunDirectory.commit_phase

        def crash(self, round, name, *arguments, **options):
            if (round, name) == (3, phase):
                raise KeyboardInterrupt
            return commit(self, round, name, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "commit_phase", crash)
            with pytest.raises(KeyboardInterrupt):
                self.run(tmp_path / "run", problem, demonstrations, save_every=save_every)
        again = self.run(tmp_path / "run", problem, demonstrations, save_every=save_every)
        assert outcome(again) == outcome(whole)

    def test_disk_changes_nothing(self, problem, demonstrations, tmp_path):
        mdp, family, _, _ = problem
        kept = self.run(tmp_path, problem, demonstrations)
        free = ml_irl(mdp, family, demonstrations, rounds=6, episodes=2, seed=3)
        assert outcome(kept) == outcome(free)
        folder = tmp_path / "rounds/0005"
        np.testing.assert_array_equal(np.load(folder / "reward/theta.npy"), kept.reward)
        np.testing.assert_array_equal(np.load(folder / "policy/q.npy"), kept.policy)

    def test_a_damaged_artefact_is_named(self, problem, demonstrations, tmp_path):
        from irl_align.tabular.codec import ArrayCodec

        (tmp_path / "theta.npy").write_bytes(b"nothing")
        with pytest.raises(UserError, match=r"theta\.npy cannot be read"):
            ArrayCodec("theta").load(tmp_path)
        with pytest.raises(UserError, match=r"q\.npy cannot be read"):
            ArrayCodec("q").load(tmp_path)


def test_step_size_is_constant_over_the_run():
    assert step_size(0.3, 64) == pytest.approx(0.3 / 8)
    assert step_size(2.0, 1000, 1 / 3) == pytest.approx(0.2)
    for wrong in ({"alpha0": 0.0}, {"rounds": 0}, {"sigma": 1.0}, {"sigma": 0.0}):
        with pytest.raises(UserError, match="need alpha0"):
            step_size(**({"alpha0": 1.0, "rounds": 4} | wrong))


def test_diagnostics_can_be_thinned_out(problem):
    mdp, family, _, visits = problem
    result = ml_irl(mdp, family, visits, rounds=5, evaluate_every=2)
    assert ["eval/q_error" in row for row in result.history] == [True, False, True, False, True]
    none = ml_irl(mdp, family, visits, rounds=2, evaluate_every=0)
    assert not any(key.startswith("eval/") for row in none.history for key in row)


class TestErrors:
    def test_demonstrations(self, problem, demonstrations):
        mdp, family, _, visits = problem
        with pytest.raises(UserError, match="the demonstrations must have shape"):
            ml_irl(mdp, family, visits[:5], rounds=1)
        with pytest.raises(UserError, match="an occupancy is >= 0"):
            ml_irl(mdp, family, visits - 1, rounds=1)
        with pytest.raises(UserError, match="need demonstrations as Rollouts"):
            ml_irl(mdp, family, visits, rounds=1, episodes=1)
        with pytest.raises(UserError, match=r"hold 20\.0% of the discounted mass .* = 5"):
            ml_irl(mdp, family, visits / 5, rounds=1)
        short = Rollouts(demonstrations.states[:, :3], demonstrations.actions[:, :3])
        with pytest.raises(UserError, match="longer rollouts"):
            ml_irl(mdp, family, short, rounds=1)
        # sampled agents are cut at the same horizon, so short demonstrations do no harm there
        ml_irl(mdp, family, short, rounds=1, episodes=1)

    def test_starts(self, problem):
        mdp, family, _, visits = problem
        with pytest.raises(UserError, match="theta must have shape"):
            ml_irl(mdp, family, visits, rounds=1, theta=np.zeros(3))
        with pytest.raises(UserError, match=r"q\[0, 0\] is nan"):
            ml_irl(mdp, family, visits, rounds=1, q=np.full((6, 3), np.nan))

    def test_divergence_is_named(self, problem):
        mdp, _, _, visits = problem
        wild = LinearReward(mdp, np.random.default_rng(0).normal(size=(6, 3, 2)) * 1e200)
        with np.errstate(all="ignore"), pytest.raises(UserError, match="lower alpha0"):
            ml_irl(mdp, wild, visits, rounds=3, alpha0=1e300, evaluate_every=0)
