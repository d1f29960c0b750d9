"""The hidden reward and the pairs made from it."""

from __future__ import annotations

import pytest

from irl_align.core.errors import UserError
from irl_align.evaluation.hidden_reward import hidden_pairs, load_hidden_reward


def test_vader_orders_sentiment():
    reward = load_hidden_reward("vader")
    assert reward("", "What a wonderful, happy day!") > 0.5
    assert reward("", "A terrible, sad disaster.") < -0.5


def test_a_function_by_name():
    assert load_hidden_reward("operator:eq")("a", "a") is True


@pytest.mark.parametrize("name", ["sentiment", "no_such_module:f", "operator:no_such_function"])
def test_an_unknown_reward_is_a_clear_error(name):
    with pytest.raises(UserError, match="hidden_reward"):
        load_hidden_reward(name)


def test_pairs_leave_ties_out_and_put_the_better_first():
    assert sorted(hidden_pairs([0.1, 0.5, 0.1])) == [(1, 0), (1, 2)]
    assert hidden_pairs([0.3, 0.3]) == []
