from __future__ import annotations

import dataclasses

import pytest
import torch

from irl_align.control.baselines import gail as gail_module
from irl_align.control.baselines.dac import DACConfig, dac
from irl_align.control.baselines.gail import GAILConfig, gail
from irl_align.control.config import EnvironmentConfig
from irl_align.core.config import load_config

pytestmark = pytest.mark.usefixtures("registered")


def test_its_settings_are_the_paper_s():
    config = load_config(DACConfig, None, ["demonstrations.path=x"])
    assert config.environment.absorbing and config.sac.absorbing_transitions == 10
    classifier = config.discriminator
    assert (classifier.hidden, classifier.activation) == ([256, 256], "tanh")
    assert (classifier.gradient_penalty, classifier.every, classifier.bound) == (10.0, 1, None)
    assert config.reward.form == "logit"


def test_it_is_gail_with_these_settings(counted, tiny, outcome, monkeypatch):
    """To the bit; and both sides have absorbing transitions, in which nothing is terminated."""
    seen = []
    real = gail_module.fit_discriminator

    def spy(discriminator, logits, expert, agent, *arguments, **options):
        seen.append((expert, agent))
        return real(discriminator, logits, expert, agent, *arguments, **options)

    monkeypatch.setattr(gail_module, "fit_discriminator", spy)
    environment = EnvironmentConfig(name="tests/Counter-v0", absorbing=True)
    config = tiny(DACConfig, counted, environment=environment, environment_steps=40)
    config.discriminator.hidden = [8]
    ours = outcome(dac(config, keep=False))
    expert, agent = seen[-1]
    assert expert.all_rows()[:, expert.layout.observation_dim - 1].sum() == 10
    assert agent.all_rows()[:, expert.layout.observation_dim - 1].sum() >= 10
    assert not expert.all_rows()[:, -1].any()
    shared = {f.name: getattr(config, f.name) for f in dataclasses.fields(GAILConfig)}
    theirs = outcome(gail(GAILConfig(**shared), keep=False))
    assert torch.equal(ours[0], theirs[0]) and ours[1] == theirs[1]
    plain = tiny(GAILConfig, counted, environment=environment, environment_steps=40)
    plain.discriminator.hidden = [8]
    assert not torch.equal(outcome(gail(plain, keep=False))[0], ours[0])
