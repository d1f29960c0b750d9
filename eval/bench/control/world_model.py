"""The world model against plain PyTorch: a list of networks, each called and stepped for itself.

7 members of 4 x 200 on Hopper's dimensions, as MOPO has them. Updates are of a batch of 256 for
each member; compilation is not on the clock. Steps are those of a stochastic policy of 64 x 64
with MOPO's penalty over all members, 20,000 starts and 5 steps; the plain side sends all rows
through a member at once, ours goes in chunks that fit into a cache. Both are bound by the products
of their matrices, so neither ratio can be large.
"""

from __future__ import annotations

from typing import Any

from eval.bench.control.turns import in_turn, ours, plain, row

_ENSEMBLE: dict[str, Any] = {"members": 7, "hidden": [200] * 4}
_OBSERVATIONS, _ACTIONS = 11, 3
_TURNS = 3


def updates() -> dict[str, Any]:
    """The row `world_model_updates`."""
    work = {
        **_ENSEMBLE,
        "decay": [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4],
        "batch_size": 256,
        "inputs": _OBSERVATIONS + _ACTIONS,
        "outputs": _OBSERVATIONS,
        "rows": 50_000,
        "updates": 100,
    }
    return _row("world_model_updates", "model_updates", work, "CPU ms an update of 7 x (4 x 200)")


def steps() -> dict[str, Any]:
    """The row `world_model_steps`."""
    work = {
        **_ENSEMBLE,
        "policy_hidden": 64,
        "observations": _OBSERVATIONS,
        "actions": _ACTIONS,
        "starts": 20_000,
        "horizon": 5,
    }
    return _row("world_model_steps", "model_steps", work, "CPU ms for 1,000 penalised steps")


def _row(name: str, module: str, work: dict[str, Any], unit: str) -> dict[str, Any]:
    found = in_turn(lambda turn: ours(module, **work), lambda turn: plain(module, **work), _TURNS)
    made = row(found, f"{unit}, against plain PyTorch")
    print(f"{name}: ratio {made['ratio']:.2f} by CPU time, {made['ratio_wall']:.2f} by wall clock")
    return {name: made}
