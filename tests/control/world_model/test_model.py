from __future__ import annotations

import pytest
import torch

from irl_align.control.spaces import Spaces
from irl_align.control.world_model.model import FILE, WorldModel, fit_world_model
from irl_align.core.errors import UserError


def test_a_step_draws_from_the_elites_gaussians(system, known):
    offsets = [[-3.0, 0], [0, 0], [5, 0]]
    model = known(system, offsets=offsets)
    model.elites = torch.tensor([0, 2])
    observations, actions = torch.zeros(20_000, 2), torch.zeros(20_000, 1)
    step = model.step(observations, actions, torch.Generator().manual_seed(0), "morel")
    first = step.next_observations[:, 0]
    low = first[first < 1]
    assert ((first - 5).abs() < 1).sum() + len(low) == 20_000  # never the member in the middle
    assert 0.48 < len(low) / 20_000 < 0.52
    torch.testing.assert_close(low.std(), system.std[0], rtol=0.03, atol=0)
    torch.testing.assert_close(low.mean(), torch.tensor(-3.0), rtol=0, atol=0.003)
    second = step.next_observations[:, 1]
    torch.testing.assert_close(second.std(), system.std[1], rtol=0.03, atol=0)
    torch.testing.assert_close(step.penalties, torch.full((20_000,), 8.0))  # of all members
    assert not step.terminated.any()


def test_next_states_stay_in_the_box_of_the_data(system, small):
    data = system.data(400)
    far = torch.full((50, 2), 30.0)
    for stay in (False, True):
        config = small(max_epochs=2, stay_in_box=stay)
        model = fit_world_model(data, system.spaces, config, seed=0).model
        step = model.step(far, torch.zeros(50, 1), torch.Generator().manual_seed(0), None)
        inside = (step.next_observations <= data.next_observations.amax(dim=0)).all()
        assert bool(inside) == stay


def test_the_same_generator_gives_the_same_step(system, known):
    model, data = known(system), system.data(50)
    steps = [
        model.step(data.observations, data.actions, torch.Generator().manual_seed(seed), penalty)
        for seed, penalty in ((1, "morel"), (1, None), (2, None))
    ]
    # Without a penalty nobody asks members that were not chosen; their sums may round otherwise.
    torch.testing.assert_close(steps[0].next_observations, steps[1].next_observations)
    assert not torch.equal(steps[0].next_observations, steps[2].next_observations)
    assert not steps[1].penalties.any()


def test_what_is_saved_comes_back(system, small, tmp_path):
    data = system.data(300)
    data = data._replace(terminated=(data.next_observations[:, 0] > 1).float())
    config = small(max_epochs=2, standardised_targets=True)
    model = fit_world_model(data, system.spaces, config, seed=0, facts={"data": "abc"}).model
    model.save(tmp_path)
    for path in (tmp_path, tmp_path / FILE):
        again = WorldModel.load(path, system.spaces)
        one, other = (
            each.step(data.observations, data.actions, torch.Generator().manual_seed(0), "m2ac")
            for each in (model, again)
        )
        for mine, its in zip(one, other, strict=True):
            assert torch.equal(mine, its)
        assert one.terminated.any() and not one.terminated.all()
        assert again.facts == model.facts and again.facts["data"] == "abc"


@pytest.mark.parametrize("name", ["Hopper-v5", "Pendulum-v1"])
def test_known_ends_come_back(system, known, tmp_path, name, small):
    spaces = Spaces(name, 2, system.spaces.action_low, system.spaces.action_high)
    model = fit_world_model(system.data(20), spaces, small(max_epochs=1), seed=0).model
    model.save(tmp_path)
    states = torch.tensor([[1.0, 0.0], [0.1, 0.0]])
    again = WorldModel.load(tmp_path).termination(states)
    assert again.tolist() == model.termination(states).tolist() == [False, name == "Hopper-v5"]


def test_what_is_no_model_is_refused(system, known, tmp_path):
    with pytest.raises(UserError, match="no such world model"):
        WorldModel.load(tmp_path / "nowhere.pt")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"bad\.pt: not a world model"):
        WorldModel.load(tmp_path / "bad.pt")
    known(system).save(tmp_path)
    wide = Spaces("Wide-v0", 5, system.spaces.action_low, system.spaces.action_high)
    with pytest.raises(UserError, match="of 2 observation and 1 action numbers, but Wide-v0 has 5"):
        WorldModel.load(tmp_path, wide)
