from __future__ import annotations

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import (
    check_discount,
    check_distribution,
    check_finite,
    check_policy,
    check_shape,
)


def test_shape_is_named():
    assert check_shape("x", [[1, 2]], (1, None)).dtype == np.float64
    with pytest.raises(UserError, match=r"the reward must have shape \[2, any\], got \[3\]"):
        check_shape("the reward", np.zeros(3), (2, None))
    with pytest.raises(UserError, match="no array of numbers"):
        check_shape("x", ["a"], (1,))


def test_the_first_bad_entry_is_named():
    with pytest.raises(UserError, match=r"x\[1, 0\] is nan"):
        check_finite("x", np.array([[0.0, 1.0], [np.nan, np.inf]]))
    check_finite("x", np.full(3, 1e308))


def test_rows_that_do_not_sum_to_one():
    policy = np.full((4, 2), 0.5)
    policy[2, 1] = 0.4
    with pytest.raises(UserError, match=r"the policy: the probabilities of state 2 sum to 0\.9"):
        check_policy(policy, 4, 2)
    policy[2] = 1.5, -0.5
    with pytest.raises(UserError, match=r"holds -0\.5"):
        check_policy(policy, 4, 2)
    with pytest.raises(UserError, match=r"sum to nan|holds nan"):
        check_distribution("p", np.array([np.nan]), np.array([np.nan]))


@pytest.mark.parametrize("gamma", [0, 1, -0.1, 1.5, float("nan")])
def test_discount_outside_the_open_interval(gamma):
    with pytest.raises(UserError, match="gamma must lie strictly between 0 and 1"):
        check_discount(gamma)
