"""What recipes of control experiments share: a configuration, several seeds, one report.

Seed s runs in run_dir/seed-s; returns.png and returns.json in run_dir tell of all. A run that was
killed goes on behind its last committed round when the same command is given again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from irl_align.core.config import load_config
from irl_align.core.errors import UserError
from irl_align.core.loggers import ConsoleLogger

if TYPE_CHECKING:
    from irl_align.control.config import ExperimentConfig

ConfigT = TypeVar("ConfigT", bound="ExperimentConfig")
History = Sequence[Mapping[str, float]]


class HasHistory(Protocol):
    """What a run returns: the metrics of each round among other things."""

    @property
    def history(self) -> Sequence[Mapping[str, Any]]: ...


def seeds_parser(description: str | None, configs: str) -> argparse.ArgumentParser:
    """Arguments `config`, `overrides` and `--seeds`; `configs` is the folder to look in."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help=f"a YAML of {configs}")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted from `seed`")
    return parser


def load_seeds_config(kind: type[ConfigT], arguments: argparse.Namespace) -> ConfigT:
    """The configuration that the arguments of `seeds_parser` ask for.

    Raises UserError as `load_config` does, and where there would be nothing to report.
    """
    config = load_config(kind, arguments.config, arguments.overrides)
    if arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds}: ask for 1 or more")
    if config.evaluation.every == 0:
        raise UserError("evaluation.every=0 leaves nothing to report; set it to 1 or more")
    return config


def run_seeds(
    config: ConfigT,
    seeds: int,
    run: Callable[..., HasHistory],
    columns: Sequence[str],
    *,
    steps: str = "steps/environment",
    axis: str = "environment steps",
    expert: float | None = None,
    tell: Callable[[Path, History], None] | None = None,
) -> None:
    """Run all seeds, one after the other, and print the table of their returns.

    Args:
        run: takes a configuration and `loggers`.
        columns: the metrics to print at each evaluation.
        steps, axis: the metric that returns are plotted against, and what to call it.
        expert: the expert's return, for table and plot.
        tell: called after each run with its folder and history.
    """
    from irl_align.control.evaluating import OnlyEvaluations
    from irl_align.evaluation.returns import Curve, report_returns

    folder, title = Path(config.run_dir), config.environment.name
    curves = []
    for seed in range(config.seed, config.seed + seeds):
        name = f"seed-{seed}"
        print(f"{title}, {name}")
        one = replace(config, seed=seed, run_dir=str(folder / name))
        history = run(one, loggers=[OnlyEvaluations(ConsoleLogger(columns))]).history
        if tell is not None:
            tell(folder / name, history)
        curves.append(Curve.of(name, history, steps=steps))
    print(report_returns(folder, title, curves, expert, axis=axis))
