"""One data set in every form that is read: all give the same trajectories."""

from __future__ import annotations

import gzip
import json
import warnings

import h5py
import numpy as np
import pytest

from irl_align.control.demonstrations.loading import load_demonstrations
from irl_align.core.errors import UserError

LENGTHS, ENDS = (3, 5, 2), (False, True, False)
REWARDS = [np.arange(n) + 0.5 for n in LENGTHS]


@pytest.fixture
def expected(build):
    return build.trajectories(LENGTHS, ENDS)


def flat(trajectories):
    """One row a step."""
    steps = trajectories.steps()
    return steps, np.concatenate(REWARDS)


def as_own_names(trajectories):
    steps, rewards = flat(trajectories)
    return {
        "obs": steps.observations,
        "acts": steps.actions,
        "rews": rewards,
        "final_obs": np.stack([t.observations[-1] for t in trajectories]),
        "ep_len": np.array(LENGTHS, np.int32),
        "ep_return": np.zeros(3),
        "terminated": np.array(ENDS),
    }


def as_d4rl(trajectories, with_next=True):
    steps, rewards = flat(trajectories)
    last = np.cumsum(LENGTHS) - 1
    timeouts = np.zeros(len(rewards), bool)
    timeouts[last] = ~np.array(ENDS)
    columns = {
        "observations": steps.observations,
        "actions": steps.actions,
        "rewards": rewards,
        "terminals": steps.terminated,
        "timeouts": timeouts,
    }
    return columns | ({"next_observations": steps.next_observations} if with_next else {})


def as_padded(trajectories, extra=1):
    width = max(LENGTHS)
    observations = np.zeros((3, width + extra, 4), np.float32)
    actions, rewards = np.zeros((3, width, 2), np.float32), np.zeros((3, width))
    mask = np.zeros((3, width), bool)
    for i, t in enumerate(trajectories):
        kept = len(t) + extra
        observations[i, :kept] = t.observations[:kept]
        actions[i, : len(t)], rewards[i, : len(t)] = t.actions, REWARDS[i]
        mask[i, : len(t)] = True
    return {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "mask": mask,
        "terminated": np.array(ENDS),
    }


def as_episodes(trajectories):
    return [
        {
            "observations": t.observations.tolist(),
            "actions": t.actions.tolist(),
            "rewards": REWARDS[i].tolist(),
            "terminations": [False] * (len(t) - 1) + [t.terminated],
            "truncations": [False] * (len(t) - 1) + [t.truncated],
        }
        for i, t in enumerate(trajectories)
    ]


def npz(columns, folder):
    np.savez(folder / "data.npz", **columns)
    return folder / "data.npz"


def hdf5(columns, folder):
    with h5py.File(folder / "data.hdf5", "w") as file:
        for key, value in columns.items():
            file[key] = value
        file["infos/qpos"] = np.zeros(3)  # D4RL files have such groups
        file["metadata/algorithm"] = "SAC"
    return folder / "data.hdf5"


def hdf5_episodes(trajectories, folder):
    """Minari's main_data.hdf5, which numbers groups without leading zeros."""
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        for number in (1, 0, 2):
            for key, value in as_episodes(trajectories)[number].items():
                file[f"episode_{number}/{key}"] = np.array(value)
    return folder / "main_data.hdf5"


def json_lines(trajectories, folder, packed=False):
    text = "\n".join(json.dumps(episode) for episode in as_episodes(trajectories)) + "\n\n"
    path = folder / ("data.jsonl.gz" if packed else "data.jsonl")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def json_list(trajectories, folder):
    (folder / "data.json").write_text(json.dumps(as_episodes(trajectories)))
    return folder / "data.json"


def npy_folder(trajectories, folder):
    names = {"observations": "states"}
    for key, value in as_padded(trajectories).items():
        np.save(folder / f"{names.get(key, key)}.npy", value)
    return folder


def lengths_instead_of_mask(columns):
    columns.pop("mask")
    return columns | {"lengths": np.array(LENGTHS)}


