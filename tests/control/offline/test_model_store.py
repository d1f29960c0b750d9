"""World models that several runs share: the same numbers as without, and nobody else's model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from irl_align.control.mopo import mopo
from irl_align.control.offline.config import MOPOConfig
from irl_align.control.offline_ml_irl import offline_ml_irl
from irl_align.core.errors import UserError

PREPARING = "irl_align.control.offline.preparing"


def weights(result) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in result.policy.agent.actor.parameters()])


def stored(tiny, home, run, **changes):
    config = tiny(home / run, rounds=2, **changes)
    settings = replace(config.world_model, store=str(home / "models"))
    return replace(config, world_model=settings)


def test_the_second_run_takes_the_first_ones_model(tiny, sections, tmp_path, monkeypatch):
    alone = offline_ml_irl(tiny(tmp_path / "alone", rounds=2))
    first = offline_ml_irl(stored(tiny, tmp_path, "first"))
    assert torch.equal(weights(first), weights(alone))
    monkeypatch.setattr(f"{PREPARING}.fit_world_model", None)
    second = offline_ml_irl(stored(tiny, tmp_path, "second"))
    assert torch.equal(weights(second), weights(alone))
    setups = [tmp_path / run / "setup/world_model" for run in ("alone", "first", "second")]
    said = [(setup / "fit.json").read_text() for setup in setups[1:]]
    assert "taken_from" not in said[0] and "taken_from" in said[1]
    calibrations = {(setup / "calibration.json").read_text() for setup in setups}
    assert len(calibrations) == 1
    # Another method on the same data, too.
    own = sections()
    own["world_model"] = replace(own["world_model"], store=str(tmp_path / "models"))
    mopo(MOPOConfig(run_dir=str(tmp_path / "mopo"), reward="true_reward", **own | {"rounds": 1}))


@pytest.mark.parametrize("changed", ["seed", "members", "data"])
def test_what_differs_is_fitted_anew(tiny, tmp_path, changed):
    config = stored(tiny, tmp_path, "first")
    offline_ml_irl(config)
    other = replace(config, run_dir=str(tmp_path / "second"))
    if changed == "seed":
        other.seed = 1
    elif changed == "members":
        other.world_model.members = 4
    else:
        other.dataset.count = 9
    offline_ml_irl(other)
    assert len(list((tmp_path / "models").iterdir())) == 2


def test_a_damaged_model_is_named(tiny, tmp_path):
    offline_ml_irl(stored(tiny, tmp_path, "first"))
    (place,) = (tmp_path / "models").iterdir()
    with (place / "world_model.pt").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    with pytest.raises(UserError, match=f"{place.name} is damaged"):
        offline_ml_irl(stored(tiny, tmp_path, "second"))
