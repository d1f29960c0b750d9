"""Whether a run may go on with the configuration that it is started with now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from irl_align.core.errors import UserError
from irl_align.core.files import to_json


def json_like(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it reads back from YAML: lists for tuples, text for paths."""
    return cast(dict[str, Any], json.loads(to_json(config)))


def check_same_config(
    path: Path, saved: Mapping[str, Any], now: Mapping[str, Any], free_keys: Sequence[str]
) -> None:
    """UserError naming `path` and every key that differs, `free_keys` (dotted) and what is below
    them left out."""
    before, after = _flat(saved), _flat(now)
    absent = object()
    different = [
        key
        for key in sorted(before.keys() | after.keys())
        if before.get(key, absent) != after.get(key, absent)
        and not any(key == free or key.startswith(f"{free}.") for free in free_keys)
    ]
    if different:
        lines = "".join(
            f"\n  {key}: {before.get(key, 'not set')!r} in the run, "
            f"{after.get(key, 'not set')!r} now"
            for key in different
        )
        raise UserError(
            f"{path}: the run was started with another configuration:{lines}\n"
            "choose a new run_dir, or go back to the values of the run"
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        flat: dict[str, Any] = {}
        for key, inner in value.items():
            flat |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: value}
