from __future__ import annotations

import pytest
import torch

from irl_align.control.baselines.iq_learn import REWARD, IQLearnConfig, iq_learn
from irl_align.control.baselines.recovered_reward import (
    RecoveredReward,
    load_recovered_reward,
    save_recovered_reward,
)
from irl_align.control.config import SACConfig
from irl_align.control.sac.agent import SAC
from irl_align.core.errors import UserError


@pytest.fixture
def agent(spaces) -> SAC:
    return SAC(spaces, SACConfig(hidden=[8], alpha=0.3, gamma=0.9, compile="never"), seed=1)


def transitions(count: int = 5):
    torch.manual_seed(2)
    return torch.randn(count, 4), torch.randn(count, 2), torch.randn(count, 4)


def test_it_is_the_inverse_bellman_operator(agent):
    """r = Q(s, a) - gamma (1 - d) mean over the draws of (Q(s', a') - alpha log pi)."""
    reward = RecoveredReward.of(agent)
    s, a, s2 = transitions()
    ended = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0])
    found = reward(s, a, s2, ended)
    for i in range(5):
        values = []
        for eps in reward.noise:
            action, log_prob = agent.actor.sample(s2[i : i + 1], eps[None])
            q = agent.parts.critic(s2[i : i + 1], action)
            values.append(q.mean() - 0.3 * log_prob[0])
        v = torch.stack(values).mean()
        expected = agent.parts.critic(s[i : i + 1], a[i : i + 1]).mean() - 0.9 * (1 - ended[i]) * v
        torch.testing.assert_close(found[i], expected)
    assert torch.equal(reward(s, a, s2, ended), found)  # the same draws on every call
    assert not torch.equal(reward(s, a, s2), found)


def test_an_absorbing_state_is_worth_what_its_one_action_is(spaces):
    agent = SAC(spaces, SACConfig(hidden=[8], compile="never"), seed=1, absorbing=True)
    over = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    value = RecoveredReward.of(agent).value(over)
    torch.testing.assert_close(value, agent.parts.critic(over, torch.zeros(1, 2)).mean(dim=0))


def test_it_survives_the_disk(agent, tmp_path):
    reward = RecoveredReward.of(agent)
    path = tmp_path / "reward.pt"
    save_recovered_reward(path, reward, hidden=[8], environment="Test-v0")
    again, facts = load_recovered_reward(path)
    assert facts == {"environment": "Test-v0"}
    torch.testing.assert_close(again(*transitions()), reward(*transitions()), atol=0, rtol=0)


def test_what_is_no_recovered_reward_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such recovered reward"):
        load_recovered_reward(tmp_path / "nowhere.pt")
    torch.save({"actor": {}}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="not a recovered reward"):
        load_recovered_reward(tmp_path / "other.pt")


def test_a_run_saves_the_reward_of_its_critics(tiny, demonstrations, tmp_path):
    result = iq_learn(tiny(IQLearnConfig, demonstrations, tmp_path / "run"))
    last = tmp_path / "run" / "rounds" / f"{len(result.history) - 1:04d}" / "policy" / REWARD
    saved, facts = load_recovered_reward(last)
    replayed = result.policy.buffer.recent(20)
    assert torch.equal(saved(*replayed), result.reward(*replayed))
    assert facts["environment"] == "Pendulum-v1"
    assert facts["alpha"] == pytest.approx(result.policy.agent.alpha)
    assert {"reward/demo_score", "reward/sample_score"} <= result.history[-1].keys()
