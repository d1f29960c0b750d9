"""A run on disk: phases and rounds that are committed in full or not at all.

::

    config.yaml  run.json  metrics.jsonl
    setup/<name>/                      work before round 0 (SFT, base evaluation)
    rounds/0000/{samples,reward,policy,evaluation}/   each with phase.json
    rounds/0000/{metrics.json,manifest.json,DONE}

How a folder appears whole or not at all: `core.committed`. So the same command can be killed
anywhere and run again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from irl_align.core.committed import RECORD, begin, commit, read_json, record_of, verify
from irl_align.core.config import read_yaml, save_config
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json, atomic_write_text, link_or_copy
from irl_align.core.history import MetricsLog
from irl_align.core.lock import FolderLock
from irl_align.core.protocols import Metrics, Phase
from irl_align.core.provenance import git_revision, versions
from irl_align.core.same_config import check_same_config, json_like

FOLDERS: dict[Phase, str] = {
    "sample": "samples",
    "reward": "reward",
    "policy": "policy",
    "evaluate": "evaluation",
}
DONE = "DONE"


class RunDirectory:
    """One run's folder. :meth:`open` to write (locked), :meth:`read` to look at any run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.resumed = False
        self._lock: FolderLock | None = None
        self._config: dict[str, Any] | None = None
        self._log = MetricsLog(self.path / "metrics.jsonl")

    # Opening and closing

    def open(
        self, config: Mapping[str, Any], *, free_keys: Sequence[str] = ("rounds", "run_dir")
    ) -> RunDirectory:
        """Create the run, or resume it when it exists; returns self.

        ``config`` is the resolved configuration (plain containers); ``free_keys`` are the keys
        (dotted; a section frees all below it) that may change between starts. Raises UserError when
        the folder cannot be written, another process holds it, or the configuration differs.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path)
            self._lock.acquire()
            self._open_locked(config, free_keys)
        except OSError as error:
            self.close()
            _unwritable(self.path, error)
        except BaseException:
            self.close()
            raise
        return self

    def _open_locked(self, config: Mapping[str, Any], free_keys: Sequence[str]) -> None:
        saved = self.path / "config.yaml"
        plain = json_like(config)
        start = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": versions(),
            "git": git_revision(),
        }
        if saved.exists():
            self.resumed = True
            check_same_config(saved, read_yaml(saved), plain, free_keys)
            info = self.info()
            info["starts"] = [*info.get("starts", []), start]
        else:
            for name in ("rounds", "setup"):
                if (self.path / name).exists():
                    raise UserError(
                        f"{self.path} holds {name}/ but no config.yaml, so it cannot be resumed; "
                        "choose a new run_dir, or put its config.yaml back"
                    )
            info = {"starts": [start]}
        for pattern in (".*.tmp", "rounds/*/.*.tmp"):
            for stale in self.path.glob(pattern):
                stale.unlink(missing_ok=True)
        atomic_write_json(self.path / "run.json", info)
        save_config(plain, saved)
        self._config = plain
        committed = {number: self.metrics(number) for number in self.committed_rounds()}
        self._log.repair(self.done_rounds(), committed)

    def check(
        self, config: Mapping[str, Any], *, free_keys: Sequence[str] = ("rounds", "run_dir")
    ) -> None:
        """Raise the UserError with which `open` would refuse another configuration, if it would.

        Nothing is written or locked, and a run that does not exist yet fits everything.
        """
        saved = self.path / "config.yaml"
        if saved.exists():
            check_same_config(saved, read_yaml(saved), json_like(config), free_keys)

    @classmethod
    def read(cls, path: Path | str) -> RunDirectory:
        """An existing run for reading: no lock, nothing changed. UserError when it is no run."""
        run = cls(path)
        if not run.path.is_dir():
            raise UserError(f"{path}: no such run; give the folder of a run (its run_dir)")
        if not (run.path / "config.yaml").exists():
            raise UserError(f"{path} is not a run: it holds no config.yaml")
        return run

    def close(self) -> None:
        """Give the lock back. The run can be opened again."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def config(self) -> dict[str, Any]:
        """The resolved configuration that the run was last started with."""
        if self._config is None:
            self._config = read_yaml(self.path / "config.yaml")
        return self._config

    def info(self) -> dict[str, Any]:
        """run.json: ``starts``, each with time, versions and git revision."""
        return read_json(self.path / "run.json") if (self.path / "run.json").exists() else {}

    # Phases of a round

    def begin_phase(self, round: int, phase: Phase) -> Path:
        """An empty folder for a phase to write into; what a crash left of it is removed."""
        self._check_open()
        return begin(self.phase_folder(round, phase))

    def commit_phase(
        self,
        round: int,
        phase: Phase,
        metrics: Metrics,
        seconds: float,
        seed: int,
        extra: Mapping[str, Any] | None = None,
    ) -> Path:
        """Make the phase's partial folder final; returns the folder under its final name."""
        record = {"round": round, "phase": phase, "seed": seed, "seconds": seconds}
        self._check_open()
        return commit(self.phase_folder(round, phase), record, metrics, extra)

    def discard_phase(self, round: int, phase: Phase) -> None:
        """Remove a committed phase of an unfinished round, to do it again."""
        if self.round_done(round):
            raise ValueError(f"round {round} is finished; its phases stay")
        shutil.rmtree(self.phase_folder(round, phase))

    def phase_done(self, round: int, phase: Phase) -> bool:
        return self.phase_folder(round, phase).is_dir()

    def phase_folder(self, round: int, phase: Phase) -> Path:
        """Where the committed phase lies (whether or not it is there yet)."""
        return self.round_folder(round) / FOLDERS[phase]

    def phase_record(self, round: int, phase: Phase) -> dict[str, Any]:
        """phase.json: metrics, seconds, seed, files."""
        return self._record(self.phase_folder(round, phase))

    def verify_phase(self, round: int, phase: Phase) -> None:
        """Compare every file of a committed phase with its recorded size and hash.

        Raises UserError naming the first file that is missing or differs, and the mend.
        """
        self._verify(self.phase_folder(round, phase))

    # Work before round 0

    def begin_setup(self, name: str) -> Path:
        """As :meth:`begin_phase`, for work that comes before the rounds."""
        self._check_open()
        return begin(self.setup_folder(name))

    def commit_setup(
        self,
        name: str,
        metrics: Metrics,
        seconds: float,
        seed: int,
        extra: Mapping[str, Any] | None = None,
    ) -> Path:
        record = {"phase": name, "seed": seed, "seconds": seconds}
        self._check_open()
        return commit(self.setup_folder(name), record, metrics, extra)

    def take_setup(self, name: str, other: RunDirectory) -> Path:
        """Commit what another run did as its `name`, with its record and a note of its origin.

        Its files are shared by hard links where the file system has them. Raises UserError when
        they are not what the other run wrote.
        """
        other.verify_setup(name)
        record = other.setup_record(name)
        partial = self.begin_setup(name)
        source = other.setup_folder(name)
        shutil.copytree(source, partial, dirs_exist_ok=True, copy_function=link_or_copy)
        (partial / RECORD).unlink()
        origin = {"taken_from": str(other.path)}
        return self.commit_setup(name, record["metrics"], record["seconds"], record["seed"], origin)

    def setup_done(self, name: str) -> bool:
        return self.setup_folder(name).is_dir()

    def setup_folder(self, name: str) -> Path:
        return self.path / "setup" / name

    def setup_record(self, name: str) -> dict[str, Any]:
        return self._record(self.setup_folder(name))

    def verify_setup(self, name: str) -> None:
        self._verify(self.setup_folder(name))

    # Rounds

    def round_folder(self, round: int) -> Path:
        return self.path / "rounds" / f"{round:04d}"

    def commit_round(
        self, round: int, metrics: Metrics, manifest: Mapping[str, Any] | None = None
    ) -> None:
        """Close a round: metrics, manifest, then DONE. The round's phases are committed before."""
        folder = self.round_folder(round)
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_json(folder / "metrics.json", dict(metrics))
        atomic_write_json(folder / "manifest.json", dict(manifest or {}))
        self._log.sync()
        atomic_write_text(folder / DONE, "")

    def round_done(self, round: int) -> bool:
        return (self.round_folder(round) / DONE).exists()

    def committed_rounds(self) -> list[int]:
        """Indices of the rounds on disk, ascending; with save_every > 1 there are gaps."""
        return sorted(
            int(mark.parent.name)
            for mark in (self.path / "rounds").glob(f"*/{DONE}")
            if mark.parent.name.isdigit()
        )

    def done_rounds(self) -> int:
        """How many rounds lie behind: the last committed index + 1."""
        committed = self.committed_rounds()
        return committed[-1] + 1 if committed else 0

    def metrics(self, round: int) -> dict[str, float]:
        return read_json(self.round_folder(round) / "metrics.json")

    def manifest(self, round: int) -> dict[str, Any]:
        return read_json(self.round_folder(round) / "manifest.json")

    def discard_unfinished(self, first: int) -> None:
        """Remove uncommitted rounds from ``first`` on: leftovers of a lineage not continued."""
        for folder in (self.path / "rounds").glob("[0-9]*"):
            number = int(folder.name) if folder.name.isdigit() else -1
            if number >= first and not (folder / DONE).exists():
                shutil.rmtree(folder)

    def append_metrics(self, round: int, metrics: Metrics) -> None:
        """Add a round's row to metrics.jsonl; made durable by the next :meth:`commit_round`."""
        self._log.append(round, metrics)

    def history(self) -> list[dict[str, float]]:
        """Metrics of every round behind, oldest first.

        Raises UserError when a round has neither metrics.json nor a row in metrics.jsonl.
        """
        rows = self._log.rows()
        history = []
        for number in range(self.done_rounds()):
            if self.round_done(number):
                history.append(self.metrics(number))
            elif number in rows:
                history.append(rows[number])
            else:
                raise UserError(
                    f"{self._log.path}: no row for round {number}; put the file back, or delete "
                    f"{self.path / 'rounds'} from {number:04d} on to redo from there"
                )
        return history

    # What phases and set-up share

    def _record(self, folder: Path) -> dict[str, Any]:
        return record_of(folder, self._mend(folder))

    def _verify(self, folder: Path) -> None:
        verify(folder, self._mend(folder))

    def _mend(self, folder: Path) -> str:
        if folder.parent.parent == self.path / "rounds":
            return f"delete {folder.parent} and later rounds to redo from there"
        return f"delete {folder} and {self.path / 'rounds'} to redo from there"

    def _check_open(self) -> None:
        if self._lock is None:
            raise RuntimeError(f"{self.path} is not open for writing; call open() first")


def _unwritable(path: Path, error: OSError) -> NoReturn:
    reason = error.strerror or str(error)
    raise UserError(
        f"cannot write the run directory {path}: {reason}"
        + (f" ({error.filename})" if error.filename and str(error.filename) != str(path) else "")
        + "; choose another run_dir, free space or change its permissions"
    ) from error
