"""What holds of every online method by name."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from irl_align.control.config import DemonstratedConfig
from irl_align.control.methods import ONLINE, method
from irl_align.control.sac.learner import Learner
from irl_align.core.config import load_config
from irl_align.core.errors import UserError

OURS = {"ml_irl", "bc", "sqil", "iq_learn"}


def test_the_methods_of_this_project():
    assert set(ONLINE) == OURS | {"gail", "dac", "airl", "f_irl"}


@pytest.mark.parametrize("name", ONLINE)
def test_every_method_has_one_shape(name):
    found = method(name)
    assert issubclass(found.config, DemonstratedConfig)
    assert load_config(found.config, None, ["demonstrations.path=x"]).run_dir == f"runs/{name}"
    parameters = inspect.signature(found.run).parameters
    assert list(parameters) == ["config", "loggers", "keep", "trainer"]
    assert found.run.__name__ == name and found.run.__doc__


@pytest.mark.parametrize("name", ONLINE)
def test_every_method_has_the_keys_that_a_comparison_reads(name, tiny, demonstrations):
    found = method(name)
    result = found.run(tiny(found.config, demonstrations, environment_steps=30), keep=False)
    for row in result.history:
        assert {"steps/environment", "steps/evaluation", "time/policy"} <= row.keys()
    assert "eval/return" in result.history[-1]
    assert result.policy.agent.acting.deterministic() is not None


@pytest.mark.parametrize("name", ONLINE)
def test_the_averaged_actor_follows_whoever_learns(name, tiny, demonstrations):
    """Else what is evaluated and saved is the actor that nothing was taught."""
    found = method(name)
    config = tiny(found.config, demonstrations, environment_steps=30)
    config = replace(config, sac=replace(config.sac, average_over=1))
    learner = found.run(config, keep=False).policy
    untaught = Learner(learner.spaces, config.sac, seed=config.seed)
    seen = np.random.default_rng(0).normal(size=(50, learner.spaces.observation_dim))
    acting, latest, first = (
        actor.deterministic()(seen.astype(np.float32))
        for actor in (learner.acting, learner.agent.acting, untaught.agent.acting)
    )
    assert np.abs(acting - latest).mean() < 0.5 * np.abs(acting - first).mean()


def test_an_unknown_method_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown method 'iqlearn'; did you mean iq_learn\?"):
        method("iqlearn")
