from __future__ import annotations

import json

import pytest

from irl_align.control.scores import (
    D4RL_REFERENCES,
    Reference,
    measure_reference,
    reference,
    save_reference,
)
from irl_align.core.errors import UserError


def test_a_random_policy_has_0_and_an_expert_100():
    found = Reference(-20.0, 180.0)
    assert [found.score(x) for x in (-20, 180, 80, -120)] == [0, 100, 50, -50]


@pytest.mark.parametrize(
    ("name", "mean_return", "score"),
    [("Hopper-v2", 3347.0, 103.5), ("HalfCheetah-v2", 7640.7, 63.8), ("Walker2d-v2", 4201, 91.5)],
)
def test_d4rl_s_constants(name, mean_return, score):
    """The scores that belong to published returns."""
    found = reference(name, "d4rl")
    assert found is not None and found.score(mean_return) == pytest.approx(score, abs=0.05)


def test_d4rl_s_table_is_complete():
    assert {name: (r.random, r.expert) for name, r in D4RL_REFERENCES.items()} == {
        "HalfCheetah": (-280.178953, 12135.0),
        "Hopper": (-20.272305, 3234.3),
        "Walker2d": (1.629008, 4592.3),
        "Ant": (-325.6, 3879.7),
    }
    assert reference("Hopper-v5", None) is None
    with pytest.raises(UserError, match=r"D4RL has no reference returns for Pendulum-v1"):
        reference("Pendulum-v1", "d4rl")


def test_a_measured_table_goes_round(tmp_path):
    path = tmp_path / "references.json"
    name, found = measure_reference("Pendulum", -150.0, episodes=3, seed=0)
    assert name == "Pendulum-v1" and found.expert == -150 and -1900 < found.random < -700
    save_reference(path, name, found, episodes=3)
    save_reference(path, "Other-v1", Reference(0, 1))
    assert reference("Pendulum-v1", str(path)) == found
    assert json.loads(path.read_text())["Pendulum-v1"]["episodes"] == 3
    with pytest.raises(UserError, match=r"no reference returns for Hopper-v5 \(it has: Pend"):
        reference("Hopper-v5", str(path))


def test_the_expert_s_episodes_are_counted():
    with pytest.raises(UserError, match="no expert"):
        measure_reference("Pendulum", -9_999.0, episodes=2, seed=0)
    _, found = measure_reference("MountainCarContinuous", lambda o: 0 * o[:1], episodes=2, seed=0)
    assert found.expert == 0 and found.random < -20  # actions cost, standing still is free


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "not a table"),
        ("[1]", "not a table"),
        ('{"A-v1": {"random": 1}}', "needs the numbers"),
        ('{"A-v1": {"random": 1, "expert": 1}}', "is not above"),
    ],
)
def test_a_table_that_is_none(tmp_path, text, said):
    path = tmp_path / "references.json"
    with pytest.raises(UserError, match="no such file"):
        reference("A-v1", str(path))
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        reference("A-v1", str(path))
