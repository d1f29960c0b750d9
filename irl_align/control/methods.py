"""Every learner from demonstrations by name: its configuration and its function.

All have one shape, `run(config, *, loggers=(), keep=True, **trainer) -> Result`, one history
(`eval/return`) and one kind of run directory. A method is imported where it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from irl_align.control.config import ExperimentConfig
from irl_align.core.errors import UserError
from irl_align.core.trainer import Result

# name -> module and configuration; the function has the method's name.
Table = dict[str, tuple[str, str]]
# Online, on one SAC: their configurations are DemonstratedConfigs.
ONLINE: Table = {
    "ml_irl": ("irl_align.control.ml_irl", "MLIRLConfig"),
    "gail": ("irl_align.control.baselines.gail", "GAILConfig"),
    "dac": ("irl_align.control.baselines.dac", "DACConfig"),
    "airl": ("irl_align.control.baselines.airl", "AIRLConfig"),
    "f_irl": ("irl_align.control.baselines.f_irl", "FIRLConfig"),
    "bc": ("irl_align.control.baselines.bc", "BCConfig"),
    "sqil": ("irl_align.control.baselines.sqil", "SQILConfig"),
    "iq_learn": ("irl_align.control.baselines.iq_learn", "IQLearnConfig"),
}
# From transitions alone: FixedDataConfigs. They take transitions from memory, too (`data`).
FROM_FIXED_DATA: Table = {
    "bicql": ("irl_align.control.bicql_ml", "BiCQLConfig"),
    "clare": ("irl_align.control.baselines.clare", "CLAREConfig"),
    "cql": ("irl_align.control.baselines.cql", "CQLConfig"),
    "value_dice": ("irl_align.control.baselines.value_dice", "ValueDICEConfig"),
}
# In a world model: OfflineConfigs.
IN_A_MODEL: Table = {
    "offline_ml_irl": ("irl_align.control.offline_ml_irl", "OfflineMLIRLConfig"),
    "mopo": ("irl_align.control.mopo", "MOPOConfig"),
}
METHODS: Table = {**ONLINE, **FROM_FIXED_DATA, **IN_A_MODEL}


class Method(NamedTuple):
    """What a program needs of a method.

    Attributes:
        steps: the metric to plot returns against, and `axis` what to call it.
        free_keys: what may change when a run is taken up again.
    """

    config: type[Any]
    run: Callable[..., Result[Any, Any]]
    steps: str
    axis: str
    free_keys: tuple[str, ...]


def method(name: str, among: Mapping[str, tuple[str, str]] = METHODS) -> Method:
    """The method `name`. UserError when there is none of that name."""
    if name not in among:
        near = difflib.get_close_matches(name, among, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(among)}"
        raise UserError(f"unknown method {name!r}; {hint}")
    module_name, config = among[name]
    module = importlib.import_module(module_name)
    found = getattr(module, config)
    assert issubclass(found, ExperimentConfig)
    steps, axis, budget = "steps/environment", "environment steps", "environment_steps"
    if name in FROM_FIXED_DATA:
        steps, axis, budget = "steps/updates", "updates", "rounds"
    elif name in IN_A_MODEL:
        steps, axis, budget = "policy/updates", "updates of the policy", "rounds"
    return Method(found, getattr(module, name), steps, axis, (budget, "run_dir"))
