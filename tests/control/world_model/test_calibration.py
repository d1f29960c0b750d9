from __future__ import annotations

import math

import pytest
import torch

from irl_align.control.buffers import Batch
from irl_align.control.world_model.calibration import calibrate
from irl_align.control.world_model.model import WorldModel
from irl_align.core.errors import UserError


def test_the_true_model_is_calibrated(system, known):
    data = system.data(20_000)
    found = calibrate(known(system), data, None, penalty="mopo_default", seed=0).held_out
    assert found.within_one == pytest.approx(0.6827, abs=0.01)
    assert found.within_two == pytest.approx(0.9545, abs=0.005)
    torch.testing.assert_close(torch.tensor(found.rmse), system.std, rtol=0.03, atol=0)
    # The negative entropy of the noise.
    wanted = sum(-0.5 * math.log(2 * math.pi * math.e * s**2) for s in system.std.tolist())
    assert found.log_likelihood == pytest.approx(wanted, abs=0.03)
    assert found.rank_correlation is None  # it is as sure everywhere
    assert found.penalty == pytest.approx(float(system.std.norm()), rel=1e-4)
    moved = (data.next_observations - data.observations).square().mean(dim=0).sqrt()
    torch.testing.assert_close(torch.tensor(found.rmse_of_staying), moved)


def test_a_model_that_is_too_sure_is_found_out(system, known):
    data = system.data(5_000)
    sure = calibrate(known(system, std=system.std / 3), data, None, penalty="morel", seed=0)
    true = calibrate(known(system), data, None, penalty="morel", seed=0)
    assert sure.held_out.within_one == pytest.approx(math.erf(1 / 3 / math.sqrt(2)), abs=0.02)
    assert sure.held_out.log_likelihood < true.held_out.log_likelihood - 1
    assert sure.held_out.rmse == pytest.approx(true.held_out.rmse)


class Unsure(WorldModel):
    """As wrong as it says: both grow with the first number of the state."""

    def predict(self, observations, actions):
        means, stds = super().predict(observations, actions)
        size = observations[:, :1].abs()
        return means + size, stds * (0.01 + size)


def unsure(system, known) -> Unsure:
    model = known(system)
    return Unsure(model.ensemble, model.scales, model.elites, model.termination)


def test_errors_follow_the_penalty(system, known):
    data = system.data(4_000, noise=0.0)
    found = calibrate(unsure(system, known), data, None, penalty="mopo_default", seed=0)
    assert found.held_out.rank_correlation == pytest.approx(1, abs=1e-3)
    assert len(found.by_penalty) == 10
    assert found.by_penalty == sorted(found.by_penalty)
    errors = [error for _, error in found.by_penalty]
    assert errors == sorted(errors)


def test_expert_pairs_outside_of_the_data_are_not_covered(system, known):
    model, data = unsure(system, known), system.data(2_000, noise=0.0)

    def expert(first: float) -> Batch:
        observations = torch.tensor([[first, 0.0]]).repeat(30, 1)
        actions = torch.zeros(30, 1)
        following = system.mean(observations, actions)
        return Batch(observations, actions, following, torch.zeros(30))

    def covered(first: float) -> tuple[float | None, float]:
        found = calibrate(model, data, expert(first), penalty="mopo_default", seed=0)
        assert found.expert is not None
        assert found.expert_predicted == found.expert_covered  # it is as wrong as it says
        return found.expert_covered, found.expert.error

    near, far = covered(0.1), covered(4.0)
    assert near[0] == 1 and far[0] == 0
    assert far[1] == pytest.approx(40 * near[1], rel=1e-3)
    assert calibrate(model, data, None, penalty="morel", seed=0).expert_covered is None
    # By its own measure 95% of the data are covered.
    same = calibrate(model, data, data, penalty="mopo_default", seed=0)
    assert same.expert_covered == pytest.approx(0.95, abs=1e-9)
    assert same.expert_predicted == pytest.approx(0.95, abs=1e-9)
    assert "95.0% of expert pairs are predicted as well as 95%" in same.render()


def test_a_model_that_does_not_know_that_it_is_wrong(system, known):
    """As sure everywhere: all expert pairs are covered, though none is predicted."""
    data = system.data(1_000)
    shifted = data._replace(next_observations=data.next_observations + 5)
    found = calibrate(known(system), data, shifted, penalty="mopo_default", seed=0)
    assert (found.expert_predicted, found.expert_covered) == (0, 1)


def test_nothing_to_measure_on(system, known):
    with pytest.raises(UserError, match="no held-out transitions"):
        calibrate(known(system), system.data(0), None, penalty="morel", seed=0)
