"""Errors that the user can mend, and how a program ends on them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn


class UserError(Exception):
    """A mistake outside the code: a file, a row, a setting, a full disk.

    The message is the whole report, so it names the file, the row, the key and the mend.
    Programs print ``error: <message>`` on stderr and exit with code 2, without a traceback.
    """


_MEND = {
    errno.ENOSPC: "the disk is full; free some space (or choose another folder)",
    errno.EDQUOT: "the disk quota is used up; free some space (or choose another folder)",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "no permission; choose another folder or change its permissions",
    errno.EPERM: "no permission; choose another folder or change its permissions",
}
# Libraries written in Rust or C++ (safetensors, torch.save) lose the errno but keep the text.
_TEXTS = {
    os.strerror(code): code for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
}


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Let a storage error in the block name ``path`` when it names no file (a failing write)."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _MEND:
            error.filename = str(path)
        raise
    except UserError:
        raise
    except Exception as error:
        code = _code_in_text(error)
        if code is None:
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


def _code_in_text(error: BaseException) -> int | None:
    return next((code for text, code in _TEXTS.items() if text in str(error)), None)


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it was raised from, outermost first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        hidden = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ or hidden
    return found


def explain(error: BaseException) -> str | None:
    """The message for an error that the user can mend; None when it is a fault of the code.

    Covers :class:`UserError` and storage errors (disk full, quota, read-only, no permission),
    also when another exception was raised from them.
    """
    if isinstance(error, UserError):
        return str(error)
    for link in _chain(error):
        if isinstance(link, UserError):
            return str(link)
        code = link.errno if isinstance(link, OSError) else None
        if code not in _MEND:
            code = _code_in_text(link)
        if code is None:
            continue
        path = getattr(link, "filename", None)
        second = getattr(link, "filename2", None)
        if path is None and code in (errno.EACCES, errno.EPERM):
            continue  # not about a file: a socket, a signal
        where = f"cannot use {second or path}" if path else f"cannot write ({link})"
        return (
            f"{where}: {_MEND[code]}. What was committed before is kept; "
            "run the same command again to go on"
        )
    return None


def exit_with_clear_errors(main: Callable[[], int | None]) -> NoReturn:
    """Run ``main`` as a program and leave the process with its exit code.

    Exit codes: what ``main`` returns (None is 0); 2 with one ``error: ...`` message for what the
    user can mend; 130 for Ctrl-C; 141 when the reader of a pipe went away. Anything else is a
    fault of the code and keeps its traceback.
    """
    try:
        code = main() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # `irl-align runs | head`: nothing is wrong, but the interpreter would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    sys.exit(code)
