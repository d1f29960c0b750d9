"""Every speed claim of the project against its peer, in one run.

    make bench                       all of them but sac_returns, which takes hours
    python -m eval.bench generation  one or more by name

Prints a table and writes bench_results.json: {name: {ours, peer, ratio, unit, runs}}. A ratio above
1 means that ours is faster. Times are wall clock on an otherwise idle machine; those of the control
benchmarks are CPU time of one thread, with the ratio by the wall clock in `ratio_wall`. A benchmark
that cannot run costs its own rows only: the others go on, and the reason stands at the end.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.files import atomic_write_json
from irl_align.core.provenance import versions

OUT = Path("bench_results.json")
Bench = Callable[[], dict[str, Any]]
# Only by name: what takes hours.
LONG = {"sac_returns"}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_benches())}")
    group = parser.add_argument_group("sac_returns")
    group.add_argument("--environments", nargs="+", metavar="NAME")
    group.add_argument("--seeds", type=int, help="of each side, by default 5")
    group.add_argument("--steps", type=int, help="of each run, by default 10,000 or 100,000")
    arguments = parser.parse_args()
    benches = _benches(arguments.environments, arguments.seeds, arguments.steps)
    names = arguments.names or [name for name in benches if name not in LONG]
    unknown = sorted(set(names) - set(benches))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]}; known: {', '.join(benches)}")
    results = json.loads(OUT.read_text()) if OUT.exists() else {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            results |= benches[name]()
        except UserError as error:
            failed[name] = str(error)
            print(f"{name}: {error}")
            continue
        results["machine"] = {
            "processor": platform.processor() or platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
            "versions": versions(),
        }
        atomic_write_json(OUT, results)
    print(f"\n{'name':<34}{'ours':>12}{'peer':>12}{'ratio':>8}  unit")
    for name, row in results.items():
        if "ours" in row:
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else "-"
            print(f"{name:<34}{row['ours']:>12.4g}{row['peer']:>12.4g}{ratio:>8}  {row['unit']}")
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise UserError(f"{len(failed)} of {len(names)} benchmarks did not run: {reasons}")
    return 0


def _benches(
    environments: list[str] | None = None, seeds: int | None = None, steps: int | None = None
) -> dict[str, Bench]:
    from eval.bench import (
        generation,
        ppo_batch,
        ppo_memory,
        quickstart_round,
        reward_scoring,
        tabular,
    )
    from eval.bench.control import ml_irl, returns, sac, soft_backup, world_model

    sb3, sbx = "stable_baselines3", "sbx"
    return {
        "generation": generation.run,
        "quickstart_round": quickstart_round.run,
        "reward_scoring": reward_scoring.run,
        "ppo_memory": ppo_memory.run,
        "ppo_batch": ppo_batch.run,
        "tabular": tabular.run,
        "soft_backup_400": soft_backup.run,
        "sac_64": partial(sac.loop, "sac_64", sac.SMALL, sb3),
        "sac_64_updates": partial(sac.updates, "sac_64_updates", sac.SMALL),
        "sac_64_vs_sbx": partial(sac.loop, "sac_64_vs_sbx", sac.SMALL, sbx),
        "sac_256": partial(sac.loop, "sac_256", sac.LARGE, sb3),
        "sac_256_vs_sbx": partial(sac.loop, "sac_256_vs_sbx", sac.LARGE, sbx),
        "world_model_updates": partial(world_model.updates, world_model.STACKED),
        "world_model_updates_vs_list": partial(world_model.updates, world_model.LISTED),
        "world_model_steps": partial(world_model.steps, world_model.STACKED),
        "world_model_steps_vs_list": partial(world_model.steps, world_model.LISTED),
        "ml_irl_pendulum": ml_irl.run,
        "sac_returns": partial(returns.run, environments, seeds, steps),
    }


if __name__ == "__main__":
    exit_with_clear_errors(main)
