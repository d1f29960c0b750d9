"""Where metrics and the progress of long work go: console, JSONL, TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from irl_align.core.errors import UserError, naming
from irl_align.core.files import to_json


class Progress(Protocol):
    """Handed out by :meth:`Logger.progress` while long work runs."""

    def advance(self, n: int = 1) -> None: ...


class Logger(Protocol):
    """Takes metrics of a round (``kind="round"``) or of an optimiser step (any other kind)."""

    def log(self, step: int, metrics: Mapping[str, float], kind: str = "round") -> None: ...

    def progress(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Progress]: ...


class _Silent:
    def advance(self, n: int = 1) -> None:
        return None


@contextmanager
def _silence() -> Iterator[Progress]:
    yield _Silent()


def _format(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else f"{value:.4g}"


class ConsoleLogger:
    """One table row a round on ``stream``; a progress bar on stderr.

    On a terminal the bar redraws itself; in a log file it is a line every ``interval`` seconds.
    ``columns`` chooses the metrics of the table, by default all but times and memory.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        *,
        stream: TextIO | None = None,
        interval: float = 10.0,
    ) -> None:
        self.columns = list(columns) if columns is not None else None
        self.interval = interval
        self._stream = stream
        self._header_of: list[str] | None = None

    def log(self, step: int, metrics: Mapping[str, float], kind: str = "round") -> None:
        stream = self._stream or sys.stdout
        if kind != "round":
            body = "  ".join(f"{key} {_format(value)}" for key, value in metrics.items())
            print(f"{kind} {step}: {body}", file=stream, flush=True)
            return
        columns = self.columns
        if columns is None:
            columns = [key for key in metrics if not key.startswith(("time/", "memory/"))]
        widths = [max(len(name), 8) for name in columns]
        if self._header_of != columns:
            self._header_of = list(columns)
            names = "  ".join(f"{n:>{w}}" for n, w in zip(columns, widths, strict=True))
            print(f"round  {names}", file=stream)
        cells = [_format(metrics[name]) if name in metrics else "-" for name in columns]
        row = "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        print(f"{step:>5}  {row}", file=stream, flush=True)

    def progress(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Progress]:
        return _bar(description, total, sys.stderr, self.interval)


class _Bar:
    def __init__(self, description: str, total: int | None, stream: TextIO, every: float) -> None:
        self.description, self.total, self.stream, self.every = description, total, stream, every
        self.tty = stream.isatty()
        self.count = 0
        self.start = self.shown = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self.count += n
        now = time.monotonic()
        if now - self.shown >= (0.1 if self.tty else self.every):
            self.shown = now
            self.show()

    def show(self) -> None:
        seconds = max(time.monotonic() - self.start, 1e-9)
        rate = self.count / seconds
        text = f"{self.description}: {self.count}"
        if self.total:
            text += f"/{self.total} ({100 * self.count / self.total:.0f}%)"
            if 0 < self.count < self.total:
                text += f", {(self.total - self.count) / rate:.0f} s left"
        text += f", {rate:.3g}/s, {seconds:.0f} s"
        if self.tty:
            if self.total:
                filled = round(20 * min(self.count / self.total, 1))
                text = f"[{'#' * filled}{'.' * (20 - filled)}] {text}"
            self.stream.write(f"\r\x1b[2K{text}")
            self.stream.flush()
        else:
            print(text, file=self.stream, flush=True)


@contextmanager
def _bar(description: str, total: int | None, stream: TextIO, every: float) -> Iterator[Progress]:
    bar = _Bar(description, total, stream, every)
    if bar.tty:
        bar.show()
    try:
        yield bar
    finally:
        if bar.tty:
            bar.show()
            stream.write("\n")
            stream.flush()
        elif bar.shown != bar.start or time.monotonic() - bar.start >= every:
            bar.show()


class JsonlLogger:
    """One JSON object a line: ``{"kind", "step", "time", metrics...}``, flushed at once.

    Reopening an existing file goes on with it: a last line that a crash tore is cut off, and a
    round that is there already is not written a second time.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._rounds: set[int] = set()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._recover()

    def _recover(self) -> None:
        end = 0
        with open(self.path, "rb+") as file:
            for line in file:
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    row = None
                if not isinstance(row, dict):
                    break
                if row.get("kind") == "round":
                    self._rounds.add(int(row["step"]))
                end += len(line)
            file.truncate(end)

    def log(self, step: int, metrics: Mapping[str, float], kind: str = "round") -> None:
        if kind == "round":
            if step in self._rounds:
                return
            self._rounds.add(step)
        row = {"kind": kind, "step": step, "time": round(time.time(), 3), **metrics}
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(to_json(row, indent=None) + "\n")

    def progress(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Progress]:
        return _silence()


class TensorBoardLogger:
    """Event files in ``folder``; needs the package tensorboard."""

    def __init__(self, folder: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "logging to TensorBoard needs the package tensorboard: pip install tensorboard"
            ) from None
        self._writer: Any = SummaryWriter(str(folder))

    def log(self, step: int, metrics: Mapping[str, float], kind: str = "round") -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key if kind == "round" else f"{kind}/{key}", value, step)
        self._writer.flush()

    def progress(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Progress]:
        return _silence()

    def close(self) -> None:
        self._writer.close()


class _Many:
    def __init__(self, parts: Sequence[Progress]) -> None:
        self.parts = parts

    def advance(self, n: int = 1) -> None:
        for part in self.parts:
            part.advance(n)


class MultiLogger:
    """Hands everything on to several loggers."""

    def __init__(self, *loggers: Logger) -> None:
        self.loggers = loggers

    def log(self, step: int, metrics: Mapping[str, float], kind: str = "round") -> None:
        for logger in self.loggers:
            logger.log(step, metrics, kind)

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Progress]:
        with ExitStack() as stack:
            yield _Many(
                [
                    stack.enter_context(logger.progress(description, total))
                    for logger in self.loggers
                ]
            )
