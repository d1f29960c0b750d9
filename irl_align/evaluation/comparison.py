"""Methods beside each other: a table, a file of numbers, a CSV and one plot an environment.

A method's number is the mean over seeds of the last evaluation of each run: no checkpoint is chosen
by the true return. The interval is a bootstrap over seeds.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irl_align.core.files import atomic_open, atomic_write_json, atomic_write_text
from irl_align.evaluation.bootstrap import bootstrap_mean
from irl_align.evaluation.returns import Curve

# A normalised score of a mean return, increasing and linear.
Score = Callable[[float], float]

COLUMNS = (
    *("environment", "method", "seed", "return", "expert", "fraction"),
    *("score", "steps", "evaluation_steps", "hours"),
)


@dataclass(frozen=True)
class Ended:
    """One run of a comparison; `curve` is None when it failed, and `error` says why.

    `environment` may be an environment with a data set; `axis` is what the curve's steps are;
    `beside` holds other metrics at the end of the run, to be told beside the return.
    """

    environment: str
    method: str
    seed: int
    curve: Curve | None
    error: str | None = None
    axis: str = "environment steps"
    beside: Mapping[str, float] = field(default_factory=dict)


def fraction(value: float, expert: float | None) -> float | None:
    """Of the expert's return. None where that is unknown, or not positive: a share of a loss would
    be the better, the smaller it is."""
    return value / expert if expert is not None and expert > 0 else None


def summary(
    runs: Sequence[Ended], expert: float | None, score: Score | None = None
) -> dict[str, Any]:
    """Of the finished ones among the runs of one method in one environment."""
    curves = [run.curve for run in runs if run.curve is not None]
    failed = [{"seed": run.seed, "error": run.error} for run in runs if run.curve is None]
    found: dict[str, Any] = {"finished": len(curves), "failed": failed}
    if curves:
        interval = bootstrap_mean([curve.returns[-1] for curve in curves])
        found |= {
            **interval.as_dict(),
            "fraction": fraction(interval.mean, expert),
            "score": [score(x) for x in (interval.mean, interval.low, interval.high)]
            if score is not None
            else None,
            "steps": max(curve.steps[-1] for curve in curves),
            "evaluation_steps": max(curve.evaluation_steps for curve in curves),
            "hours": sum(curve.seconds for curve in curves) / 3600,
            "beside": {
                key: statistics.fmean(run.beside[key] for run in runs if key in run.beside)
                for key in dict.fromkeys(key for run in runs for key in run.beside)
            },
        }
    return found


def report_comparison(
    folder: Path,
    runs: Sequence[Ended],
    experts: Mapping[str, float | None],
    scores: Mapping[str, Score] | None = None,
) -> str:
    """Write compare.json, compare.csv and ENVIRONMENT.png into `folder`; returns the table.

    Args:
        experts: mean return of the demonstrations in each environment, None where unknown.
        scores: how returns are normalised in each environment, where they are: the table has the
            score with its interval, compare.json [mean, low, high].
    """
    scores = scores or {}
    folder.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, Any]] = {}
    for environment, expert in experts.items():
        here = [run for run in runs if run.environment == environment]
        names = list(dict.fromkeys(run.method for run in here))
        table[environment] = {
            "expert": expert,
            "methods": {
                name: summary(
                    [run for run in here if run.method == name], expert, scores.get(environment)
                )
                for name in names
            },
        }
    atomic_write_json(
        folder / "compare.json", {"environments": table, "runs": [asdict(run) for run in runs]}
    )
    atomic_write_text(folder / "compare.csv", _csv(runs, experts, scores))
    lines = _lines(table)
    plots = [
        str(path)
        for environment, expert in experts.items()
        if _plot(
            path := folder / f"{environment.replace('/', '-')}.png",
            environment,
            [run for run in runs if run.environment == environment and run.curve is not None],
            expert,
        )
    ]
    lines.append(f"plots: {', '.join(plots)}" if plots else "no plots")
    return "\n".join(lines)


def _lines(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for environment, found in table.items():
        expert, rows = found["expert"], found["methods"]
        beside = dict.fromkeys(key for row in rows.values() for key in row.get("beside", {}))
        widths = {key: max(len(key), 10) + 2 for key in beside}
        first = max([len("method"), *map(len, rows)]) + 2
        scored = any(row.get("score") for row in rows.values())
        known = f"{expert:.1f}" if expert is not None else "unknown"
        lines.append(f"{environment}: return of the expert {known}")
        lines.append(
            f"  {'method':<{first}}{'return':>10}  {'95% over seeds':<22}{'of expert':>9}"
            + (f"{'score':>8}  {'95% over seeds':<15}" if scored else "")
            + f"{'steps':>10}{'hours':>8}{'seeds':>7}"
            + "".join(f"{key:>{width}}" for key, width in widths.items())
        )
        for name, row in rows.items():
            if not row["finished"]:
                lines.append(f"  {name:<{first}}{'-':>10}  every run failed")
                continue
            # One seed says nothing of others.
            several = row["finished"] > 1
            span = f"[{row['low']:.1f}, {row['high']:.1f}]" if several else "-"
            score = ""
            if row["score"]:
                middle, low, high = row["score"]
                between = f"[{low:.1f}, {high:.1f}]" if several else "-"
                score = f"{middle:>8.1f}  {between:<15}"
            share = "-" if row["fraction"] is None else f"{100 * row['fraction']:.0f}%"
            note = f"  {len(row['failed'])} failed" if row["failed"] else ""
            told = "".join(
                f"{row['beside'][key]:>{width}.3f}" if key in row["beside"] else f"{'-':>{width}}"
                for key, width in widths.items()
            )
            lines.append(
                f"  {name:<{first}}{row['mean']:>10.1f}  {span:<22}{share:>9}{score}"
                f"{row['steps']:>10}{row['hours']:>8.2f}{row['finished']:>7}{told}{note}"
            )
    return lines


def _csv(
    runs: Sequence[Ended], experts: Mapping[str, float | None], scores: Mapping[str, Score]
) -> str:
    """One row a finished run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    beside = list(dict.fromkeys(key for run in runs for key in run.beside))
    writer.writerow([*COLUMNS, *beside])
    for run in runs:
        curve, expert = run.curve, experts[run.environment]
        if curve is None:
            continue
        last = curve.returns[-1]
        row = [run.environment, run.method, run.seed, last, expert, fraction(last, expert)]
        score = scores.get(run.environment)
        row.append(score(last) if score is not None else None)
        hours = round(curve.seconds / 3600, 6)
        told = [run.beside.get(key) for key in beside]
        writer.writerow([*row, curve.steps[-1], curve.evaluation_steps, hours, *told])
    return text.getvalue()


