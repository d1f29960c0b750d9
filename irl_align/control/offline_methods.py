"""Every learner from fixed data by name: its configuration and its function.

All have one shape, `run(config, *, data=None, loggers=(), keep=True, **trainer) -> Result`, and one
history (`eval/return`, `steps/updates`). A method is imported where it is asked for. Those that
learn online are in `baselines.methods`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from irl_align.control.fixed_data import FixedDataConfig
from irl_align.core.errors import UserError
from irl_align.core.trainer import Result

# name -> module, function and configuration.
OFFLINE_METHODS: dict[str, tuple[str, str, str]] = {
    "bicql": ("irl_align.control.bicql_ml", "bicql", "BiCQLConfig"),
    "clare": ("irl_align.control.baselines.clare", "clare", "CLAREConfig"),
    "cql": ("irl_align.control.baselines.cql", "cql", "CQLConfig"),
    "value_dice": ("irl_align.control.baselines.value_dice", "value_dice", "ValueDICEConfig"),
}


class OfflineMethod(NamedTuple):
    """What a program needs of a method."""

    config: type[FixedDataConfig]
    run: Callable[..., Result[Any, Any]]


def offline_method(name: str) -> OfflineMethod:
    """The method `name`. UserError when there is none of that name."""
    if name not in OFFLINE_METHODS:
        near = difflib.get_close_matches(name, OFFLINE_METHODS, n=1, cutoff=0.5)
        known = ", ".join(OFFLINE_METHODS)
        hint = f"did you mean {near[0]}?" if near else f"there are {known}"
        raise UserError(f"unknown offline method {name!r}; {hint}")
    module_name, function, config = OFFLINE_METHODS[name]
    module = importlib.import_module(module_name)
    return OfflineMethod(getattr(module, config), getattr(module, function))
