"""The world model against plain PyTorch, in the two forms that people write.

`stacked`, the usual one: the weights of all members in one tensor, every row through all of them at
once. `listed`: a list of networks, each called and stepped for itself, which is kinder to a cache.

7 members of 4 x 200 on Hopper's dimensions, as MOPO has them. Updates are of a batch of 256 for
each member; compilation is not on the clock. Steps are those of a stochastic policy of 64 x 64
with MOPO's penalty over all members, 5 of them from each of 50,000 starts; the plain sides send all
rows through at once, ours goes in chunks that fit into a cache. All are bound by the products of
their matrices, so no ratio can be large.
"""

from __future__ import annotations

from typing import Any

from eval.bench.control.turns import in_turn, ours, plain, row

_ENSEMBLE: dict[str, Any] = {"members": 7, "hidden": [200] * 4}
_OBSERVATIONS, _ACTIONS = 11, 3
_TURNS = 3
STACKED, LISTED = "stacked", "listed"


def updates(form: str) -> dict[str, Any]:
    """The row `world_model_updates`, or `..._vs_list`."""
    work = {
        **_ENSEMBLE,
        "decay": [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4],
        "batch_size": 256,
        "inputs": _OBSERVATIONS + _ACTIONS,
        "outputs": _OBSERVATIONS,
        "rows": 50_000,
        "updates": 100,
    }
    return _row("world_model_updates", "model_updates", form, work, "an update of 7 x (4 x 200)")


def steps(form: str) -> dict[str, Any]:
    """The row `world_model_steps`, or `..._vs_list`."""
    work = {
        **_ENSEMBLE,
        "policy_hidden": 64,
        "observations": _OBSERVATIONS,
        "actions": _ACTIONS,
        "starts": 50_000,
        "horizon": 5,
    }
    return _row("world_model_steps", "model_steps", form, work, "1,000 penalised steps")


def _row(name: str, module: str, form: str, work: dict[str, Any], what: str) -> dict[str, Any]:
    def mine(turn: int) -> dict[str, Any]:
        return ours(module, **work)

    def other(turn: int) -> dict[str, Any]:
        return plain(module, form=form, **work)

    made = row(in_turn(mine, other, _TURNS), f"CPU ms, {what}, against plain PyTorch, {form}")
    name = name if form == STACKED else f"{name}_vs_list"
    print(f"{name}: ratio {made['ratio']:.2f} by CPU time, {made['ratio_wall']:.2f} by wall clock")
    return {name: made}
