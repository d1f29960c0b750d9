"""SAC on Hopper against Stable-Baselines3 and against SBX, end to end and updates alone.

Both sides: the same networks, batches, learning rate and tuned temperature, one update for each
environment step, four of them together every four steps, one core. A row of the loop is CPU
milliseconds an environment step. Compilation is not in it, but in `compile_s` (with start-up):
the first turn compiles into an empty cache, the others find it full.

SBX compiles as well, its updates into one call of JAX: the honest line, which may be below 1.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.bench.control.turns import in_turn, ours, peer, row

FOLDER = Path(".bench")


@dataclass(frozen=True)
class Size:
    """Two hidden layers of `hidden`; `together` updates are made in one call."""

    hidden: int
    batch_size: int
    environment: str = "Hopper-v5"
    together: int = 4


SMALL, LARGE = Size(64, 100), Size(256, 256)
# Environment steps: (64, 64) takes 3 s of ours and 25 s of Stable-Baselines3, (256, 256) 20 and 40.
_STEPS = {SMALL: 5_000, LARGE: 2_000}
_TURNS = {SMALL: 5, LARGE: 3}
_WARM_UP = 1_000
_UPDATES = 2_000
_NAMES = {"stable_baselines3": "Stable-Baselines3", "sbx": "SBX (JAX)"}


def loop(name: str, size: Size, library: str) -> dict[str, Any]:
    """The row `name`: the whole loop against `library`."""
    work = {**asdict(size), "warm_up": _WARM_UP, "steps": _STEPS[size]}
    with _empty_cache():
        found = in_turn(
            lambda turn: ours("sac_loop", **work),
            lambda turn: peer("sac_loop", library=library, **work),
            _TURNS[size],
        )
    cold, *warm = (run["compile_s"] for run in found["ours"])
    compile_s = {
        "ours, cold": cold,
        "ours, warm": statistics.median(warm),
        "peer": statistics.median(run["compile_s"] for run in found["peer"]),
    }
    unit = f"CPU ms an environment step, {_described(size)}, against {_NAMES[library]}"
    made = row(found, unit, compile_s=compile_s)
    print(f"{name}: ratio {made['ratio']:.2f} by CPU time, {made['ratio_wall']:.2f} by wall clock")
    print(f"{name}: compilation, s: {', '.join(f'{k} {v:.1f}' for k, v in compile_s.items())}")
    return {name: made}


def updates(name: str, size: Size) -> dict[str, Any]:
    """The row `name`: updates alone, from a replay that is full of uniform actions."""
    work = {**asdict(size), "updates": _UPDATES}
    found = in_turn(
        lambda turn: ours("sac_updates", **work),
        lambda turn: peer("sac_updates", library="stable_baselines3", **work),
        _TURNS[size],
    )
    unit = f"CPU ms an update, {_described(size)}, against Stable-Baselines3"
    return {name: row(found, unit)}


def _described(size: Size) -> str:
    return f"Hopper ({size.hidden}, {size.hidden})/{size.batch_size}"


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Within the block torch keeps what it compiles in a folder that starts empty."""
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="compiled-") as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder).resolve())
        try:
            yield
        finally:
            del os.environ["TORCHINDUCTOR_CACHE_DIR"]
            if before is not None:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = before
