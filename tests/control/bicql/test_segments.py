from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from irl_align.control.bicql.segments import load_segments, save_segments
from irl_align.core.errors import UserError


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    found = {}
    for side in ("chosen", "rejected"):
        found[f"{side}_observations"] = rng.normal(size=(5, 3, 4))
        found[f"{side}_actions"] = rng.normal(size=(5, 3, 2))
    return found


def test_the_loss_is_bradley_terry_on_sums(arrays, spaces, tmp_path):
    path = tmp_path / "pairs.npz"
    save_segments(path, arrays)
    segments = load_segments(str(path), spaces)
    assert len(segments) == 5 and len(segments.sha256) == 64

    def reward(observations, actions):
        return observations[..., 0] * actions[..., 1]

    loss, right = segments.loss(reward, torch.tensor([0, 3, 3]))
    total, wins = 0.0, 0
    for pair in (0, 3, 3):
        sums = [
            sum(
                arrays[f"{side}_observations"][pair, t, 0] * arrays[f"{side}_actions"][pair, t, 1]
                for t in range(3)
            )
            for side in ("chosen", "rejected")
        ]
        total += math.log(1 + math.exp(sums[1] - sums[0])) / 3
        wins += sums[0] > sums[1]
    assert loss.item() == pytest.approx(total, rel=1e-5)
    assert right == pytest.approx(wins / 3)


def test_indices_become_unit_vectors(arrays, indexed, tmp_path):
    path = tmp_path / "pairs.npz"
    index = np.array([[0, 1, 2]] * 5)
    save_segments(path, {**arrays, "chosen_actions": index, "rejected_actions": index[..., None]})
    segments = load_segments(str(path), indexed)
    assert segments.actions.shape == (2, 5, 3, 3)
    assert torch.equal(segments.actions[1, 0], torch.eye(3))
    save_segments(path, {**arrays, "chosen_actions": index + 1, "rejected_actions": index})
    with pytest.raises(
        UserError, match="actions from 0 to 3, but Indexed-v0 has the actions 0 to 2"
    ):
        load_segments(str(path), indexed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rejected_actions": None}, "no array 'rejected_actions'"),
        ({"chosen_observations": np.zeros((5, 3, 7))}, r"chosen_observations \[5, 3, 7\]"),
        ({"chosen_actions": np.full((5, 3, 2), np.nan)}, "not finite in pair 0, step 0"),
        ({"chosen_actions": np.array(["a"])}, "must be numbers"),
        ({"chosen_actions": np.zeros(5)}, "must have three axes"),
        (
            {"rejected_observations": np.zeros((4, 3, 4)), "rejected_actions": np.zeros((4, 3, 2))},
            "as many and as long",
        ),
    ],
)
def test_what_is_wrong_is_named(arrays, spaces, tmp_path, change, said):
    path = tmp_path / "pairs.npz"
    save_segments(path, {k: v for k, v in {**arrays, **change}.items() if v is not None})
    with pytest.raises(UserError, match=said) as caught:
        load_segments(str(path), spaces)
    assert str(path) in str(caught.value)


def test_files_that_are_none(spaces, tmp_path):
    path = tmp_path / "pairs.npz"
    path.write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(UserError, match=r"not an \.npz of arrays"):
        load_segments(str(path), spaces)
