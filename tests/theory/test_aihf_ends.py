"""AIHF (eq. 4.23) at its ends: gamma_demo = 0 is RLHF, alpha_pref = 0 is demonstrations only."""

from __future__ import annotations

import pytest
import torch

from irl_align.core.objectives import bradley_terry, joint, pairwise_logistic


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1).double()
    demo, sample, chosen, rejected = torch.randn(4, 6, 4, dtype=torch.float64)
    return net, demo, sample, chosen, rejected


def gradients(net, loss):
    return [g.clone() for g in torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)]


def losses(model):
    net, demo, sample, chosen, rejected = model
    scores = [net(x).squeeze(-1) for x in (demo, sample, chosen, rejected)]
    return pairwise_logistic(*scores[:2]), bradley_terry(*scores[2:])


def graph(loss):
    """Every node of the autograd graph."""
    seen, stack = set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack += [parent for parent, _ in node.next_functions]
    return seen


def test_without_demonstrations_it_is_bradley_terry(model):
    demo_loss, preference_loss = losses(model)
    mixed = joint(demo_loss, preference_loss, gamma_demo=0.0)
    assert mixed.item() == preference_loss.item()
    assert demo_loss.grad_fn not in graph(mixed)
    for found, expected in zip(
        gradients(model[0], mixed), gradients(model[0], losses(model)[1]), strict=True
    ):
        assert torch.equal(found, expected)


def test_without_preferences_it_is_demonstrations_only(model):
    demo_loss, preference_loss = losses(model)
    mixed = joint(demo_loss, preference_loss, alpha_pref=0.0)
    assert mixed.item() == demo_loss.item()
    assert preference_loss.grad_fn not in graph(mixed)
    for found, expected in zip(
        gradients(model[0], mixed), gradients(model[0], losses(model)[0]), strict=True
    ):
        assert torch.equal(found, expected)


def test_a_dropped_term_does_no_harm(model):
    _, preference_loss = losses(model)
    broken = torch.tensor(float("nan"), dtype=torch.float64, requires_grad=True)
    assert joint(broken, preference_loss, gamma_demo=0.0).item() == preference_loss.item()
    assert joint(None, preference_loss).item() == preference_loss.item()


def test_between_the_ends_both_terms_count(model):
    demo_loss, preference_loss = losses(model)
    mixed = joint(demo_loss, preference_loss, gamma_demo=0.3, alpha_pref=2.0)
    assert mixed.item() == pytest.approx(0.3 * demo_loss.item() + 2 * preference_loss.item())
    assert {demo_loss.grad_fn, preference_loss.grad_fn} <= graph(mixed)


def test_nothing_left_or_a_negative_weight_is_an_error(model):
    demo_loss, preference_loss = losses(model)
    with pytest.raises(ValueError, match="no term left"):
        joint(demo_loss, None, gamma_demo=0.0)
    with pytest.raises(ValueError, match=">= 0"):
        joint(demo_loss, preference_loss, alpha_pref=-1.0)