def mean_curve(
    curves: Sequence[Curve],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """steps, mean, low and high over runs, each [M].

    Runs are evaluated at steps of their own where episodes differ in length: they are joined by
    straight lines, and looked at wherever one of them was evaluated and all of them are known.
    """
    first = max(curve.steps[0] for curve in curves)
    last = min(curve.steps[-1] for curve in curves)
    everywhere = {step for curve in curves for step in curve.steps if first <= step <= last}
    steps = np.array(sorted(everywhere or {last}), dtype=np.float64)
    values = np.stack([np.interp(steps, curve.steps, curve.returns) for curve in curves])
    spans = [bootstrap_mean(column, samples=500) for column in values.T]
    low = np.array([span.low for span in spans])
    return steps, values.mean(axis=0), low, np.array([span.high for span in spans])


def _plot(path: Path, title: str, runs: Sequence[Ended], expert: float | None) -> bool:
    """The mean of each method with its interval; a method that takes no steps is a level."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not runs:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    moving = {run.axis for run in runs if run.curve is not None and run.curve.steps[-1]}
    one = len(moving) <= 1  # otherwise their steps are not of one kind
    end = 100 if not one else max(run.curve.steps[-1] for run in runs if run.curve is not None)
    for number, name in enumerate(dict.fromkeys(run.method for run in runs)):
        curves = [run.curve for run in runs if run.method == name and run.curve is not None]
        if max(curve.steps[-1] for curve in curves) == 0:
            span = bootstrap_mean([curve.returns[-1] for curve in curves])
            steps, ones = np.array([0.0, max(end, 1)]), np.ones(2)
            middle, low, high = span.mean * ones, span.low * ones, span.high * ones
        else:
            steps, middle, low, high = mean_curve(curves)
            steps = steps if one else 100 * steps / steps[-1]
        colour = f"C{number}"
        axes.plot(steps, middle, color=colour, linewidth=1.5, label=f"{name} ({len(curves)})")
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    if expert is not None and math.isfinite(expert):
        axes.axhline(expert, color="black", linestyle="--", linewidth=1, label="expert")
    label = "".join(moving) or "environment steps" if one else "percent of a run"
    axes.set(title=title, xlabel=label, ylabel="true return")
    axes.grid(alpha=0.3)
    axes.legend(title="method (seeds)", fontsize="small")
    with atomic_open(path) as file:
        figure.savefig(file, format="png", dpi=150)
    return True
