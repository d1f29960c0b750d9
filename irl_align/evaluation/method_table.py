"""Policy learners in one table and one figure, from the runs' results.json.

A method's number is the mean over seeds of its last round: no round is chosen by what it measured.
Intervals are bootstraps over seeds; a single seed has none. The base model and SFT are the same in
all runs of a seed and stand in the first rows. Hours are those of sampling, fitting the reward and
improving the policy: what the methods spend, without SFT and measuring.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open, atomic_write_json, atomic_write_text
from irl_align.evaluation.bootstrap import bootstrap_mean

__all__ = ["MethodRun", "report_methods"]

# What is compared: the first of these that the runs measured.
MEASURES = {"hidden_reward": "hidden reward", "preference_accuracy": "human-pair accuracy"}
BESIDE = ("reward_accuracy", "gain_over_sft", "win_rate_vs_sft", "kl", "length", "eos_rate")
PHASES = ("sample", "reward", "policy")
_FAR = 20.0  # nats, from which on the figure's KL is logarithmic


@dataclass(frozen=True)
class MethodRun:
    """One run; `results` as its results.json has them, None when it never got so far."""

    method: str
    seed: int
    results: Mapping[str, Any] | None
    error: str | None = None

    @classmethod
    def read(cls, method: str, seed: int, folder: Path, error: str | None = None) -> MethodRun:
        """The run in `folder`."""
        try:
            found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(method, seed, None, error or "no results.json")
        return cls(method, seed, found, error)

    @property
    def rounds(self) -> list[Mapping[str, Any]]:
        return list(self.results["rounds"]) if self.results is not None else []

    def hours(self, upto: int | None = None) -> float:
        """Of sampling, reward and policy, in rounds up to `upto` (default: all)."""
        seconds = self.results["seconds"] if self.results is not None else {}
        kept = [row["round"] for row in self.rounds if upto is None or row["round"] <= upto]
        return sum(float(seconds[f"round{n}/{phase}"]) for n in kept for phase in PHASES) / 3600


def _value(row: Mapping[str, Any], key: str) -> float | None:
    found = row.get(key)
    return (
        float(found["mean"] if isinstance(found, Mapping) else found) if found is not None else None
    )


def report_methods(folder: Path, runs: Sequence[MethodRun]) -> str:
    """Write compare.json, compare.csv and compare.png into `folder`; returns the table as text.

    UserError when no run measured anything that could be compared.
    """
    done = [run for run in runs if run.rounds]
    measure = next(
        (k for k in MEASURES if any(_value(run.rounds[-1], k) is not None for run in done)), None
    )
    if measure is None:
        raise UserError(
            f"{folder}: no run has a round with {' or '.join(MEASURES)}; set "
            "evaluation.hidden_reward or evaluation.preferences"
        )
    rows: dict[str, dict[str, Any]] = {}
    for stage in ("base", "sft"):
        of_seed = {
            run.seed: run.results[stage] for run in done if run.results and stage in run.results
        }
        if any(_value(row, measure) is not None for row in of_seed.values()):
            rows[stage] = _summary(list(of_seed.values()), measure)
    for method in dict.fromkeys(run.method for run in runs):
        mine = [run for run in done if run.method == method]
        failed = [run.seed for run in runs if run.method == method and run.error is not None]
        rows[method] = _summary([run.rounds[-1] for run in mine], measure) | {"failed": failed}
        if mine:
            rows[method]["rounds"] = _mean([float(len(run.rounds)) for run in mine])
            rows[method]["hours"] = _mean([run.hours() for run in mine])
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder / "compare.json", {"measure": measure, "methods": rows})
    atomic_write_text(folder / "compare.csv", _csv(done, measure))
    text = _table(rows, measure)
    return text + ("\nfigure: " + str(path) if (path := _figure(folder, done, measure)) else "")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _summary(rows: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Any]:
    found = [v for row in rows if (v := _value(row, measure)) is not None]
    if not found:
        return {"seeds": 0}
    interval = bootstrap_mean(found)
    summary: dict[str, Any] = {"seeds": len(found), **interval.as_dict()}
    for key in BESIDE:
        beside = [v for row in rows if (v := _value(row, key)) is not None]
        if beside:
            summary[key] = _mean(beside)
    return summary


def _table(rows: Mapping[str, Mapping[str, Any]], measure: str) -> str:
    titles = [
        "",
        MEASURES[measure],
        "95% over seeds",
        *BESIDE,
        "rounds",
        "hours",
        "seeds",
        "failed",
    ]
    lines = [titles]
    for name, row in rows.items():
        if row["seeds"] == 0:
            lines.append([name, *["-"] * (len(titles) - 2), str(len(row["failed"]))])
            continue
        spread = f"[{row['low']:.3f}, {row['high']:.3f}]" if row["seeds"] > 1 else "-"
        numbers = [f"{row[k]:.3f}" if k in row else "-" for k in (*BESIDE, "rounds", "hours")]
        failed = str(len(row.get("failed", [])))
        lines.append([name, f"{row['mean']:.3f}", spread, *numbers, str(row["seeds"]), failed])
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _csv(runs: Sequence[MethodRun], measure: str) -> str:
    """One row a round of a run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "seed", "round", measure, *BESIDE, "hours"])
    for run in runs:
        for row in run.rounds:
            values = [_value(row, key) for key in (measure, *BESIDE)]
            hours = round(run.hours(row["round"]), 6)
            writer.writerow([run.method, run.seed, row["round"], *values, hours])
    return text.getvalue()


def _figure(folder: Path, runs: Sequence[MethodRun], measure: str) -> Path | None:
    """The measure against hours and against KL, a line a run, a point a round; None without
    matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    by_hours, by_kl = figure.subplots(1, 2, sharey=True)
    farthest = 0.0
    for number, method in enumerate(dict.fromkeys(run.method for run in runs)):
        mine = [run for run in runs if run.method == method]
        for first, run in enumerate(mine):
            label = f"{method} ({len(mine)})" if first == 0 else None
            style: dict[str, Any] = {"color": f"C{number % 10}", "marker": "o", "markersize": 3}
            values = [_value(row, measure) for row in run.rounds]
            hours = [run.hours(row["round"]) for row in run.rounds]
            by_hours.plot(hours, values, label=label, linewidth=1, **style)
            far = [_value(row, "kl") for row in run.rounds]
            if None not in far:
                by_kl.plot(far, values, linewidth=1, **style)
                farthest = max(farthest, *(kl for kl in far if kl is not None))
    levels = [
        _value(run.results["sft"], measure) for run in runs if run.results and "sft" in run.results
    ]
    known = [level for level in levels if level is not None]
    for axes, name in (
        (by_hours, "hours of sampling and learning"),
        (by_kl, "KL to the reference"),
    ):
        if known:
            axes.axhline(_mean(known), color="black", linestyle="--", linewidth=1, label="SFT")
        axes.set(xlabel=name)
        axes.grid(alpha=0.3)
    if farthest > _FAR:  # one that ran away would press all others against the axis
        by_kl.set_xscale("symlog", linthresh=1.0)
    by_hours.set(ylabel=MEASURES[measure])
    by_hours.legend(title="method (seeds)", fontsize="small")
    path = folder / "compare.png"
    with atomic_open(path) as file:
        figure.savefig(file, format="png", dpi=150)
    return path
