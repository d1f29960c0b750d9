"""The doctor's checks of the machine itself: cores, memory, disk, a folder for runs, a compiler."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

GIB = 2**30
# What the quickstart is held to: 10 GiB of memory; its run directory takes a few GiB.
_MEMORY_WANTED, _MEMORY_NEEDED = 10.0, 4.0
_DISK_WANTED, _DISK_NEEDED = 10.0, 2.0
_LEAST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Check:
    """One line of the doctor. `advice` is what to do, empty when nothing is."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""


def check_python() -> Check:
    version = platform.python_version()
    if sys.version_info < _LEAST_PYTHON:
        return Check("python", "fail", version, "install Python 3.11 or later")
    return Check("python", "ok", f"{version} at {sys.executable}")


def check_cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS")
    detail = f"{cores} usable" + (f", OMP_NUM_THREADS={threads}" if threads else "")
    if threads and threads.isdigit() and cores and int(threads) > cores:
        return Check(
            "cores",
            "warn",
            detail,
            f"more threads than cores is slow: export OMP_NUM_THREADS={cores}",
        )
    return Check("cores", "ok", detail)


def check_memory() -> Check:
    available, total = _memory()
    if available is None or total is None:
        return Check("memory", "warn", "unknown", "make sure that 10 GiB are free")
    detail = f"{available:.1f} GiB free of {total:.1f} GiB"
    if available < _MEMORY_NEEDED:
        return Check(
            "memory", "fail", detail, "the quickstart needs up to 10 GiB; end other programs"
        )
    if available < _MEMORY_WANTED:
        return Check(
            "memory",
            "warn",
            detail,
            "the quickstart may take up to 10 GiB; lower sampling.batch_size",
        )
    return Check("memory", "ok", detail)


def check_disk(root: Path) -> Check:
    free = shutil.disk_usage(_existing(root)).free / GIB
    detail = f"{free:.1f} GiB free under {root}"
    if free < _DISK_NEEDED:
        return Check("disk", "fail", detail, "free some space, or set run_dir to another disk")
    if free < _DISK_WANTED:
        return Check("disk", "warn", detail, "a round of a 7B model with full weights needs 30 GiB")
    return Check("disk", "ok", detail)


def check_run_folder(root: Path) -> Check:
    """Write, sync, lock and rename there: what every commit of a run does."""
    folder = _existing(root)
    try:
        with tempfile.TemporaryDirectory(prefix=".irl-align-doctor-", dir=folder) as name:
            path = Path(name) / "probe"
            with open(path, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.write(b"x" * 4096)
                file.flush()
                os.fsync(file.fileno())
            os.replace(path, path.with_name("renamed"))
    except OSError as error:
        reason = error.strerror or str(error)
        return Check(
            "run folder",
            "fail",
            f"{folder}: {reason}",
            "set run_dir to a folder that can be written",
        )
    return Check("run folder", "ok", f"{folder} can be written, locked and synced")


def check_shared_memory() -> Check:
    path = Path("/dev/shm")
    if not path.is_dir():
        return Check("shared memory", "ok", "no /dev/shm on this system")
    free = shutil.disk_usage(path).free / GIB
    if free < 0.5:
        return Check(
            "shared memory",
            "warn",
            f"{free:.2f} GiB in /dev/shm",
            "torchrun and vLLM pass data there; in Docker add --shm-size=8g (or --ipc=host)",
        )
    return Check("shared memory", "ok", f"{free:.1f} GiB in /dev/shm")


def check_compiler() -> Check:
    """DeepSpeed's CPU communication op is compiled at its first use."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    wanted = installed("deepspeed")
    advice = "apt-get install g++ (or conda install gxx); needed by DeepSpeed on CPU only"
    status: Literal["ok", "warn"] = "warn" if wanted else "ok"
    if compiler is None:
        return Check("g++", status, "not found", advice if wanted else "")
    source = "#include <vector>\nint main() { std::vector<int> v{1}; return v.size() - 1; }\n"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "probe"
        command = [compiler, "-std=c++17", "-x", "c++", "-", "-o", str(program)]
        try:
            subprocess.run(
                command, input=source, text=True, capture_output=True, check=True, timeout=60
            )
            subprocess.run([str(program)], check=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return Check("g++", status, f"{compiler} cannot build a C++17 program", advice)
    if wanted and shutil.which("ninja") is None and not installed("ninja"):
        return Check("g++", "warn", f"{compiler} works, ninja is missing", "pip install ninja")
    return Check("g++", "ok", f"{compiler} builds and runs a C++17 program")


def _memory() -> tuple[float | None, float | None]:
    """(available, total) in GiB, the container's limit taken into account."""
    fields = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            fields[name] = int(rest.split()[0]) * 1024
        available, total = fields["MemAvailable"], fields["MemTotal"]
    except (OSError, KeyError, ValueError, IndexError):
        return None, None
    for limit_file, used_file in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            limit, used = int(Path(limit_file).read_text()), int(Path(used_file).read_text())
        except (OSError, ValueError):
            continue
        if limit < total:
            available, total = min(available, limit - used), limit
    return available / GIB, total / GIB


def _existing(path: Path) -> Path:
    """`path`, or its nearest ancestor that exists: a run creates what is missing."""
    path = path.absolute()
    return next(parent for parent in (path, *path.parents) if parent.is_dir())


def installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
