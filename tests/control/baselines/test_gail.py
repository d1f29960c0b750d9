from __future__ import annotations

import pytest
import torch

from irl_align.control.baselines.gail import GAILConfig, GAILRewardConfig, LogitReward, shaped
from irl_align.control.networks.rewards import RewardNet
from irl_align.core.config import load_config
from irl_align.core.errors import UserError


def test_the_three_rewards_of_a_logit():
    logits = torch.linspace(-8, 8, 17, dtype=torch.float64)
    d = torch.sigmoid(logits)
    torch.testing.assert_close(shaped(logits, "positive"), -(1 - d).log())
    torch.testing.assert_close(shaped(logits, "negative"), d.log())
    torch.testing.assert_close(shaped(logits, "logit"), d.log() - (1 - d).log())
    extreme = torch.tensor([-1e4, 1e4])
    assert all(shaped(extreme, form).isfinite().all() for form in ("positive", "negative"))


def test_the_reward_follows_its_net_and_scale():
    net = RewardNet(3, 2, [4])
    reward = LogitReward(net, GAILRewardConfig(form="positive", scale=0.2))
    seen, done = torch.randn(5, 7, 3), torch.randn(5, 7, 2)
    for _ in range(2):
        expected = 0.2 * torch.nn.functional.softplus(net(seen, done))
        torch.testing.assert_close(reward(seen, done), expected)
        with torch.no_grad():
            next(net.parameters()).add_(1.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reward.form=gail", "positive, logit, negative"),
        ("reward.inputs=states", "state_action, state"),
        ("reward.scale=0", "scale is 0"),
        ("round.episodes=0", "episodes is 0"),
        ("discriminator.evry=2", "did you mean every"),
    ],
)
def test_bad_values_are_named_with_their_key(override, message):
    with pytest.raises(UserError, match=message):
        load_config(GAILConfig, None, ["demonstrations.path=x.npz", override])
