"""Bad input to recipes/align.py: one clear message, exit code 2, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from irl_align.core.config import load_config, to_dict
from irl_align.core.run import RunDirectory
from irl_align.llm.config import AlignConfig

GOOD = {"prompt": "say red 1", "response": "good fish"}


def jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def refused(programs, config, tmp_path):
    """Run the program with overrides; returns its one message."""

    def run(*overrides: str, cwd: Path = tmp_path, yaml: Path = config) -> str:
        ended = programs("align.py", str(yaml), *overrides, cwd=cwd)
        assert ended.code == 2, (ended.code, ended.stderr)
        assert "Traceback" not in ended.stderr
        assert ended.stderr.count("error: ") == 1, ended.stderr
        return ended.stderr[ended.stderr.index("error: ") :].removeprefix("error: ").strip()

    return run


def test_missing_column(refused, tmp_path):
    path = jsonl(tmp_path / "d.jsonl", {"question": "say red", "reply": "good"})
    message = refused(f"demonstrations.path={path}")
    assert str(path) in message
    assert "question" in message
    assert "reply" in message
    assert not (tmp_path / "run").exists()


def test_empty_response(refused, tmp_path):
    path = jsonl(tmp_path / "d.jsonl", GOOD, {"prompt": "say blue", "response": "  "})
    message = refused(f"demonstrations.path={path}")
    assert str(path) in message
    assert "row 2" in message
    assert "empty" in message


def test_line_that_is_not_utf8(refused, tmp_path):
    path = jsonl(tmp_path / "d.jsonl", GOOD)
    path.write_bytes(path.read_bytes() + b'{"prompt": "caf\xe9", "response": "good"}\n')
    message = refused(f"demonstrations.path={path}")
    assert str(path) in message
    assert "row 2" in message
    assert "UTF-8" in message


def test_chosen_equals_rejected(refused, tmp_path):
    rows = [{"prompt": "say red", "chosen": "good", "rejected": r} for r in ("bad", "good")]
    path = jsonl(tmp_path / "p.jsonl", *rows)
    message = refused(f"preferences.path={path}")
    assert str(path) in message
    assert "row 2" in message
    assert "chosen" in message
    assert "rejected" in message


@pytest.mark.parametrize(
    ("content", "where"), [("", "is empty"), ("{\n", "row 1"), ("[1]\n", "row 1")]
)
def test_files_that_are_no_rows(refused, tmp_path, content, where):
    path = tmp_path / "d.jsonl"
    path.write_text(content)
    message = refused(f"demonstrations.path={path}")
    assert str(path) in message
    assert where in message


def test_tokenizer_without_a_template(refused, tmp_path):
    from tiny import write_tiny_model

    model = write_tiny_model(tmp_path / "model", template=None)
    message = refused(f"model.path={model}")
    assert str(model) in message
    assert "chat template" in message


def test_damaged_base_model(refused, config, tmp_path):
    """Found when the model is loaded, in the first phase: the run can be started again."""
    original = Path(load_config(AlignConfig, config).model.path)
    model = shutil.copytree(original, tmp_path / "model")
    weights = Path(model) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    message = refused(f"model.path={model}")
    assert str(model) in message
    assert "cannot be loaded" in message
    assert not (tmp_path / "run" / "setup" / "base").exists()


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("sampling.temprature=0.5", ["sampling.temprature", "temperature"]),
        ("rounds=two", ["rounds", "two"]),
        ("reward.objective=dpo", ["objective", "residual_logistic"]),
        ("rounds=0", ["rounds"]),
        ("sft.batch_size=5", ["batch_size", "micro_batch_size"]),
        ("policy.lora.rank=3", ["policy.lora.rank"]),
        ("demonstrations.path=nowhere.jsonl", ["nowhere.jsonl"]),
        ("demonstrations.path=null", ["demonstrations.path"]),
        ("model.path=./nowhere", ["model.path=./nowhere"]),
        ("model.path=package:no_such_package", ["no_such_package", "pip install"]),
        ("evaluation.hidden_reward=nope:nope", ["evaluation.hidden_reward", "nope"]),
        ("evaluation.prompts=null", ["evaluation.prompts"]),
        ("reward.gamma_demo=0", ["gamma_demo", "preferences.path"]),
        ("reward.deepspeed=zero9.json", ["reward.deepspeed", "zero9.json"]),
    ],
)
def test_configuration(refused, override, parts, tmp_path):
    message = refused(override)
    assert all(part in message for part in parts), message
    assert not (tmp_path / "run").exists(), "a refused configuration leaves no run behind"


def test_typo_in_the_file(refused, config, tmp_path):
    yaml = tmp_path / "typo.yaml"
    yaml.write_text(config.read_text().replace("temperature", "x") + "evalution: {show: 3}\n")
    message = refused(yaml=yaml)
    assert str(yaml) in message
    assert "evalution" in message
    assert "evaluation" in message.replace("evalution", "")


def test_a_mended_mistake_needs_no_new_run_directory(refused):
    """The second start changes a path: no complaint that the run had another configuration."""
    assert "nowhere.jsonl" in refused("demonstrations.path=nowhere.jsonl")
    assert "elsewhere" in refused("model.path=./elsewhere")


def test_held_out_prompts_among_the_demonstrations(refused, tmp_path):
    demos = jsonl(tmp_path / "d.jsonl", GOOD, {"prompt": "say blue", "response": "good"})
    prompts = jsonl(tmp_path / "h.jsonl", {"id": "h0", "prompt": "say blue"}, {"prompt": "say x"})
    message = refused(f"demonstrations.path={demos}", f"evaluation.prompts={prompts}")
    assert str(demos) in message
    assert str(prompts) in message
    assert "h0" in message


def test_second_process_on_the_same_run(refused, config, tmp_path):
    settings = to_dict(load_config(AlignConfig, config))
    with RunDirectory(tmp_path / "run").open(settings):
        message = refused()
    assert str(tmp_path / "run") in message
    assert f"process {os.getpid()}" in message


def test_another_configuration_on_the_same_run(refused, whole):
    message = refused("reward.beta=0.5", cwd=whole)
    assert "reward.beta: 1.0 in the run, 0.5 now" in message
    assert RunDirectory.read(whole / "run").done_rounds() == 2


def test_run_directory_that_cannot_be_made(refused, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused("run_dir=file/run")
    assert str(tmp_path / "file" / "run") in message
    assert "run_dir" in message


def test_run_directory_that_cannot_be_written(refused, tmp_path):
    if os.geteuid() == 0:
        target = "/proc/run"  # root may write everywhere but where nothing can be written
    else:
        (tmp_path / "closed").mkdir(mode=0o555)
        target = str(tmp_path / "closed" / "run")
    message = refused(f"run_dir={target}")
    assert target in message
    assert "run_dir" in message


# Nothing lost


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    """A finished run of two rounds."""
    return Path(shutil.copytree(whole / "run", tmp_path / "run"))


@pytest.mark.parametrize(
    ("damaged", "redo"),
    [
        ("rounds/0001/policy/model/model.safetensors", "rounds/0001"),
        ("rounds/0001/reward/model/model.safetensors", "rounds/0001"),
        ("rounds/0001/policy/adapter/adapter_model.safetensors", "rounds/0001"),
        ("rounds/0001/reward/phase.json", "rounds/0001"),
        ("setup/sft/model/model.safetensors", "setup/sft"),
    ],
)
def test_corrupted_checkpoint_on_resume(refused, copy, damaged, redo):
    path = copy / damaged
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4] = bytes(b ^ 0xFF for b in content[middle : middle + 4])
    path.write_bytes(bytes(content))
    others = {p: p.read_bytes() for p in (copy / "rounds").rglob("*") if p.is_file()}
    message = refused("rounds=3")
    assert str(path) in message
    assert str(copy / redo) in message, "the mend names what to delete"
    assert others == {p: p.read_bytes() for p in (copy / "rounds").rglob("*") if p.is_file()}


def test_missing_checkpoint_on_resume(refused, copy):
    (copy / "rounds/0001/policy/model/config.json").unlink()
    message = refused("rounds=3")
    assert "config.json is missing" in message


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small file system")
def test_full_disk(refused, programs, config, copy, tmp_path):
    """The reward model does not fit; what was committed stays, and with space the run goes on."""
    shutil.rmtree(copy / "rounds" / "0001")
    for name in ("reward", "policy", "evaluation"):
        shutil.rmtree(copy / "rounds/0000" / name)
    for name in ("DONE", "metrics.json", "manifest.json"):
        (copy / "rounds/0000" / name).unlink()
    (copy / "report.html").unlink()
    used = sum(-(-p.stat().st_size // 4096) * 4096 for p in copy.rglob("*") if p.is_file())
    used += sum(4096 for p in copy.rglob("*") if p.is_dir())
    disk = tmp_path / "disk"
    disk.mkdir()
    options = f"size={used + 100_000}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        shutil.copytree(copy, disk / "run")
        message = refused("rounds=1", cwd=disk)
        assert "disk is full" in message
        assert str(disk / "run") in message
        run = RunDirectory.read(disk / "run")
        for name in ("base", "sft"):
            run.verify_setup(name)
        run.verify_phase(0, "sample")
        assert not run.phase_done(0, "reward")
        subprocess.run(["mount", "-o", "remount,size=64M", str(disk)], check=True)
        wanted = disk / "run" / "rounds/0000/reward/phase.json"
        ended = programs("align.py", str(config), "rounds=1", cwd=disk, kill_when=wanted)
        assert wanted.exists(), ended.stderr
        run.verify_phase(0, "reward")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