FORMS = {
    "npz, flat with final observations": lambda t, f: npz(as_own_names(t), f),
    "npz, D4RL's keys": lambda t, f: npz(as_d4rl(t), f),
    "npz, padded with a mask": lambda t, f: npz(as_padded(t), f),
    "npz, padded with lengths": lambda t, f: npz(lengths_instead_of_mask(as_padded(t)), f),
    "hdf5, D4RL's keys": lambda t, f: hdf5(as_d4rl(t), f),
    "hdf5, Minari's groups": hdf5_episodes,
    "jsonl": json_lines,
    "jsonl.gz": lambda t, f: json_lines(t, f, packed=True),
    "json": json_list,
    "folder of npy": npy_folder,
    "list in memory": lambda t, f: as_episodes(t),
}


def assert_same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.actions, b.actions)
        assert (a.terminated, a.truncated) == (b.terminated, b.truncated)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form, expected, tmp_path):
    loaded = load_demonstrations(FORMS[form](expected, tmp_path))
    assert_same(loaded.trajectories, expected)
    assert loaded.report.returns == pytest.approx([row.sum() for row in REWARDS])
    assert not loaded.report.warnings and not loaded.report.last_steps_dropped


def test_a_minari_data_set_by_folder_and_by_name(expected, tmp_path, monkeypatch):
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    warnings.simplefilter("ignore")  # about authors and links, which a test has not
    buffers = [
        EpisodeBuffer(id=i, **{k: np.array(v, np.float32) for k, v in e.items()})
        for i, e in enumerate(as_episodes(expected))
    ]
    box = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    minari.create_dataset_from_buffers(
        "test/counter-v0",
        buffers,
        observation_space=box,
        action_space=gymnasium.spaces.Box(-1, 1, (2,), np.float32),
        data_format="hdf5",
    )
    for source in ("minari:test/counter-v0", tmp_path / "test" / "counter-v0"):
        loaded = load_demonstrations(source)
        assert_same(loaded.trajectories, expected)
        assert loaded.report.returns == pytest.approx([row.sum() for row in REWARDS])
    with pytest.raises(UserError, match=r"slip of 'test/counter-v0'\?.*minari download"):
        load_demonstrations("minari:test/conter-v0")


def test_groups_are_in_the_order_of_their_numbers(build, tmp_path):
    """HDF5 lists episode_10 before episode_2, and "the first k" must not mean that."""
    many = build.trajectories(range(1, 13), [False] * 12)
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for number, t in enumerate(many):
            file[f"episode_{number}/observations"] = t.observations
            file[f"episode_{number}/actions"] = t.actions
    assert load_demonstrations(tmp_path / "data.hdf5").report.lengths == list(range(1, 13))


def test_a_recording_of_one_episode(expected, tmp_path):
    one = expected[1]
    for flag in (True, [True]):
        path = npz({"obs": one.observations, "acts": one.actions, "terminated": flag}, tmp_path)
        (found,) = load_demonstrations(path).trajectories
        np.testing.assert_array_equal(found.observations, one.observations)
        assert found.terminated


def test_without_the_last_observation_the_last_step_goes(expected, tmp_path):
    for columns in (
        as_d4rl(expected, with_next=False),
        as_padded(expected, extra=0),
        {k: v for k, v in as_own_names(expected).items() if k != "final_obs"},
    ):
        loaded = load_demonstrations(npz(columns, tmp_path))
        assert loaded.report.lengths == [2, 4, 1] and loaded.report.last_steps_dropped == 3
        for found, whole in zip(loaded.trajectories, expected, strict=True):
            np.testing.assert_array_equal(found.observations, whole.observations[:-1])
            np.testing.assert_array_equal(found.actions, whole.actions[:-1])
            # How it ended is no longer in what is left of it.
            assert not found.terminated and found.truncated
        assert any("lost their last step" in warning for warning in loaded.report.warnings)
        # Returns are the file's; step rewards are those of the steps that are left.
        assert loaded.report.returns == pytest.approx([row.sum() for row in REWARDS])
        assert [len(loaded.true_rewards.of(i)) for i in range(3)] == [2, 4, 1]


