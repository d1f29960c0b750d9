"""What the regression's target does to the level of Q."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.bicql.config import AdvantageConfig
from irl_align.control.bicql.regression import SoftAdvantages
from irl_align.control.transitions import Transitions

GAMMA = 0.9


@pytest.mark.parametrize(("hold", "answer"), [("nothing", 1.0), ("reward", 0.0), ("value", -9.0)])
def test_a_q_that_moved_up_is_answered_with(learner, spaces, hold, answer):
    """Q + 40 has advantages that are 40 (1 - gamma) larger. Regressed onto these it stays up; onto
    what is left of them without their mean, too; a held value is pulled ten times as hard."""
    rng = np.random.default_rng(0)
    low, high = spaces.action_low, spaces.action_high
    states = rng.normal(size=(2, 30, spaces.observation_dim))
    shown = Transitions.from_arrays(
        states[0], rng.uniform(low, high, (30, len(low))), states[1], np.zeros(30)
    )
    config = AdvantageConfig(batch_size=20, steps=3, bound=None)
    ctx = type("Context", (), {"seed": 5})()
    regressed = []
    for moved in (0.0, 40.0):
        policy = learner(spaces, critic={"gamma": GAMMA})
        with torch.no_grad():
            policy.parts.critic.net.layers[-1].bias += moved
        found, _ = SoftAdvantages(shown, config, hold=hold).sample(policy, ctx)
        regressed.append(found.advantages)
    change = regressed[1] - regressed[0]
    wanted = torch.full_like(change, answer * 40.0 * (1 - GAMMA))
    torch.testing.assert_close(change, wanted, atol=1e-3, rtol=1e-4)


def test_what_can_be_held_is_named():
    with pytest.raises(ValueError, match="hold is 'level'; it must be one of reward, value"):
        AdvantageConfig(hold="level")
    assert AdvantageConfig().hold is None
