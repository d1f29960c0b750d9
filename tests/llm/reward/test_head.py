"""The linear probe that a first reward model's head starts at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.llm.reward.head import fit_linear_head, group_features, probe_head
from irl_align.llm.reward.pairs import PairGroup
from irl_align.llm.reward.scorer import RewardScorer

H = 6


def made_features(direction, groups=80, others=3, noise=1.0, seed=0):
    """Groups whose better text lies further along `direction` than the others, on average."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(groups, 1 + others, H)) * noise
    features[:, 0] += direction
    return [f.astype(np.float32) for f in features]


def objective(w, features, weights, l2):
    """The module's problem, written down again in numpy."""
    scale = np.concatenate(features).std(axis=0) + 1e-6
    terms = [
        weight * np.logaddexp(0.0, -((f[:1] - f[1:]) / scale) @ w).mean()
        for f, weight in zip(features, weights, strict=True)
    ]
    return np.mean(terms) + l2 * (w**2).sum()


def test_the_head_points_where_better_texts_lie():
    direction = np.array([2.0, -1.0, 0.0, 0.0, 0.5, 0.0])
    head = fit_linear_head(made_features(direction), [1.0] * 80, seed=0)
    assert head.shape == (1, H)
    w = head.numpy()[0]
    assert w @ direction / np.linalg.norm(w) / np.linalg.norm(direction) > 0.95


@pytest.mark.parametrize("l2", [1e-2, 1.0])
def test_the_head_is_the_minimum_of_the_stated_problem(monkeypatch, l2):
    monkeypatch.setattr("irl_align.llm.reward.head.L2", (l2,))
    features = made_features(np.full(H, 0.3), groups=20)
    weights = np.random.default_rng(1).uniform(0.2, 2.0, size=20).tolist()
    scale = np.concatenate(features).std(axis=0) + 1e-6
    w = fit_linear_head(features, weights, seed=0).numpy()[0].astype(np.float64) * scale
    step = 1e-4
    for axis in np.eye(H):
        up, down = (
            objective(w + sign * step * axis, features, weights, l2) for sign in (1.0, -1.0)
        )
        assert abs(up - down) / (2 * step) < 1e-5


def test_with_nothing_to_learn_the_head_stays_small():
    told = fit_linear_head(made_features(np.full(H, 1.0), groups=40), [1.0] * 40, seed=0)
    nothing = fit_linear_head(made_features(np.zeros(H), groups=40), [1.0] * 40, seed=0)
    assert nothing.norm() < 0.1 * told.norm()


def test_a_group_of_weight_zero_says_nothing(monkeypatch):
    monkeypatch.setattr("irl_align.llm.reward.head.L2", (0.1,))
    features = made_features(np.full(H, 0.5), groups=20)
    liar = [np.concatenate([f[1:2], f[:1], f[2:]]) for f in made_features(np.full(H, 9.0), 1)]
    # The liar still counts in the standard deviation of features and in the number of groups.
    loud = fit_linear_head([*features, *liar], [1.0] * 21, seed=0)
    mute = fit_linear_head([*features, *liar], [1.0] * 20 + [0.0], seed=0)
    assert loud.sum() < mute.sum()
    scaled = fit_linear_head([*features, *liar], [2.0] * 20 + [0.0], seed=0)
    assert scaled.sum() > mute.sum()


def test_one_group_is_enough():
    assert torch.isfinite(fit_linear_head(made_features(np.ones(H), 1), [1.0], seed=0)).all()


@pytest.fixture
def groups(tokenizer):
    generator = np.random.default_rng(0)
    prompt = generator.integers(5, 40, size=4).tolist()

    def texts(*sizes):
        return [prompt + generator.integers(5, 40, size=n).tolist() for n in sizes]

    sizes = [(3, 5), (6, 2, 4), (1, 1), (7, 3)]
    return [PairGroup(str(i), "demo", texts(*of)) for i, of in enumerate(sizes)]


def test_features_times_head_are_the_scores(classifier, tokenizer, groups):
    scorer = RewardScorer(classifier, tokenizer)
    features = group_features(scorer, groups, batch_size=2)
    head = classifier.score.weight.detach().numpy()
    for group, rows in zip(groups, features, strict=True):
        scores = scorer.score_tokens(group.texts, [0] * len(group.texts))
        np.testing.assert_allclose((rows @ head.T)[:, 0], scores, atol=1e-5)


def test_the_probe_lowers_the_pair_loss_of_its_own_groups(
    classifier, tokenizer, groups, monkeypatch
):
    monkeypatch.setattr("irl_align.llm.reward.head.L2", (1e-3,))
    scorer = RewardScorer(classifier, tokenizer)
    with torch.no_grad():
        classifier.score.weight.copy_(probe_head(scorer, groups, seed=0))
    for group in groups:
        scores = scorer.score_tokens(group.texts, [0] * len(group.texts))
        assert all(scores[0] > other for other in scores[1:])
