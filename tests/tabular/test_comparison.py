from __future__ import annotations

import itertools

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.tabular.comparison import (
    epic_canonical,
    epic_distance,
    greedy_policy,
    levelled_distance,
    pearson_distance,
    policy_regret,
    policy_return,
)
from irl_align.tabular.mdp import make_mdp
from irl_align.tabular.occupancy import discounted_entropy, occupancy
from irl_align.tabular.shaping import shape_reward

GAMMA = 0.9
POTENTIAL = np.array([1.0, -2.0, 0.0, 3.0, 0.5, -1.0])


@pytest.fixture
def mdp(tables):
    world = tables(0)
    return make_mdp(world.kernel, GAMMA, world.initial)


@pytest.fixture
def reward(tables):
    return tables(0).reward


class TestPearson:
    def test_ends_and_middle(self):
        x = np.array([1.0, 2.0, 4.0])
        assert pearson_distance(x, 3 * x + 5) == pytest.approx(0, abs=1e-14)
        assert pearson_distance(x, -x) == pytest.approx(1)
        y = np.array([1.0, -2.0, 0.5])
        expected = np.sqrt((1 - np.corrcoef(x, y)[0, 1]) / 2)
        assert pearson_distance(x, y) == pytest.approx(expected)

    def test_weights_are_repetitions(self):
        x, y = np.random.default_rng(0).normal(size=(2, 4))
        counts = np.array([1, 3, 0, 2])
        assert pearson_distance(x, y, counts) == pytest.approx(
            pearson_distance(np.repeat(x, counts), np.repeat(y, counts))
        )

    def test_constants(self):
        x, c = np.arange(3.0), np.full(3, 0.1)
        assert pearson_distance(c, 2 * c) == 0
        assert pearson_distance(x, c) == pearson_distance(0 * x, x) == pytest.approx(np.sqrt(0.5))

    def test_errors(self):
        with pytest.raises(UserError, match="second reward must have shape"):
            pearson_distance(np.zeros(3), np.zeros(4))
        with pytest.raises(UserError, match="weights"):
            pearson_distance(np.zeros(2), np.zeros(2), [1, -1])
        with pytest.raises(UserError, match="weights"):
            pearson_distance(np.zeros(2), np.zeros(2), [0, 0])


class TestEpic:
    def transition_shaping(self):
        along = GAMMA * POTENTIAL[None, None, :] - POTENTIAL[:, None, None]
        return np.repeat(along, 3, axis=1)  # [S, A, S]

    @pytest.mark.parametrize("weighted", [False, True])
    def test_canonical_form_by_loops(self, weighted):
        rng = np.random.default_rng(1)
        reward = rng.normal(size=(6, 3, 6))
        over_states = rng.dirichlet(np.ones(6)) if weighted else np.full(6, 1 / 6)
        over_actions = rng.dirichlet(np.ones(3)) if weighted else np.full(3, 1 / 3)
        mean = [
            sum(
                over_actions[a] * over_states[t] * reward[s, a, t]
                for a, t in itertools.product(range(3), range(6))
            )
            for s in range(6)
        ]
        overall = sum(p * m for p, m in zip(over_states, mean, strict=True))
        weights = (over_states, over_actions) if weighted else ()
        found = epic_canonical(reward, GAMMA, *weights)
        for s, a, t in [(0, 0, 0), (1, 2, 4), (5, 1, 3)]:
            expected = reward[s, a, t] + GAMMA * mean[t] - mean[s] - GAMMA * overall
            assert found[s, a, t] == pytest.approx(expected)

    def test_invariance_under_shaping_and_scale(self):
        reward = np.random.default_rng(2).normal(size=(6, 3, 6))
        same = 2.5 * (reward + self.transition_shaping()) + 1
        assert epic_distance(reward, same, GAMMA) < 1e-13
        # another discount in the shaping is another reward
        wrong = reward + POTENTIAL[None, None, :] - POTENTIAL[:, None, None]
        assert epic_distance(reward, wrong, GAMMA) > 0.02
        assert epic_distance(reward, -reward, GAMMA) == pytest.approx(1)
        other = np.random.default_rng(3).normal(size=(6, 3, 6))
        assert 0.5 < epic_distance(reward, other, GAMMA) < 0.9

    def test_pure_shaping_is_no_reward(self):
        nothing = self.transition_shaping()
        assert epic_distance(nothing, np.zeros((6, 3, 6)), GAMMA) == 0

    def test_rewards_without_successor_stand_for_all(self, reward):
        wide = np.repeat(reward[:, :, None], 6, axis=2)
        np.testing.assert_allclose(epic_canonical(reward, GAMMA), epic_canonical(wide, GAMMA))

    def test_coverage_decides_where_it_counts(self):
        reward = np.random.default_rng(4).normal(size=(6, 3, 6))
        change = reward.copy()
        change[0, 0] *= -1
        everywhere = epic_distance(reward, change, GAMMA)
        coverage = np.zeros((6, 3, 6))
        coverage[0, 0] = 1
        assert epic_distance(reward, change, GAMMA, coverage=coverage) > 2 * everywhere

    def test_errors(self, reward):
        with pytest.raises(UserError, match="EPIC takes"):
            epic_distance(reward[0], reward[0], GAMMA)
        with pytest.raises(UserError, match="gamma"):
            epic_distance(reward, reward, 1.0)
        with pytest.raises(UserError, match="state_weights"):
            epic_distance(reward, reward, GAMMA, np.ones(6))


