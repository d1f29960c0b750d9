"""Answers that were paid for once are kept: one file a request, named by the request's hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from irl_align.core.files import atomic_write_json

__all__ = ["RequestCache", "request_key"]


def request_key(request: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a whole request of plain containers, whatever the order of its keys."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class RequestCache:
    """Entries `folder/ab/abcd....json` with the request and its answer; each appears whole or not.

    A request holds everything that decides its answer (address, model, messages, temperature,
    seed, ...), so an entry never goes stale. Nothing secret belongs into a request. Thread-safe;
    several programs may share a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._guard = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Two threads with the same request: the second waits and then finds the answer."""
        with self._guard:
            lock = self._busy.setdefault(key, threading.Lock())
        with lock:
            yield

    def get(self, key: str) -> Any | None:
        """The kept answer; None when there is none, or its file is damaged (it is asked again)."""
        try:
            return json.loads(self.path(key).read_text(encoding="utf-8"))["answer"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, request: Mapping[str, Any], answer: Any) -> None:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, {"request": dict(request), "answer": answer})
