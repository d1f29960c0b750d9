"""The arithmetic of PPO by hand: rewards, advantages, whitening, losses, padding."""

from __future__ import annotations

import pytest
import torch

from irl_align.llm.policy.scores import paid
from irl_align.llm.policy.settings import ScoreSettings
from irl_align.llm.ppo.advantages import (
    generalised_advantages,
    masked_mean,
    masked_whiten,
    token_rewards,
)
from irl_align.llm.ppo.experience import Rollout, pad_rollouts
from irl_align.llm.ppo.kl_control import KLCoefficient
from irl_align.llm.ppo.losses import clipped_policy_loss, clipped_value_loss, importance_weights

MASK = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]])


def test_the_score_stands_on_the_last_token_and_the_kl_is_a_cost():
    logprobs = torch.tensor([[-1.0, -2, -3, 9], [-4, 9, 9, 9]])
    reference = torch.tensor([[-1.5, -2, -2, 7], [-5, 7, 7, 7]])
    rewards = token_rewards(torch.tensor([10.0, 20.0]), logprobs, reference, MASK, beta=0.1)
    wanted = torch.tensor([[-0.05, 0.0, 10 + 0.1, 0], [20 - 0.1, 0, 0, 0]])
    torch.testing.assert_close(rewards, wanted)


def test_advantages_are_the_discounted_sums_of_temporal_differences():
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(2, 4, generator=generator) * MASK
    values = torch.randn(2, 4, generator=generator)  # rubbish behind the answers, on purpose
    gamma, lam = 0.9, 0.8
    advantages, returns = generalised_advantages(rewards, values, MASK, gamma=gamma, gae_lambda=lam)
    for row, length in enumerate((3, 1)):
        v = [*values[row, :length].tolist(), 0.0]  # behind the last token nothing is paid
        deltas = [float(rewards[row, t]) + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            wanted = sum((gamma * lam) ** k * d for k, d in enumerate(deltas[t:]))
            assert float(advantages[row, t]) == pytest.approx(wanted, abs=1e-6)
            assert float(returns[row, t]) == pytest.approx(wanted + v[t], abs=1e-6)
    assert not advantages[MASK == 0].any() and not returns[MASK == 0].any()


def test_with_lambda_one_returns_are_the_sums_of_what_follows():
    rewards = torch.tensor([[1.0, 2, 3, 0], [5, 0, 0, 0]])
    _, returns = generalised_advantages(rewards, torch.randn(2, 4), MASK, gamma=1.0, gae_lambda=1.0)
    torch.testing.assert_close(returns, torch.tensor([[6.0, 5, 3, 0], [5, 0, 0, 0]]))


def test_whitening_sees_answers_only():
    values = torch.tensor([[1.0, 2, 3, 1e6], [4, 1e6, 1e6, 1e6]])
    white = masked_whiten(values, MASK)
    assert float(masked_mean(white, MASK)) == pytest.approx(0, abs=1e-6)
    assert float(masked_mean(white**2, MASK)) == pytest.approx(1, abs=1e-5)
    assert not white[MASK == 0].any()
    kept = masked_whiten(values, MASK, shift=False)
    assert float(masked_mean(kept, MASK)) == pytest.approx(2.5, abs=1e-5)


def test_the_policy_loss_stops_where_the_ratio_left_the_clip_to_the_good_side():
    old = torch.zeros(1, 4)
    logprobs = torch.tensor([1.5, 0.5, 1.5, 0.5]).log()[None].requires_grad_()
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    loss, clipped = clipped_policy_loss(logprobs, old, advantages, 0.2)
    torch.testing.assert_close(loss, torch.tensor([[-1.2, -0.5, 1.5, 0.8]]))
    assert clipped.tolist() == [[True, False, False, True]]
    loss.sum().backward()
    assert (logprobs.grad == 0).tolist() == [[True, False, False, True]]


def test_the_value_loss_takes_the_worse_of_free_and_held():
    old, returns = torch.zeros(1, 3), torch.tensor([[1.0, 1.0, -1.0]])
    values = torch.tensor([[0.1, 0.9, 0.9]])
    loss = clipped_value_loss(values, old, returns, 0.2)
    wanted = [0.5 * 0.9**2, 0.5 * 0.8**2, 0.5 * 1.9**2]
    torch.testing.assert_close(loss, torch.tensor([wanted]))
    free = clipped_value_loss(values, old, returns, None)
    torch.testing.assert_close(free, 0.5 * (values - returns) ** 2)


def test_importance_weights_are_cut_above_only():
    weights = importance_weights(torch.tensor([0.0, 0.0]), torch.tensor([1.0, -5.0]), cap=2.0)
    torch.testing.assert_close(weights, torch.tensor([torch.e**-1, 2.0]))


def test_the_kl_coefficient_follows_its_target_and_otherwise_stays():
    fixed = KLCoefficient(0.1)
    fixed.observe(100.0, 512)
    assert fixed.beta == 0.1
    steered = KLCoefficient(0.1, target=5.0, horizon=1000)
    steered.observe(5.5, 500)
    assert steered.beta == pytest.approx(0.1 * (1 + 0.1 * 0.5))
    steered = KLCoefficient(0.1, target=5.0, horizon=1000)
    steered.observe(0.0, 500)
    assert steered.beta == pytest.approx(0.1 * (1 - 0.2 * 0.5))


@pytest.mark.parametrize(
    ("settings", "finished", "wanted"),
    [
        (ScoreSettings(), True, 2.0),
        (ScoreSettings(), False, 1.0),
        (ScoreSettings(missing_eos_score=-1.0), False, -1.0),
        (ScoreSettings(missing_eos_score=-1.0), True, 2.0),
        (ScoreSettings(normalise=False, missing_eos_penalty=3.0), False, 4.0),
    ],
)
def test_what_an_answer_is_paid(settings, finished, wanted):
    assert paid(7.0, finished, settings, centre=3.0, scale=2.0) == wanted


def test_prompts_are_padded_in_front_and_answers_behind():
    batch = pad_rollouts([Rollout((5, 6, 7), (8,), True), Rollout((9,), (3, 4), False)], 0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 0], [0, 0, 9, 3, 4]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert batch.position_ids[0, :4].tolist() == [0, 1, 2, 3]
    assert batch.position_ids[1, 2:].tolist() == [0, 1, 2]
    assert batch.mask.tolist() == [[1, 0], [1, 1]]
