"""Every mistake ends in a UserError that names the file, the place and the mend."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.core.errors import UserError


def good():
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(10, 4)),
        "actions": rng.normal(size=(8, 2)),
        "lengths": np.array([3, 5]),
        "terminated": np.array([False, True]),
    }


def d4rl():
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(6, 4)),
        "actions": rng.normal(size=(6, 2)),
        "terminals": np.array([0, 0, 1, 0, 0, 0]),
        "timeouts": np.array([0, 0, 0, 0, 0, 1]),
    }


def padded():
    return {
        "observations": np.zeros((2, 4, 3)),
        "actions": np.zeros((2, 3, 1)),
        "terminated": np.array([True, False]),
    }


def without(columns, *keys):
    return {key: value for key, value in columns.items() if key not in keys}


def refusal(source, **options) -> str:
    with pytest.raises(UserError) as error:
        load_demonstrations(source, **options)
    return str(error.value)


def write(columns, folder):
    np.savez(folder / "demos.npz", **columns)
    return folder / "demos.npz"


def test_the_bases_are_good(tmp_path):
    for columns in (good(), d4rl(), padded()):
        load_demonstrations(write(columns, tmp_path))


BAD = {
    "no actions": (without(good(), "actions"), "no key 'actions' (accepted: actions, acts)"),
    "a slip": (
        without(good(), "actions") | {"acions": np.zeros((8, 2))},
        "is 'acions' a slip? (it has: observations, lengths, terminated, acions)",
    ),
    "two names": (good() | {"obs": np.zeros(3)}, "'observations' and 'obs' both stand for"),
    "wrong sum": (good() | {"lengths": np.array([3, 4])}, "'lengths' adds up to 7 steps but"),
    "zero length": (good() | {"lengths": np.array([0, 8])}, "whole numbers, 1 or more"),
    "real lengths": (good() | {"lengths": np.array([3.0, 5.0])}, "whole numbers"),
    "rows": (good() | {"observations": np.zeros((9, 4))}, "need 8, or 10 with the last"),
    "flags": (
        good() | {"terminated": np.zeros(3)},
        "'terminated' has shape (3,), must be (2,), one flag a trajectory, or (8,), one a step",
    ),
    "padded flags": (padded() | {"terminated": np.zeros((3, 2))}, "must be (2,), one flag a"),
    "rewards": (good() | {"rewards": np.zeros(7)}, "'rewards' has 7 rows but 'actions' has 8"),
    "final": (
        good() | {"observations": np.zeros((8, 4)), "final_obs": np.zeros((2, 3))},
        "'final_obs' has shape (2, 3), must be (2, 4)",
    ),
    "flat vector": (good() | {"observations": np.zeros(10)}, "need [steps, O] and [steps, A]"),
    "no steps": (good() | {"actions": np.zeros((0, 2))}, "at least one step"),
    "images": (good() | {"observations": np.zeros((10, 4, 4, 3))}, "need [steps, O]"),
    "text": (good() | {"actions": np.array([["a", "b"]] * 8)}, "'actions' is <U1, must be numbers"),
    "no ends": (without(d4rl(), "terminals", "timeouts"), "nothing says where trajectories end"),
    "done": (
        without(d4rl(), "terminals", "timeouts") | {"dones": np.zeros(6)},
        "'dones' mixes episodes that terminated with those that a time limit cut",
    ),
    "terminals alone": (without(d4rl(), "timeouts"), "'terminals' alone does not say"),
    "flag rows": (d4rl() | {"timeouts": np.zeros(5)}, "'timeouts' has 5 rows but"),
    "next rows": (d4rl() | {"next_observations": np.zeros((6, 3))}, "rows of shape (3,)"),
    "padded actions": (padded() | {"actions": np.zeros((3, 3, 1))}, "need [trajectories, T, O]"),
    "padded width": (padded() | {"actions": np.zeros((2, 5, 1))}, "need T or T + 1 observations"),
    "padded lengths": (padded() | {"lengths": np.array([3, 4])}, "2 numbers of at most 3"),
    "mask shape": (padded() | {"mask": np.ones((2, 4))}, "'mask' has shape (2, 4)"),
    "mask holes": (
        padded() | {"mask": np.array([[1, 1, 1], [1, 0, 1]])},
        "'mask'[1] must be true from step 0 on",
    ),
    "empty mask": (padded() | {"mask": np.array([[0, 0, 0], [1, 1, 1]])}, "'mask'[0]"),
    "padded rewards": (padded() | {"rewards": np.zeros((2, 2))}, "'rewards' has shape (2, 2)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_columns(name, tmp_path):
    columns, message = BAD[name]
    said = refusal(write(columns, tmp_path))
    assert message in said and "demos.npz" in said


@pytest.mark.parametrize(
    ("key", "row", "value", "place"),
    [
        ("actions", 5, np.nan, "trajectory 1, step 2: actions[5, 1] is NaN;"),
        ("actions", 0, np.inf, "trajectory 0, step 0: actions[0, 1] is infinite;"),
        ("observations", 4, np.nan, "trajectory 1, step 0: observations[4, 1] is NaN;"),
        ("observations", 9, np.nan, "trajectory 1, step 5: observations[9, 1] is NaN;"),
        ("observations", 2, 1e200, "trajectory 0, step 2: observations[2, 1] is infinite;"),
    ],
)
def test_bad_numbers_are_found(key, row, value, place, tmp_path):
    columns = good()
    columns[key][row, 1] = value
    path = write(columns, tmp_path)
    said = refusal(path)
    assert place in said and "1 of 2 trajectories cannot be used" in said and "on_bad=drop" in said
    loaded = load_demonstrations(path, on_bad="drop")
    kept = 1 - int(place[11])
    assert loaded.report.chosen == [kept] and loaded.report.dropped == {"not finite": 1}
    assert place in loaded.report.problems[0] and "dropped    1: not finite 1" in (
        loaded.report.render()
    )


def test_bad_numbers_are_found_in_every_layout(tmp_path):
    for columns, place in (
        (d4rl(), "trajectory 1, step 2: observations[5, 0] is NaN, and 1 more values"),
        (d4rl() | {"next_observations": np.zeros((6, 4))}, "next_observations[2, 3] is NaN"),
        (padded(), "trajectory 1, step 2: observations[1, 2, 0] is NaN"),
        (
            good() | {"observations": np.zeros((8, 4)), "final_obs": np.zeros((2, 4))},
            "trajectory 1, step 5: final_obs[1, 2] is NaN",
        ),
    ):
        if "next_observations" in columns:
            columns["next_observations"] = np.roll(columns["observations"], -1, axis=0)
            columns["next_observations"][2, 3] = np.nan
        elif "final_obs" in columns:
            columns["final_obs"][1, 2] = np.nan
        elif columns["observations"].ndim == 3:
            columns["observations"][1, 2, 0] = np.nan
        else:
            columns["observations"][5, :2] = np.nan
        assert place in refusal(write(columns, tmp_path))
    episode = {"observations": np.zeros((3, 2)), "actions": np.array([[0.0], [np.nan]])}
    assert "trajectory 0, step 1: actions[1, 0] is NaN" in refusal([episode])


def test_all_problems_are_counted_and_five_shown():
    episodes = [{"observations": np.full((3, 2), np.nan), "actions": np.zeros((2, 1))}] * 7
    episodes += [{"observations": np.zeros((3, 2)), "actions": np.zeros((5, 1))}]
    said = refusal(episodes)
    assert said.startswith("the episodes given: 8 of 8 trajectories cannot be used:")
    assert said.count("\n  trajectory") == 5
    assert "and 3 more (in all: mismatched lengths 1, not finite 7)" in said
    assert "on_bad" not in said  # dropping them would leave nothing
    assert refusal(episodes, on_bad="drop") == said


def test_episodes_of_different_width():
    def episode(width):
        return {"observations": np.zeros((3, width)), "actions": np.zeros((2, 1))}

    said = refusal([episode(4), episode(4), episode(5)])
    assert "trajectory 2: rows of 5 and 1 numbers, but trajectory 0 has 4 and 1" in said


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        ({"observations": [[1.0]]}, "episode 0: no key 'actions'"),
        ({"observation": [[1.0]], "actions": [[1.0]]}, "is 'observation' a slip?"),
        ({"observations": [[1.0], [1.0, 2.0]], "actions": [[1.0]]}, "rows of one length"),
        ({"observations": [[1.0]], "actions": [[1.0]]}, "add the last observation"),
        ({"observations": {"a": [[1.0]]}, "actions": [[1.0]]}, "FlattenObservation"),
        ({"observations": [1.0, 2.0], "actions": [[1.0]]}, "has shape (2,)"),
        (3, "is int, must be an object"),
    ],
)
def test_bad_episodes(episode, message):
    assert message in refusal([episode])


def test_nothing_at_all():
    assert "no trajectories in it" in refusal([])


def test_a_path_that_is_not_there(tmp_path):
    write(good(), tmp_path)
    assert "no such file; is it a slip of 'demos.npz'?" in refusal(tmp_path / "demo.npz")
    assert "does not exist" in refusal(tmp_path / "deep" / "demos.npz")
    assert "accepted: .npz" in refusal(tmp_path / "zzzzz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"", "the file is empty"),
        ("a.npz", b"PK\x03\x04 and then nothing", "not a readable npz file"),
        ("a.npz", b"no archive", "not a readable npz file"),
        ("a.hdf5", b"no archive", "not a readable HDF5 file"),
        ("a.pkl", b"x", "a pickle can run code"),
        ("a.csv", b"x", "unknown file type '.csv'"),
        ("a.jsonl", b'{"observations": [[1]]}\n{"obs', "line 2: broken JSON"),
        ("a.json", b"{}", "must be a list of episodes"),
        ("a.json", b"[", "broken JSON"),
        ("a.jsonl.gz", b"no gzip", "damaged"),
    ],
)
def test_files_that_are_something_else(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    said = refusal(tmp_path / name)
    assert message in said and name in said


def test_a_cut_archive(tmp_path):
    path = write(good(), tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    assert "not a readable npz file" in refusal(path)


def test_pickled_arrays_are_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (sys.exit, (3,))

    objects = np.array([Bomb(), Bomb()], dtype=object)
    path = write(good() | {"observations": objects}, tmp_path)
    assert "'observations' holds Python objects" in refusal(path)


def test_folders(tmp_path):
    assert "without .npy files" in refusal(tmp_path)
    np.save(tmp_path / "observations.npy", np.zeros((3, 2)))
    assert "no key 'actions'" in refusal(tmp_path)
    (tmp_path / "actions.npy").write_bytes(b"no array")
    assert "actions.npy: not a readable array" in refusal(tmp_path)
    (tmp_path / "metadata.json").write_text("{}")
    assert "not a readable Minari data set" in refusal(tmp_path)


def test_nested_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["episode_0/observations/image"] = np.zeros((3, 2))
        file["episode_0/actions"] = np.zeros((2, 1))
    assert "has several parts" in refusal(tmp_path / "a.hdf5")


def test_missing_packages_are_named(tmp_path, monkeypatch):
    (tmp_path / "a.hdf5").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setitem(sys.modules, "minari", None)
    assert "pip install h5py" in refusal(tmp_path / "a.hdf5")
    assert "irl-align[control]" in refusal("minari:a/b-v0")


def test_unknown_options():
    assert "accepted are error and drop" in refusal([], on_bad="ignore")
