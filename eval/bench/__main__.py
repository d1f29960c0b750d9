"""Every speed claim of the project against its peer, in one run.

    make bench                       all of them
    python -m eval.bench generation  one or more by name

Prints a table and writes bench_results.json: {name: {ours, peer, ratio, unit, runs}}. A ratio above
1 means that ours is faster. Times are wall clock on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

from irl_align.core.errors import exit_with_clear_errors
from irl_align.core.files import atomic_write_json
from irl_align.core.provenance import versions

OUT = Path("bench_results.json")


def main() -> int:
    from eval.bench import generation, quickstart_round, reward_scoring, tabular

    benches = {
        "generation": generation.run,
        "quickstart_round": quickstart_round.run,
        "reward_scoring": reward_scoring.run,
        "tabular": tabular.run,
    }
    parser = argparse.ArgumentParser(prog="python -m eval.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(benches)}")
    names = parser.parse_args().names or list(benches)
    unknown = sorted(set(names) - set(benches))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]}; known: {', '.join(benches)}")
    results = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in names:
        results |= benches[name]()
        results["machine"] = {
            "processor": platform.processor() or platform.machine(),
            "date": time.strftime("%Y-%m-%d"),
            "versions": versions(),
        }
        atomic_write_json(OUT, results)
    print(f"\n{'name':<34}{'ours':>12}{'peer':>12}{'ratio':>8}  unit")
    for name, row in results.items():
        if "ratio" in row:
            print(
                f"{name:<34}{row['ours']:>12.4g}{row['peer']:>12.4g}{row['ratio']:>8.2f}"
                f"  {row['unit']}"
            )
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
