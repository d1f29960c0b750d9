from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.environments.ant_model import actuator_names
from irl_align.control.networks.rewards import RewardNet, save_reward
from irl_align.control.spaces import Spaces
from irl_align.control.transfer import frozen_reward, reward_file
from irl_align.core.errors import UserError
from irl_align.core.run import RunDirectory


def spaces(name, observations=111, actions=8) -> Spaces:
    box = np.full(actions, -1, np.float32), np.full(actions, 1, np.float32)
    return Spaces(name, observations, *box)


def saved(path, inputs, **facts):
    torch.manual_seed(0)
    net = RewardNet(111, 8, (4,), inputs=inputs).eval()
    save_reward(path, net, **facts)
    return net


def by_name(ant, pushed):
    """An action [1, 8] of `ant` that pushes these motors."""
    return torch.tensor([[pushed[name] for name in actuator_names(ant)]])


def test_the_same_motors_earn_the_same_in_both_ants(tmp_path):
    net = saved(tmp_path / "r.pt", "state_action", environment="irl_align/CustomAnt-v0", alpha=0.1)
    frozen = frozen_reward(tmp_path / "r.pt", spaces("irl_align/DisabledAnt-v0"))
    state, generator = torch.randn(1, 111), np.random.default_rng(0)
    pushed = {name: float(generator.uniform(-1, 1)) for name in actuator_names("CustomAnt")}
    learned = net(state, by_name("CustomAnt", pushed))
    there = by_name("DisabledAnt", pushed)
    torch.testing.assert_close(frozen.function(state, there), learned)
    assert (net(state, there) - learned).abs() > 1e-3  # what it would be without the permutation
    assert frozen.permutation == [6, 7, 0, 1, 2, 3, 4, 5] and frozen.alpha == 0.1
    assert "actions permuted: [6, 7" in frozen.render()


@pytest.mark.parametrize(
    ("inputs", "learned_in", "used_in"),
    [
        ("state", "irl_align/CustomAnt-v0", "irl_align/DisabledAnt-v0"),
        ("state_action", "irl_align/CustomAnt-v0", "irl_align/CustomAnt-v0"),
        ("state_action", "irl_align/CustomAnt-v0", "Other-v0"),
        ("state_action", None, "irl_align/DisabledAnt-v0"),
    ],
)
def test_nothing_is_permuted_without_need(tmp_path, inputs, learned_in, used_in):
    facts = {"environment": learned_in} if learned_in else {}
    net = saved(tmp_path / "r.pt", inputs, **facts)
    frozen = frozen_reward(tmp_path / "r.pt", spaces(used_in))
    state, action = torch.randn(3, 111), torch.rand(3, 8)
    torch.testing.assert_close(frozen.function(state, action), net(state, action))
    assert frozen.permutation is None and "actions permuted" not in frozen.render()
    assert frozen.learned_in == learned_in


def test_what_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "r.pt"
    saved(path, "state_action")
    with pytest.raises(
        UserError, match=r"r\.pt: a reward of 111 observation numbers, but X has 17;"
    ):
        frozen_reward(path, spaces("X", 17))
    with pytest.raises(UserError, match=r"has 112; is it environment\.absorbing"):
        frozen_reward(path, spaces("X", 112))
    with pytest.raises(UserError, match=r"8 action numbers, but X has 3; .*reward\.inputs=state"):
        frozen_reward(path, spaces("X", actions=3))
    saved(path, "state")
    assert frozen_reward(path, spaces("X", actions=3)).inputs == "state"
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a reward net"):
        frozen_reward(path, spaces("X"))


def commit(path, rounds, phase="reward"):
    """A run whose returns fall: choosing by them would take round 0."""
    with RunDirectory(path).open({}) as run:
        for number in rounds:
            folder = run.begin_phase(number, phase)
            saved(folder / "reward.pt", "state")
            run.commit_phase(number, phase, {}, 0.0, 0)
            run.commit_round(number, {"eval/return": -float(number)})


def test_the_last_committed_round_counts(tmp_path):
    commit(tmp_path / "one", [0, 2])
    expected = tmp_path / "one/rounds/0002/reward/reward.pt"
    (tmp_path / "one/rounds/0003/reward").mkdir(parents=True)  # what a crash left
    assert reward_file(tmp_path / "one", 7) == expected
    assert reward_file(expected, 7) == expected
    for seed in (0, 1):
        commit(tmp_path / f"many/seed-{seed}", [seed])
        found = reward_file(tmp_path / "many", seed)
        assert found == tmp_path / f"many/seed-{seed}/rounds/{seed:04d}/reward/reward.pt"


def test_no_reward_is_an_error_that_names_the_mend(tmp_path):
    with pytest.raises(UserError, match="no such file or folder; give a saved reward"):
        reward_file(tmp_path / "nowhere", 0)
    with pytest.raises(UserError, match="no run, and no seed-4 in it"):
        reward_file(tmp_path, 4)
    commit(tmp_path / "early", [])
    with pytest.raises(UserError, match="no round of this run is committed yet"):
        reward_file(tmp_path / "early", 0)
    commit(tmp_path / "expert", [1], phase="policy")
    with pytest.raises(UserError, match=r"round 1 has no reward/reward\.pt"):
        reward_file(tmp_path / "expert", 0)
