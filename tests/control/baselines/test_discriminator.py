from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from irl_align.control.baselines import discriminator as module
from irl_align.control.baselines.discriminator import (
    ClassifierConfig,
    Discriminator,
    classification_loss,
    drawn,
    fit_discriminator,
)
from irl_align.control.buffers import Batch, ReplayBuffer
from irl_align.core.errors import UserError


def buffer_of(observations, actions) -> ReplayBuffer:
    observations, actions = (
        torch.as_tensor(x, dtype=torch.float32) for x in (observations, actions)
    )
    count = len(observations)
    buffer = ReplayBuffer(count, observations.shape[1], actions.shape[1])
    end = torch.zeros(count, 1)
    buffer.extend_packed(torch.cat([observations, actions, observations, end], dim=1))
    return buffer


def new(dims=(4, 2), inputs="state_action", **options) -> Discriminator:
    plain = {"hidden": [8], "gradient_penalty": 0.0, "batch_size": 32, "bound": None}
    config = ClassifierConfig(**{**plain, **options})
    return Discriminator({"discriminator": config.net(*dims, inputs, 0)}, config)


def fit(discriminator, expert, agent, steps, seed=0, **options):
    net = discriminator.first

    def logits(batch: Batch):
        return net(batch.observations, batch.actions)

    return fit_discriminator(discriminator, logits, expert, agent, steps, seed=seed, **options)


def flat(discriminator) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in discriminator.first.parameters()])


def test_the_loss_is_cross_entropy_of_both_sides():
    demo, sample = torch.tensor([0.3, -2.0]), torch.tensor([1.0, -0.5, 30.0])
    expected = -torch.sigmoid(demo).log().mean() - logsigmoid(-sample).mean()
    torch.testing.assert_close(classification_loss(demo, sample), expected)
    assert classification_loss(torch.zeros(3), torch.zeros(5)).item() == pytest.approx(
        2 * math.log(2)
    )


def test_it_converges_to_the_log_ratio_of_two_densities():
    """p_E = N(m, I), p_A = N(-m, I) over (s, a): log p_E - log p_A = 2 m . (s, a)."""
    torch.manual_seed(0)
    mean = torch.tensor([0.4, -0.3])
    expert, agent = (sign * mean + torch.randn(40_000, 2) for sign in (1, -1))
    found = new((1, 1), hidden=[32], learning_rate=5e-3, batch_size=512)
    metrics = fit(found, *(buffer_of(x[:, :1], x[:, 1:]) for x in (expert, agent)), 400)
    at = torch.randn(500, 2).clamp(-1.5, 1.5)
    with torch.no_grad():
        error = found.first(at[:, :1], at[:, 1:]) - 2 * at @ mean
    assert error.square().mean().sqrt() < 0.15
    assert metrics["reward/demo_score"] > 0.2 > -0.2 > metrics["reward/sample_score"]


def test_a_linear_net_s_penalty_in_closed_form():
    torch.manual_seed(0)
    sides = [Batch(torch.randn(9, 4), torch.randn(9, 2), torch.randn(9, 4), torch.zeros(9))] * 2
    for inputs in ("state_action", "state"):
        net = new(inputs=inputs, hidden=[]).first
        weight = next(net.parameters())
        expected = (weight.norm() - 1).square()
        penalty = module._gradient_penalty(net, *sides, torch.Generator().manual_seed(0))
        torch.testing.assert_close(penalty, expected)
        assert torch.autograd.grad(penalty, weight)[0].norm() > 0.1


def test_the_penalty_holds_steep_nets_back():
    torch.manual_seed(0)
    expert, agent = (buffer_of(torch.randn(500, 4) + x, torch.randn(500, 2)) for x in (2, -2))
    slopes = []
    for weight in (0.0, 10.0):
        one = new(hidden=[], gradient_penalty=weight, learning_rate=0.1)
        fit(one, expert, agent, 100)
        slopes.append(next(one.first.parameters()).norm().item())
    assert slopes[0] > 2 and slopes[1] == pytest.approx(1, abs=0.15)


def test_draws_leave_the_replay_s_own_generator_alone(build):
    buffers = [ReplayBuffer.of(build.trajectories((40, 30), (False, False))) for _ in range(2)]
    drawn(buffers[0], 10, torch.Generator().manual_seed(1))
    assert torch.equal(buffers[0].draw_index(20), buffers[1].draw_index(20))


def test_recent_steps_are_the_last_ones():
    buffer = ReplayBuffer(10, 1, 1)
    rows = torch.arange(13.0)[:, None].expand(13, 4)
    buffer.extend_packed(rows[:8])
    buffer.extend_packed(rows[8:])
    generator = torch.Generator().manual_seed(0)
    found = drawn(buffer, 200, generator, recent=4).observations
    assert set(found.flatten().tolist()) == {9.0, 10.0, 11.0, 12.0}
    assert len(set(drawn(buffer, 500, generator).observations.flatten().tolist())) == 10
    assert len(set(drawn(buffer, 500, generator, 99).observations.flatten().tolist())) == 10


def test_what_is_owed_is_made_later():
    one = new(every=10)
    assert [one.steps_for(n) for n in (4, 4, 4, 25, 3)] == [0, 0, 1, 2, 1]
    assert one.owed == 0


def test_it_goes_on_where_it_was_saved(build, tmp_path):
    expert, agent = (
        ReplayBuffer.of(build.trajectories((40, 30), (False, ends))) for ends in (True, False)
    )
    first, other = new(gradient_penalty=1.0), new(gradient_penalty=1.0)
    fit(first, expert, agent, first.steps_for(53))
    first.save(tmp_path)
    other.load(tmp_path)
    assert other.owed == 3
    for each in (first, other):
        fit(each, expert, agent, each.steps_for(27), seed=5)
    assert torch.equal(flat(first), flat(other)) and first.owed == other.owed == 0
    (tmp_path / "classifier.pt").write_bytes(b"torn")
    with pytest.raises(UserError, match="not a discriminator of this configuration"):
        other.load(tmp_path)


def test_no_step_changes_nothing_and_says_nothing(build):
    both = ReplayBuffer.of(build.trajectories())
    one = new()
    before = copy.deepcopy(flat(one))
    assert fit(one, both, both, 0) == {} and torch.equal(before, flat(one))


def test_divergence_is_named(build):
    both = ReplayBuffer.of(build.trajectories())
    with pytest.raises(UserError, match="lower its learning_rate"):
        fit(new(learning_rate=1e30, activation="relu"), both, both, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "gelu"}, "activation"),
        ({"hidden": [0]}, "hidden"),
        ({"bound": 0.0}, "bound"),
        ({"recent": 0}, "recent"),
        ({"every": 0}, "every"),
        ({"gradient_penalty": -1.0}, "gradient_penalty"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**change)
