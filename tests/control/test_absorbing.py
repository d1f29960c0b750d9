from __future__ import annotations

import numpy as np
import pytest

from irl_align.control.absorbing import (
    absorbing_state,
    padded_with_absorbing_states,
    with_flag,
    with_flags,
)


def test_the_flag():
    observations = np.ones((3, 2), np.float32)
    flagged = with_flag(observations)
    np.testing.assert_array_equal(flagged, [[1, 1, 0]] * 3)
    assert flagged.dtype == np.float32
    np.testing.assert_array_equal(with_flag(observations[0]), [1, 1, 0])
    np.testing.assert_array_equal(absorbing_state(3), [0, 0, 1])


def test_padding_replaces_the_end_by_the_absorbing_state(trajectories):
    padded = padded_with_absorbing_states(with_flags(trajectories), 8)
    assert padded.lengths.tolist() == [3, 8, 2]  # only the second terminated
    before, after = trajectories[1], padded[1]
    np.testing.assert_array_equal(after.observations[:5, :4], before.observations[:5])
    np.testing.assert_array_equal(after.observations[5:], np.tile(absorbing_state(5), (4, 1)))
    np.testing.assert_array_equal(after.actions[:5], before.actions)
    assert not after.actions[5:].any()
    assert not after.terminated and after.truncated
    assert not padded.steps().terminated.any()
    # What a time limit cut stays as it is: its future is unknown, not nothing.
    np.testing.assert_array_equal(padded[0].observations, with_flag(trajectories[0].observations))


def test_padding_refuses_what_it_would_get_wrong(trajectories):
    with pytest.raises(ValueError, match="horizon 4"):
        padded_with_absorbing_states(with_flags(trajectories), 4)
    with pytest.raises(ValueError, match="flag"):
        padded_with_absorbing_states(trajectories, 8)  # no flag there
