from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.config import SACConfig
from irl_align.control.sac import compiling
from irl_align.control.sac.agent import SAC
from irl_align.control.sac.compiling import threads_for, why_not
from irl_align.control.sac.step import update
from irl_align.control.spaces import Spaces

# As `test_pendulum` has it, so that one compilation serves both.
CONFIG = {"hidden": [64, 64], "batch_size": 100, "update_every": 1}


def agent(compile: str, *, seed: int = 0, cloning: float = 0.0, **changed) -> SAC:
    box = np.full(1, 2.0, np.float32)
    config = SACConfig(**{**CONFIG, **changed}, compile=compile)
    return SAC(Spaces("Test", 3, -box, box), config, seed=seed, cloning=cloning)


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.parametrize("cloning", [0.0, 0.25])
def test_compiled_and_eager_give_the_same_numbers(cloning):
    eager, compiled = agent("never", cloning=cloning), agent("always", cloning=cloning)
    assert compiled.compiled and not eager.compiled
    before = [p.detach().clone() for p in eager.actor.parameters()]
    torch.manual_seed(0)
    with threads_for(CONFIG["hidden"]):
        for _ in range(10):
            rows, rewards = torch.randn(1, 100, 8), torch.randn(1, 100)
            rows[..., -1] = torch.rand(1, 100) < 0.2
            shown = rows[:, :50] if cloning else None
            losses = [each.update(rows, rewards, shown) for each in (eager, compiled)]
            torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    moved = max((a - b).abs().max() for a, b in zip(before, eager.actor.parameters(), strict=True))
    assert moved > 5e-3
    mine, other = eager.state_dict(), compiled.state_dict()
    # Few updates: once rounding decides which critic is the smaller, the two part ways.
    for name in ("actor", "critic", "target"):
        for key in mine[name]:
            torch.testing.assert_close(mine[name][key], other[name][key], atol=1e-6, rtol=0)
    torch.testing.assert_close(mine["log_alpha"], other["log_alpha"])
    assert torch.equal(mine["critic_moments"]["count"], other["critic_moments"]["count"])
    # The numpy views follow the compiled update, too.
    observation = torch.randn(3, 3)
    mean, _ = compiled.actor(observation)
    seen, _ = compiled.acting.distribution(observation.numpy())
    torch.testing.assert_close(mean.detach(), torch.from_numpy(seen), atol=1e-6, rtol=1e-5)


def test_agents_share_machine_code_only_where_it_fits(monkeypatch):
    asked = []

    def compiled(*kind):
        asked.append(kind)
        return update

    monkeypatch.setattr(compiling, "_compiled", compiled)
    monkeypatch.setattr("irl_align.control.sac.compiling.why_not", lambda: None)

    def kind(batches: int = 1, batch_size: int = 8, **changed):
        one = agent("always", **changed)
        one.update(torch.zeros(batches, batch_size, 8), torch.zeros(batches, batch_size))
        return asked[-1]

    own = kind()
    assert kind(seed=1) == own
    others = [
        kind(batches=2),
        kind(batch_size=9),
        kind(hidden=[64, 32]),
        kind(activation="tanh"),
        kind(gamma=0.9),
        kind(alpha=0.2),
        kind(cloning=0.25),
    ]
    assert len({own, *others}) == 1 + len(others)
