"""Checks for the `__post_init__` of configurations; each raises ValueError naming key and value.

`core.config` turns that into an error that names the file or override, too.
"""

from __future__ import annotations

from typing import Any

__all__ = ["choice", "not_negative", "positive"]


def choice(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    """`value` of `key` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}; it must be one of {', '.join(allowed)}")


def positive(owner: object, *keys: str) -> None:
    """The attributes `keys` of `owner` are above 0."""
    for key in keys:
        if not getattr(owner, key) > 0:
            raise ValueError(f"{key} is {getattr(owner, key)!r}; it must be positive")


def not_negative(owner: object, *keys: str) -> None:
    """The attributes `keys` of `owner` are 0 or more."""
    for key in keys:
        if not getattr(owner, key) >= 0:
            raise ValueError(f"{key} is {getattr(owner, key)!r}; it must be 0 or more")
