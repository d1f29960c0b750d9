"""Return against environment steps, over seeds: a table, a file of numbers and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open, atomic_write_json
from irl_align.core.run import RunDirectory

RETURN, STEPS, EVALUATION_STEPS = "eval/return", "steps/environment", "steps/evaluation"


@dataclass(frozen=True)
class Curve:
    """One run. `steps` and `returns` are of the rounds that were evaluated.

    Attributes:
        evaluation_steps: environment steps that evaluations took, which `steps` leave out.
        seconds: of all phases together.
    """

    name: str
    steps: list[int]
    returns: list[float]
    evaluation_steps: int
    seconds: float

    @classmethod
    def of(cls, name: str, history: Sequence[Mapping[str, float]], *, steps: str = STEPS) -> Curve:
        """From the metrics of each round, `steps` being the one to plot against. UserError when
        none was evaluated."""
        seen = [row for row in history if RETURN in row]
        if not seen:
            raise UserError(f"{name}: no round was evaluated; set evaluation.every to 1 or more")
        return cls(
            name,
            [int(row[steps]) for row in seen],
            [row[RETURN] for row in seen],
            int(history[-1][EVALUATION_STEPS]),
            sum(v for row in history for k, v in row.items() if k.startswith("time/")),
        )


def last_return(run: Path) -> float:
    """The last `eval/return` of a run. UserError when there is none."""
    returns = [row[RETURN] for row in RunDirectory.read(run).history() if RETURN in row]
    if not returns:
        raise UserError(f"{run}: no round of this run was evaluated")
    return returns[-1]


def report_returns(
    folder: Path,
    title: str,
    curves: Sequence[Curve],
    expert: float | None = None,
    *,
    axis: str = "environment steps",
) -> str:
    """Write returns.json and returns.png into `folder`; returns the table as text.

    `axis` is what the curves' steps are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ends = [curve.returns[-1] for curve in curves]
    atomic_write_json(
        folder / "returns.json",
        {"expert": expert, "median": statistics.median(ends), "runs": [asdict(c) for c in curves]},
    )
    lines = [f"{'run':<12}{'return':>10}{'steps':>10}{'eval steps':>12}{'seconds':>9}"]
    lines += [
        f"{c.name:<12}{c.returns[-1]:>10.1f}{c.steps[-1]:>10}{c.evaluation_steps:>12}"
        f"{c.seconds:>9.1f}"
        for c in curves
    ]
    lines.append(f"{'median':<12}{statistics.median(ends):>10.1f}")
    if expert is not None:
        lines.append(f"{'expert':<12}{expert:>10.1f}  from the same starts")
    if _plot(folder / "returns.png", title, curves, expert, axis):
        lines.append(f"plot: {folder / 'returns.png'}")
    else:
        lines.append("no plot: pip install matplotlib")
    return "\n".join(lines)


def _plot(path: Path, title: str, curves: Sequence[Curve], expert: float | None, axis: str) -> bool:
    """One thin line a run, the median thick where all runs were evaluated at the same steps."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in curves:
        axes.plot(curve.steps, curve.returns, color="C0", alpha=0.35, linewidth=1)
    if len({tuple(curve.steps) for curve in curves}) == 1:
        columns = zip(*(curve.returns for curve in curves), strict=True)
        middle = [statistics.median(column) for column in columns]
        label = f"median of {len(curves)} seeds"
        axes.plot(curves[0].steps, middle, color="C0", linewidth=2, label=label)
    if expert is not None:
        axes.axhline(expert, color="black", linestyle="--", linewidth=1, label="expert")
    axes.set(title=title, xlabel=axis, ylabel="true return, deterministic policy")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    with atomic_open(path) as file:
        figure.savefig(file, format="png", dpi=150)
    return True