def test_d4rl_without_timeouts_splits_where_the_next_observation_is_another(expected, tmp_path):
    columns = as_d4rl(expected)
    del columns["timeouts"]
    loaded = load_demonstrations(npz(columns, tmp_path))
    assert_same(loaded.trajectories, expected)
    assert not loaded.report.warnings


def test_d4rl_boundaries_that_nobody_marked_are_split_and_said(expected, tmp_path):
    columns = as_d4rl(expected)
    columns["timeouts"][2] = False  # the end of the first trajectory
    loaded = load_demonstrations(hdf5(columns, tmp_path))
    assert_same(loaded.trajectories, expected)
    assert any("1 times the next observation" in w for w in loaded.report.warnings)


def test_the_end_of_the_file_is_a_cut_not_a_termination(expected, tmp_path):
    columns = {key: value[:5] for key, value in as_d4rl(expected).items()}
    found = load_demonstrations(npz(columns, tmp_path)).trajectories
    assert found.lengths.tolist() == [3, 2]
    assert (found[1].terminated, found[1].truncated) == (False, True)


def test_unexplained_ends_are_said(expected, tmp_path):
    columns = as_own_names(expected)
    del columns["terminated"]
    loaded = load_demonstrations(npz(columns, tmp_path))
    assert not any(t.terminated for t in loaded.trajectories)
    assert any("which trajectories terminated" in w for w in loaded.report.warnings)
    episodes = as_episodes(expected)
    for key in ("terminations", "truncations"):
        del episodes[0][key]
    assert any("1 episodes do not say" in w for w in load_demonstrations(episodes).report.warnings)


def test_flags_once_a_step(expected, tmp_path):
    last = np.cumsum(LENGTHS) - 1
    terminals = np.zeros(sum(LENGTHS), bool)
    terminals[last] = ENDS
    own = as_own_names(expected)
    del own["terminated"]
    by_member = np.zeros((3, max(LENGTHS)), bool)
    by_member[np.arange(3), np.array(LENGTHS) - 1] = ENDS
    padded = as_padded(expected)
    del padded["terminated"]
    for columns in (
        own | {"terminals": terminals},
        own | {"terminals": np.array(ENDS)},
        padded | {"terminations": by_member},
    ):
        assert_same(load_demonstrations(npz(columns, tmp_path)).trajectories, expected)


def test_truncations_alone_say_what_terminated_not(expected, tmp_path):
    own = as_own_names(expected)
    del own["terminated"]
    loaded = load_demonstrations(npz(own | {"truncated": np.ones(3)}, tmp_path))
    assert not loaded.report.warnings
    some = load_demonstrations(npz(own | {"truncated": np.array([1, 0, 1])}, tmp_path))
    assert len(some.report.warnings) == 1
    for each in (loaded, some):  # whatever did not terminate was cut
        assert all(t.truncated and not t.terminated for t in each.trajectories)


def test_names_of_the_file_are_reported(expected, tmp_path):
    report = load_demonstrations(npz(as_own_names(expected), tmp_path)).report
    assert report.keys["observations"] == "obs" and report.unused_keys == ["ep_return"]
    assert "observations (as obs)" in report.render()


def test_one_number_an_action(tmp_path):
    columns = {
        "observations": np.zeros((4, 3)),
        "actions": np.array([1.0, 2.0, 3.0]),
        "lengths": np.array([3]),
        "terminated": np.array([True]),
    }
    (found,) = load_demonstrations(npz(columns, tmp_path)).trajectories
    assert found.actions.tolist() == [[1], [2], [3]]


def test_double_precision_is_brought_down(tmp_path):
    columns = {
        "observations": np.full((3, 2), 1 / 3),
        "actions": np.ones((2, 1), np.int64),
        "lengths": [2],
        "terminated": [False],
        "truncated": [True],
    }
    (found,) = load_demonstrations(npz(columns, tmp_path)).trajectories
    assert found.observations.dtype == found.actions.dtype == np.float32