class TestLevelled:
    def test_invariance_where_epic_has_none(self, mdp, reward):
        """Expected shaping in known dynamics is invisible here, and visible to EPIC."""
        same = 2 * shape_reward(mdp, reward, POTENTIAL) + 3
        assert levelled_distance(mdp, reward, same) < 1e-12
        assert epic_distance(reward, same, GAMMA) > 0.02
        assert levelled_distance(mdp, reward, -same) == pytest.approx(1)

    def test_constants_and_pure_shaping(self, mdp, reward):
        pure = shape_reward(mdp, np.ones(mdp.shape), POTENTIAL)
        assert levelled_distance(mdp, pure, np.zeros(mdp.shape)) == 0
        assert levelled_distance(mdp, pure, reward) == pytest.approx(np.sqrt(0.5))

    def test_it_is_a_distance(self, mdp, tables):
        a, b, c = (tables(seed).reward for seed in (1, 2, 3))
        weights = tables(1).policy
        ab, bc, ac = (levelled_distance(mdp, *p, weights) for p in ((a, b), (b, c), (a, c)))
        assert ab == levelled_distance(mdp, b, a, weights)
        assert 0 < ac <= ab + bc


class TestRegret:
    def every_deterministic_policy(self):
        for chosen in itertools.product(range(3), repeat=6):
            yield np.eye(3)[list(chosen)]

    def test_greedy_is_the_best_of_all(self, mdp, reward):
        best = max(policy_return(mdp, reward, p) for p in self.every_deterministic_policy())
        assert policy_return(mdp, reward, greedy_policy(mdp, reward)) == pytest.approx(best)

    def test_return_is_occupancy_times_reward(self, mdp, reward, tables):
        policy = tables(4).policy
        visits = occupancy(mdp, policy)
        plain = policy_return(mdp, reward, policy)
        assert plain == pytest.approx((visits * reward).sum())
        with_entropy = policy_return(mdp, reward, policy, entropy=True)
        assert with_entropy == pytest.approx(plain + discounted_entropy(visits))

    @pytest.mark.parametrize("entropy", [True, False])
    def test_zero_for_the_same_up_to_shaping(self, mdp, reward, tables, entropy):
        shaped = shape_reward(mdp, reward, POTENTIAL)
        assert policy_regret(mdp, shaped, reward, entropy=entropy) == pytest.approx(0, abs=1e-9)
        other = tables(5).reward
        assert policy_regret(mdp, other, reward, entropy=entropy) > 0.5
        assert policy_regret(mdp, -reward, reward, entropy=entropy) > 1

    def test_scale_counts_only_with_entropy(self, mdp, reward):
        assert policy_regret(mdp, 3 * reward, reward) > 0.1
        assert policy_regret(mdp, 3 * reward, reward, entropy=False) == pytest.approx(0, abs=1e-9)

    def test_roles_are_not_exchangeable(self, mdp, reward):
        """What is lost counts under the true reward."""
        assert policy_regret(mdp, np.zeros(mdp.shape), reward) > 0.1
        lost = policy_regret(mdp, reward, np.zeros(mdp.shape))
        entropy = policy_return(mdp, np.zeros(mdp.shape), np.full((6, 3), 1 / 3), entropy=True)
        assert 0.01 < lost < entropy
