"""recipes/align.py as a program: what a run leaves, and kill -9 in the middle of every phase."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from irl_align.core.run import RunDirectory
from irl_align.llm.generation.samples import read_samples


def results(home: Path) -> dict:
    found = json.loads((home / "run" / "results.json").read_text())
    assert found.pop("seconds")
    return found


def timeless(metrics: dict) -> dict:
    return {
        k: v
        for k, v in metrics.items()
        if not k.startswith("time/")
        and k.split("/")[-1] not in ("load", "generate", "tokens_per_second")
    }


# What a phase makes; scores of the reward model are in completions.jsonl and pairs.jsonl.
ARTEFACTS = (
    "setup/sft/model/model.safetensors",
    "setup/sft/completions.jsonl",
    *(
        f"rounds/{number:04d}/{name}"
        for number in (0, 1)
        for name in (
            "samples/samples.jsonl.gz",
            "reward/model/model.safetensors",
            "reward/model/reward_config.json",
            "policy/adapter/adapter_model.safetensors",
            "policy/model/model.safetensors",
            "policy/pairs.jsonl",
            "evaluation/completions.jsonl",
        )
    ),
)


def differing(one: Path, other: Path, artefacts=ARTEFACTS) -> list[str]:
    return [
        a for a in artefacts if (one / "run" / a).read_bytes() != (other / "run" / a).read_bytes()
    ]


def test_results_hold_what_they_promise(whole):
    found = results(whole)
    assert set(found) >= {"base", "sft", "rounds"}
    for row in (found["base"], found["sft"], *found["rounds"]):
        hidden = row["hidden_reward"]
        assert hidden["low"] <= hidden["mean"] <= hidden["high"]
        assert row["length"] > 0
        assert 0 <= row["eos_rate"] <= 1
    assert len(found["rounds"]) == 2
    for number, row in enumerate(found["rounds"]):
        assert set(row) >= {
            "reward_accuracy", "reward_pairs", "gain_over_sft", "win_rate_vs_sft", "kl",
        }  # fmt: skip
        assert row["reward_dir"] == f"run/rounds/{number:04d}/reward/model"
        assert (whole / row["policy_dir"] / "config.json").exists()
        assert row["reward_pairs"] > 0
        assert row["kl"] >= 0
    assert (whole / "run" / "report.html").stat().st_size > 1000


def test_every_round_learns_from_the_one_before(whole):
    run = RunDirectory.read(whole / "run")
    for number in (0, 1):
        metrics = run.metrics(number)
        assert metrics["reward/loss"] > 0
        assert metrics["policy/pairs"] >= 2
        assert metrics["heldout/probe_gap"] < 1e-3
        manifest = run.manifest(number)
        assert manifest["reference"] == "setup/sft"
        assert set(manifest["data"]) == {"demonstrations", "heldout_prompts"}
    assert run.manifest(1)["policy_in"] == run.manifest(0)["policy_out"]
    assert differing(whole, whole) == []
    first, second = (
        (whole / "run" / f"rounds/{n:04d}/policy/model/model.safetensors").read_bytes()
        for n in (0, 1)
    )
    assert first != second
    texts = [
        [c.text for s in read_samples(folder / "completions.jsonl") for c in s.completions]
        for folder in (whole / "run/setup/sft", whole / "run/rounds/0001/evaluation")
    ]
    assert texts[0] != texts[1]


# (what exists when the process is killed, what must not be there then)
KILLS = [
    ("setup/.base.partial/probe.json", "setup/base"),
    ("setup/.sft.partial/adapter", "setup/sft"),
    ("rounds/0000/.samples.partial", "rounds/0000/samples"),
    ("rounds/0000/.reward.partial/model/model.safetensors", "rounds/0000/reward"),
    ("commit", "rounds/0000/DONE"),
    ("rounds/0001/.policy.partial/adapter", "rounds/0001/policy"),
    ("rounds/0001/.evaluation.partial/completions.jsonl", "rounds/0001/evaluation"),
]


def test_killed_in_every_phase_ends_as_an_unbroken_run(programs, config, whole, tmp_path):
    """One run that is killed again and again; each start goes on behind the last commit."""
    run = tmp_path / "run"
    for at, absent in KILLS:
        if at == "commit":
            ended = programs("align.py", str(config), cwd=tmp_path, kill_before="DONE")
            assert (run / "rounds/0000/manifest.json").exists()
        else:
            ended = programs("align.py", str(config), cwd=tmp_path, kill_when=run / at)
            assert (run / at).exists(), ended.stderr
        assert ended.code == -signal.SIGKILL, ended.stderr
        assert not (run / absent).exists(), f"killed too late: {absent} is there"
        assert programs.wait_until(lambda e=ended: not any(map(programs.alive, e.children)), 10), (
            "a child lives on"
        )
    kept = {
        path: path.stat().st_mtime_ns
        for path in run.rglob("*")
        if path.is_file() and path.name == "phase.json"
    }
    assert len(kept) == 2 + 4 + 3
    ended = programs("align.py", str(config), cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "done again"
    assert results(tmp_path) == results(whole)
    assert differing(tmp_path, whole) == []
    broken, unbroken = RunDirectory.read(run), RunDirectory.read(whole / "run")
    for number in (0, 1):
        assert timeless(broken.metrics(number)) == timeless(unbroken.metrics(number))
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert not list(run.rglob("*.partial")) + list(run.rglob("*.tmp"))


def test_a_finished_run_is_left_alone(programs, config, whole):
    before = {p: p.read_bytes() for p in (whole / "run" / "rounds").rglob("*") if p.is_file()}
    finished = results(whole)
    ended = programs("align.py", str(config), cwd=whole)
    assert ended.code == 0, ended.stderr
    assert results(whole) == finished
    after = {p: p.read_bytes() for p in (whole / "run" / "rounds").rglob("*") if p.is_file()}
    assert after == before


def test_phases_in_processes_of_their_own_die_with_the_program(programs, config, whole, tmp_path):
    """The default way: killed in the middle of the policy phase, then run to the end; the numbers
    are those of the run that did everything in one process."""
    run = tmp_path / "run"
    shutil.copytree(whole / "run", run)
    shutil.rmtree(run / "rounds" / "0001")
    for name in ("policy", "evaluation"):
        shutil.rmtree(run / "rounds/0000" / name)
    for name in ("DONE", "metrics.json", "manifest.json"):
        (run / "rounds/0000" / name).unlink()
    command = [
        sys.executable, str(programs.root / "recipes/align.py"), str(config), "launch.inline=false",
        "rounds=1",
    ]  # fmt: skip

    with open(tmp_path / "stderr.txt", "w") as stderr:
        program = subprocess.Popen(command, cwd=tmp_path, env=programs.environment, stderr=stderr)
        try:
            started = run / "rounds/0000/.policy.partial/pairs.jsonl"
            programs.wait_until(lambda: started.exists() or program.poll() is not None, 90)
            children = programs.descendants(program.pid)
            assert children, (tmp_path / "stderr.txt").read_text()
            os.kill(program.pid, signal.SIGKILL)
        finally:
            program.kill()
            program.wait()
    # At once: a phase that is let go on would soon end by itself.
    assert programs.wait_until(lambda: not any(map(programs.alive, children)), 1.5)
    assert not (run / "rounds/0000/.policy.partial/model").exists()
    assert not (run / "rounds/0000/policy").exists()

    done = subprocess.run(
        command, cwd=tmp_path, env=programs.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert differing(tmp_path, whole, [a for a in ARTEFACTS if "0001" not in a]) == []
    assert results(tmp_path)["rounds"] == results(whole)["rounds"][:1]
