from __future__ import annotations

import math

import pytest
import torch

from irl_align.core.objectives import (
    OBJECTIVES,
    bradley_terry,
    chi_square,
    contrast,
    demonstration_loss,
    pair_metrics,
    pairwise_logistic,
    residual_logistic,
    reverse_kl,
)

DEMO = torch.tensor([1.0, 2.0, -1.0])
SAMPLE = torch.tensor([0.0, 2.0, 3.0])


def log_loss(x: float) -> float:
    return math.log1p(math.exp(-x))


def test_values_by_hand():
    assert contrast(DEMO, SAMPLE).item() == pytest.approx(5 / 3 - 2 / 3)
    expected = (log_loss(2.0) + log_loss(0.0) + log_loss(-8.0)) / 3
    assert pairwise_logistic(DEMO, SAMPLE, beta=0.5).item() == pytest.approx(expected)
    expected = (log_loss(1.0) + log_loss(0.0) + log_loss(-4.0)) / 3
    assert bradley_terry(DEMO, SAMPLE).item() == pytest.approx(expected)
    sums = log_loss(2.0) + log_loss(4.0) + log_loss(-2.0), sum(map(log_loss, (0.0, -4.0, -6.0)))
    assert reverse_kl(DEMO, SAMPLE, beta=0.5).item() == pytest.approx(sum(sums) / 3)
    expected = 5 / 3 - 2 / 3 + (1 + 4 + 1 + 0 + 4 + 9) / 3 / 2
    assert chi_square(DEMO, SAMPLE, beta=0.5).item() == pytest.approx(expected)
    previous = torch.tensor([0.5, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    expected = (log_loss(0.25) + log_loss(0.5) + log_loss(-2.0)) / 3
    found = residual_logistic(DEMO, SAMPLE, *previous, beta=2.0)
    assert found.item() == pytest.approx(expected)


def test_at_the_previous_reward_the_residual_loss_is_log_two():
    assert residual_logistic(DEMO, SAMPLE, DEMO, SAMPLE).item() == pytest.approx(math.log(2))


def test_weights_and_reduction():
    weights = torch.tensor([1.0, 3.0, 0.0])
    for loss in (contrast, pairwise_logistic, bradley_terry, reverse_kl, chi_square):
        each = loss(DEMO, SAMPLE, reduction="none")
        assert each.shape == (3,)
        found = loss(DEMO, SAMPLE, weights=weights)
        assert found.item() == pytest.approx(((each[0] + 3 * each[1]) / 4).item())
        assert loss(DEMO, SAMPLE).item() == pytest.approx(each.mean().item())
        torch.testing.assert_close(
            loss(DEMO, SAMPLE, weights=weights, reduction="none"), each * weights
        )


def test_contrast_takes_sides_of_different_size():
    assert contrast(DEMO, torch.zeros(7)).item() == pytest.approx(-2 / 3)


def test_no_gradient_into_the_previous_reward():
    tensors = [x.clone().requires_grad_(True) for x in (DEMO, SAMPLE, DEMO / 2, SAMPLE / 2)]
    residual_logistic(*tensors).backward()
    assert tensors[0].grad is not None and tensors[1].grad is not None
    assert tensors[2].grad is None and tensors[3].grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    demo, sample = torch.tensor([10.0], dtype=dtype), torch.tensor([0.0], dtype=dtype)
    loss = pairwise_logistic(demo, sample)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(log_loss(10.0), rel=1e-4)
    assert contrast(demo, sample).dtype == torch.float32


def test_large_margins_are_finite():
    loss = pairwise_logistic(torch.tensor([-1e4]), torch.tensor([1e4]))
    assert loss.item() == pytest.approx(2e4)


def test_dispatch_by_name():
    assert demonstration_loss("contrast", DEMO, SAMPLE) == contrast(DEMO, SAMPLE)
    assert demonstration_loss("pairwise_logistic", DEMO, SAMPLE, beta=2.0) == pairwise_logistic(
        DEMO, SAMPLE, 2.0
    )
    weights = torch.tensor([1.0, 0.0, 0.0])
    assert demonstration_loss(
        "residual_logistic", DEMO, SAMPLE, SAMPLE, DEMO, weights=weights
    ) == residual_logistic(DEMO, SAMPLE, SAMPLE, DEMO, weights=weights)
    judged_alone = {"reverse_kl", "chi_square"}
    assert set(OBJECTIVES) == {
        "contrast", "pairwise_logistic", "residual_logistic", *judged_alone
    }  # fmt: skip
    for name in judged_alone:
        assert demonstration_loss(name, DEMO, SAMPLE, beta=0.5) == OBJECTIVES[name](
            DEMO, SAMPLE, 0.5
        )


def test_misuse():
    with pytest.raises(ValueError, match="choose one of contrast"):
        demonstration_loss("logistic", DEMO, SAMPLE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="previous"):
        demonstration_loss("residual_logistic", DEMO, SAMPLE)
    with pytest.raises(ValueError, match="beta"):
        pairwise_logistic(DEMO, SAMPLE, beta=0.0)


def test_pair_metrics_count_ties_as_no_win():
    found = pair_metrics(DEMO, SAMPLE)
    assert found == pytest.approx(
        {
            "reward/accuracy": 1 / 3,
            "reward/margin": -1.0,
            "reward/demo_score": 2 / 3,
            "reward/sample_score": 5 / 3,
        }
    )
