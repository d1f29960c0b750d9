"""What the assembly hands to its phases, and what it refuses to go on with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from irl_align.core.errors import UserError
from irl_align.core.run import RunDirectory
from irl_align.llm.alignment import Alignment
from irl_align.llm.config import AlignConfig, PolicyConfig, RewardConfig
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.same_data import check_same_data


def test_changed_data_are_refused_and_named(tmp_path):
    with RunDirectory(tmp_path / "run").open({"seed": 0}) as run:
        check_same_data(run, {"demonstrations": "a", "heldout_prompts": "b"})
        check_same_data(run, {"demonstrations": "a", "heldout_prompts": "b"})
        with pytest.raises(UserError, match="content of demonstrations changed"):
            check_same_data(run, {"demonstrations": "c", "heldout_prompts": "b"})
        check_same_data(run, {"demonstrations": "a", "heldout_prompts": "b"})


def test_samples_of_earlier_rounds_come_with_the_rewards_that_they_answered_to(tmp_path):
    """Round k's pairs are fitted against r_k, which round k - 1 left; r_0 = 0 is no folder."""
    config = AlignConfig(reward=RewardConfig(earlier_rounds=2))
    with RunDirectory(tmp_path / "run").open({"seed": 0}) as run:
        jobs: list[PhaseJob] = []
        launcher = SimpleNamespace(run=lambda job: jobs.append(job) or {})
        alignment = Alignment(config, launcher, run, {})

        def fit(number: int):
            ctx = SimpleNamespace(folder=tmp_path, round=number, seed=0)
            alignment.fit(None, tmp_path / "samples", ctx)
            found = jobs[-1].extra
            return found["earlier_samples"], found["earlier_rewards"]

        def samples(k: int) -> str:
            return str(run.phase_folder(k, "sample"))

        def left_by(k: int) -> str:
            return str(run.phase_folder(k, "reward") / "model")

        assert fit(0) == ([], [])
        assert fit(1) == ([samples(0)], [None])
        assert fit(3) == ([samples(2), samples(1)], [left_by(1), left_by(0)])


@pytest.mark.parametrize(
    ("reference", "start"), [("sft", "sft"), ("base", "base"), ("previous", "sft")]
)
def test_rounds_start_at_the_reference(tmp_path, reference, start):
    """r_0 = 0 means pi_0 = pi_ref: first samples, the KL term and its measure agree on it."""
    config = AlignConfig(policy=PolicyConfig(reference=reference))
    with RunDirectory(tmp_path / "run").open({"seed": 0}) as run:
        jobs: list[PhaseJob] = []

        def record(job: PhaseJob) -> dict[str, float]:
            jobs.append(job)
            Path(job.out, "probe.json").write_text("{}", encoding="utf-8")
            return {}

        launcher = SimpleNamespace(run=record, place=SimpleNamespace(size=1))
        alignment = Alignment(config, launcher, run, {})
        assert alignment.prepare() == run.setup_folder(start)
        assert [job.name for job in jobs] == ["prepare", "sft"], "SFT is the baseline in any case"
        ctx = SimpleNamespace(folder=tmp_path, round=1, seed=0)
        alignment.improve(tmp_path, tmp_path, tmp_path, ctx)
        alignment.evaluate(tmp_path, tmp_path, ctx)
        assert [job.inputs["initial"] for job in jobs[2:]] == [str(run.setup_folder(start))] * 2
        assert alignment.manifest(0)["policy_in_folder"] == f"setup/{start}"
        moved = "rounds/0000/policy" if reference == "previous" else f"setup/{start}"
        assert alignment.manifest(1)["reference"] == moved
