from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import irl_align.control
from irl_align.control.true_rewards import TransitionRewards, TrueRewards

ROOM = Path(irl_align.control.__file__).parent
# They make or hand over true rewards; what learns is not among them, but for the yardsticks that
# are there to show what the true reward would give.
MAY_KNOW = {"true_rewards.py", "rollouts.py", "loading.py", "saving.py", "recording.py"} | {
    "cql.py",
    "mopo.py",
    "true_reward.py",
}


def test_returns():
    rewards = TrueRewards([[1.0, 2.0, 4.0], [3.0]])
    np.testing.assert_allclose(rewards.returns(), [7.0, 3.0])
    np.testing.assert_allclose(rewards.returns(0.5), [3.0, 3.0])
    np.testing.assert_allclose(rewards.select([1]).returns(), [3.0])
    rewards.of(0)[:] = 0
    np.testing.assert_allclose(rewards.returns(), [7.0, 3.0])
    with pytest.raises(ValueError):
        TrueRewards([[[1.0]]])


def test_rewards_of_transitions_stand_in_their_order():
    rewards = TransitionRewards.of(TrueRewards([[1.0, 2.0], [3.0]]))
    assert rewards.values.tolist() == [1, 2, 3] and len(rewards) == 3


def test_who_may_know_true_rewards():
    knowing = {
        path.name
        for path in ROOM.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("true_rewards")
    }
    assert knowing | {"true_rewards.py"} == MAY_KNOW
