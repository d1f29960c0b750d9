from __future__ import annotations

import re

import h5py
import numpy as np
import pytest
import torch

from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError

O, A, M = 4, 2, 9  # noqa: E741


def d4rl(**changes) -> dict[str, np.ndarray]:
    """Three episodes: one that falls after 4 steps, one cut after 3, and the end of the file."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(M, O)).astype(np.float32)
    following = np.roll(observations, -1, axis=0)
    for last in (3, 6, 8):
        following[last] = rng.normal(size=O)
    columns = {
        "observations": observations,
        "actions": rng.uniform(-1, 1, (M, A)).astype(np.float32),
        "next_observations": following,
        "rewards": rng.normal(size=M).astype(np.float32),
        "terminals": np.arange(M) == 3,
        "timeouts": np.arange(M) == 6,
    }
    return {key: value for key, value in {**columns, **changes}.items() if value is not None}


def write(path, columns):
    with h5py.File(path, "w") as file:
        for key, value in columns.items():
            file[key] = value
        file["infos/qpos"] = np.zeros(3)
    return path


def spaces(observation_dim: int = O) -> Spaces:
    box = np.ones(A, np.float32)
    return Spaces("Test-v0", observation_dim, -box, box)


def load(path, **options) -> OfflineDataset:
    return OfflineDataset.loaded(load_demonstrations(path, environment=spaces(), **options))


def test_d4rl_transitions_are_those_of_the_file(tmp_path):
    columns = d4rl()
    data = load(write(tmp_path / "medium.hdf5", columns))
    batch = data.batch
    assert len(data) == M
    for found, key in zip(
        batch, ("observations", "actions", "next_observations", "terminals"), strict=True
    ):
        np.testing.assert_array_equal(found.numpy(), columns[key].astype(np.float32))
    # A time limit is no end, and the first states are those behind an end.
    np.testing.assert_array_equal(data.first, columns["observations"][[0, 4, 7]])
    assert data.report.terminated == 1


def test_without_successors_the_steps_at_ends_are_left_out(tmp_path):
    columns = d4rl(next_observations=None)
    data = load(write(tmp_path / "old.hdf5", columns))
    kept = [0, 1, 2, 4, 5, 7]
    np.testing.assert_array_equal(data.batch.observations, columns["observations"][kept])
    np.testing.assert_array_equal(
        data.batch.next_observations, columns["observations"][[k + 1 for k in kept]]
    )
    assert not data.batch.terminated.any()
    assert any("lost their last step" in warning for warning in data.report.warnings)


@pytest.mark.parametrize("poison", [None, np.nan, 1e9])
def test_rewards_of_the_file_change_nothing(tmp_path, poison):
    plain = load(write(tmp_path / "plain.hdf5", d4rl()))
    rewards = None if poison is None else np.full(M, poison, np.float32)
    other = load(write(tmp_path / "poisoned.hdf5", d4rl(rewards=rewards)))
    assert torch.equal(plain.rows, other.rows) and torch.equal(plain.first, other.first)
    assert not [name for name in vars(other) if "reward" in name]


def nan_at(row: int, column: int):
    observations = d4rl()["observations"]
    observations[row, column] = np.nan
    return observations


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observations": nan_at(5, 2)}, r"trajectory \d, step \d: observations\[5, 2\] is NaN"),
        ({"actions": np.full((M, A), np.inf)}, r"actions\[0, 0\] is infinite"),
        ({"actions": np.zeros((M, 3))}, r"'actions' has rows of 3 numbers but Test-v0 has 2"),
        (
            {"actions": np.zeros((M - 1, A))},
            r"9 rows (and|but) 'actions' (has )?8",
        ),
        ({"timeouts": np.zeros(M - 1)}, r"'timeouts' has 8 rows"),
        ({"terminals": None, "timeouts": None}, "nothing says where trajectories end"),
        ({"actions": None}, "no key 'actions'"),
        ({key: np.zeros((0, w)) for key, w in (("observations", O), ("actions", A))}, "one step"),
    ],
)
def test_data_that_cannot_be_used_is_refused_with_row_and_key(tmp_path, changes, said):
    path = write(tmp_path / "bad.hdf5", d4rl(**changes))
    with pytest.raises(UserError, match=r"bad\.hdf5") as caught:
        load(path)
    assert re.search(said, str(caught.value))


def test_damaged_and_empty_files(tmp_path):
    whole = write(tmp_path / "whole.hdf5", d4rl()).read_bytes()
    (tmp_path / "half.hdf5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.hdf5").write_bytes(b"")
    with pytest.raises(UserError, match=r"half\.hdf5: not a readable HDF5"):
        load(tmp_path / "half.hdf5")
    with pytest.raises(UserError, match=r"empty\.hdf5: the file is empty"):
        load(tmp_path / "empty.hdf5")


def test_drawing_is_uniform(tmp_path):
    data = load(write(tmp_path / "medium.hdf5", d4rl()))
    drawn = data.draw(18_000, torch.Generator().manual_seed(0))
    same = (drawn[:, None] == data.rows).all(dim=-1)
    assert same.any(dim=1).all()
    assert (same.float().mean(dim=0) - 1 / M).abs().max() < 0.01
