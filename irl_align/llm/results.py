"""`results.json`: the numbers of a run in one small file, rewritten after every round."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from irl_align.core.files import atomic_write_json
from irl_align.core.run import RunDirectory

__all__ = ["RESULTS_NAME", "collect_results", "render_results", "shown", "write_results"]

RESULTS_NAME = "results.json"
NOT_HIDDEN = (
    "The hidden reward is a rule, and rules pay the policy: it is measured on held-out prompts, "
    "but it is not hidden."
)


def _interval(metrics: Mapping[str, float], key: str) -> dict[str, float] | None:
    if key not in metrics:
        return None
    return {
        "mean": metrics[key],
        "low": metrics[f"{key}_low"],
        "high": metrics[f"{key}_high"],
    }


def shown(path: Path) -> str:
    """Relative to where the program runs (the project), when it lies below."""
    relative = os.path.relpath(path, Path.cwd())
    return str(path) if relative.startswith("..") else relative


def _policy(metrics: Mapping[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "hidden_reward": _interval(metrics, "eval/hidden_reward"),
        "length": metrics.get("eval/length"),
        "eos_rate": metrics.get("eval/eos_rate"),
    }
    return {k: v for k, v in row.items() if v is not None}


def _round(run: RunDirectory, number: int) -> dict[str, Any]:
    metrics = run.metrics(number)
    row: dict[str, Any] = {
        "round": number,
        "reward_accuracy": metrics.get("eval/reward_accuracy"),
        "reward_accuracy_interval": _interval(metrics, "eval/reward_accuracy"),
        "reward_pairs": metrics.get("eval/reward_pairs"),
        "preference_accuracy": _interval(metrics, "eval/preference_accuracy"),
        "preference_pairs": metrics.get("eval/preference_pairs"),
        "heldout_demo_accuracy": metrics.get("reward/accuracy"),
        **_policy(metrics),
        "gain_over_sft": _interval(metrics, "eval/gain_over_sft"),
        "win_rate_vs_sft": _interval(metrics, "eval/win_rate_vs_sft"),
        "kl": metrics.get("eval/kl"),
        "reward_dir": shown(run.phase_folder(number, "reward") / "model"),
        "policy_dir": shown(run.phase_folder(number, "policy") / "model"),
    }
    return {k: v for k, v in row.items() if v is not None}


def _pays_its_measure(config: Mapping[str, Any]) -> bool:
    measure = config.get("evaluation", {}).get("hidden_reward") or ""
    rules = config.get("policy", {}).get("scores", {}).get("rules", {})
    return measure.startswith("rules:") and rules.get("answers") is not None


def collect_results(run: RunDirectory) -> dict[str, Any]:
    """Base, SFT and every finished round; seconds of each phase; `note`: what to know."""
    results: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name in ("base", "sft"):
        if run.setup_done(name):
            record = run.setup_record(name)
            results[name] = _policy(record["metrics"])
            seconds[name] = record["seconds"]
    rounds = run.committed_rounds()
    if _pays_its_measure(run.config()):
        results["note"] = NOT_HIDDEN
    results["rounds"] = [_round(run, number) for number in rounds]
    for number in rounds:
        for phase in ("sample", "reward", "policy", "evaluate"):
            seconds[f"round{number}/{phase}"] = run.phase_record(number, phase)["seconds"]
    seconds["total"] = sum(seconds.values())
    return results | {"seconds": seconds}


def write_results(run: RunDirectory, *, finished: bool = False) -> dict[str, Any]:
    """Write and return the results so far; `finished` when no further round will come."""
    results = collect_results(run) | {"finished": finished}
    atomic_write_json(run.path / RESULTS_NAME, results)
    return results


def render_results(results: Mapping[str, Any]) -> str:
    """A table for people: base, SFT and each round, with 95% intervals; a note if there is one."""
    columns = (
        ("hidden reward", "hidden_reward"),
        ("gain over SFT", "gain_over_sft"),
        ("win rate vs SFT", "win_rate_vs_sft"),
        ("reward accuracy", "reward_accuracy_interval"),
        ("human-pair accuracy", "preference_accuracy"),
        ("held-out demo accuracy", "heldout_demo_accuracy"),
        ("KL", "kl"),
        ("length", "length"),
        ("EOS rate", "eos_rate"),
    )
    rows = [(name, results[name]) for name in ("base", "sft") if name in results]
    rows += [(f"round {row['round']}", row) for row in results["rounds"]]
    present = [c for c in columns if any(c[1] in row for _, row in rows)]
    table = [["", *(title for title, _ in present)]]
    table += [[name, *(_cell(row.get(key)) for _, key in present)] for name, row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
    return "\n".join([*lines, *([f"\n{results['note']}"] if "note" in results else [])])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
