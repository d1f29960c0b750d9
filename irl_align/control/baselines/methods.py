"""Every learner from demonstrations by name: its configuration and its function.

All have one shape, `run(config, *, loggers=(), keep=True, **trainer) -> Result`, one history
(`eval/return`, `steps/environment`), one kind of run directory and one saved actor. A method is
imported where it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from irl_align.control.config import DemonstratedConfig
from irl_align.core.errors import UserError
from irl_align.core.trainer import Result

# name -> module and configuration; the function has the method's name.
METHODS: dict[str, tuple[str, str]] = {
    "ml_irl": ("irl_align.control.ml_irl", "MLIRLConfig"),
    "gail": ("irl_align.control.baselines.gail", "GAILConfig"),
    "dac": ("irl_align.control.baselines.dac", "DACConfig"),
    "airl": ("irl_align.control.baselines.airl", "AIRLConfig"),
    "f_irl": ("irl_align.control.baselines.f_irl", "FIRLConfig"),
    "bc": ("irl_align.control.baselines.bc", "BCConfig"),
    "sqil": ("irl_align.control.baselines.sqil", "SQILConfig"),
    "iq_learn": ("irl_align.control.baselines.iq_learn", "IQLearnConfig"),
}


class Method(NamedTuple):
    """What a comparison needs of a method."""

    config: type[DemonstratedConfig]
    run: Callable[..., Result[Any, Any]]


def method(name: str) -> Method:
    """The method `name`. UserError when there is none of that name."""
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(METHODS)}"
        raise UserError(f"unknown method {name!r}; {hint}")
    module_name, config = METHODS[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise UserError(f"method {name} is not part of this version ({module_name})") from None
    return Method(getattr(module, config), getattr(module, name))
