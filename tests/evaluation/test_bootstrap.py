"""Intervals: coverage, pairing, clustering by prompt, ragged rows, determinism."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_align.evaluation.bootstrap import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_pooled,
    bootstrap_stratified,
    bootstrap_win_rate,
    pad_ragged,
)


def test_interval_matches_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, size=400)
    found = bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_coverage_is_near_the_level() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        found = bootstrap_mean(generator.exponential(1.0, size=60), samples=400)
        hits += found.low <= 1.0 <= found.high
    assert 0.87 <= hits / 200 <= 0.99


def test_clusters_widen_the_interval() -> None:
    # Completions of one prompt are alike: 8 draws a prompt hold little more than 1.
    generator = np.random.default_rng(2)
    values = generator.normal(size=(50, 1)) + 0.01 * generator.normal(size=(50, 8))
    clustered = bootstrap_mean(values)
    naive = bootstrap_mean(values.reshape(-1))
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert 2.2 < ratio < 3.5  # sqrt(8) = 2.83
    assert clustered.mean == pytest.approx(naive.mean)


def test_ragged_rows_are_means_of_prompts() -> None:
    padded = pad_ragged([[1.0, 3.0], [5.0]])
    assert padded.shape == (2, 2)
    assert bootstrap_mean(padded).mean == pytest.approx((2.0 + 5.0) / 2)
    assert bootstrap_pooled([[1.0, 3.0], [5.0], []]).mean == pytest.approx(3.0)


def test_pairing_removes_what_prompts_share() -> None:
    generator = np.random.default_rng(3)
    easy = generator.normal(0, 5, size=(64, 1))
    control = easy + generator.normal(0, 0.1, size=(64, 4))
    treatment = easy + 0.2 + generator.normal(0, 0.1, size=(64, 2))  # k may differ
    found = bootstrap_difference(treatment, control)
    assert found.mean == pytest.approx(0.2, abs=0.05)
    assert found.excludes(0.0)
    assert not bootstrap_difference(control, control).excludes(0.0)


def test_win_rate_counts_ties_as_half() -> None:
    assert bootstrap_win_rate([1, 0, 2], [0, 0, 3]).mean == pytest.approx(0.5)
    assert bootstrap_win_rate([[1.0, 0.0]], [[0.0, 0.0, 1.0]]).mean == pytest.approx(
        (1 + 1 + 0.5 + 0.5 + 0.5 + 0) / 6
    )
    missing = bootstrap_win_rate([[1.0, math.nan]], [[0.0, 2.0]])
    assert missing.mean == pytest.approx(0.5)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(4).normal(size=30)
    assert bootstrap_mean(values, seed=7) == bootstrap_mean(values, seed=7)
    assert bootstrap_mean(values, seed=7) != bootstrap_mean(values, seed=8)


def test_one_value_has_no_width_and_large_inputs_stay_small() -> None:
    assert bootstrap_mean([3.0]) == Interval(3.0, 3.0, 3.0)
    found = bootstrap_mean(np.ones(300_000), samples=20)
    assert found.as_dict() == {"mean": 1.0, "low": 1.0, "high": 1.0}


@pytest.mark.parametrize("values", [[], [math.nan], [[1.0], [math.nan]]])
def test_nothing_to_average_is_an_error(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no value"):
        bootstrap_mean(values)


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0], level=95)
    with pytest.raises(ValueError, match="samples"):
        bootstrap_mean([1.0], samples=0)
    with pytest.raises(ValueError, match="3 prompts against 2"):
        bootstrap_difference([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="shape"):
        bootstrap_mean(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="finite"):
        bootstrap_pooled([[1.0, math.nan]])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), st.floats(-100, 100))
def test_the_interval_holds_the_mean_and_moves_with_the_values(
    values: list[float], shift: float
) -> None:
    found = bootstrap_mean(values, samples=200)
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9 or len(values) > 1
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    moved = bootstrap_mean([value + shift for value in values], samples=200)
    assert moved.low == pytest.approx(found.low + shift, abs=1e-6)


def test_strata_are_weighted_and_resample_their_own_groups() -> None:
    """Against the normal approximation: variance is the weighted sum over strata."""
    generator = np.random.default_rng(0)
    first = [[float(x)] for x in generator.random(400) < 0.3]
    second = [[float(x)] for x in generator.random(100) < 0.8]
    found = bootstrap_stratified([first, second], [1.0, 3.0], samples=4000)
    p, q = (np.mean([row[0] for row in rows]) for rows in (first, second))
    assert found.mean == pytest.approx(0.25 * p + 0.75 * q)
    spread = (0.25**2 * p * (1 - p) / 400 + 0.75**2 * q * (1 - q) / 100) ** 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.06)
    assert bootstrap_stratified([first], [2.0], seed=1).mean == pytest.approx(p)
    for strata, weights in (([], []), ([first], [1.0, 1.0]), ([first], [0.0]), ([[]], [1.0])):
        with pytest.raises(ValueError):
            bootstrap_stratified(strata, weights)
