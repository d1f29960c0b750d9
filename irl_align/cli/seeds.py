"""What recipes of control experiments share: a configuration, several seeds, one report.

Seed s runs in run_dir/seed-s; returns.png and returns.json in run_dir tell of all. A run that was
killed goes on behind its last committed round when the same command is given again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from irl_align.core.config import load_config
from irl_align.core.errors import UserError
from irl_align.core.loggers import ConsoleLogger

if TYPE_CHECKING:
    from irl_align.control.config import ExperimentConfig
    from irl_align.control.methods import Method

ConfigT = TypeVar("ConfigT", bound="ExperimentConfig")
History = Sequence[Mapping[str, float]]


def seeds_parser(description: str | None, configs: str) -> argparse.ArgumentParser:
    """Arguments `config`, `overrides`, `--seeds` and `--expert`; `configs` is where to look."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help=f"a YAML of {configs}")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted from `seed`")
    parser.add_argument(
        "--expert", type=Path, help="run of collect_expert.py, for its return at the same starts"
    )
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
    arguments: argparse.Namespace,
    of: Method,
    columns: Sequence[str],
    *,
    tell: Callable[[Path, History], None] | None = None,
) -> None:
    """Run all seeds, one after the other, and print the table of their returns.

    Args:
        arguments: of `seeds_parser`.
        of: the method to run.
        columns: the metrics to print at each evaluation.
        tell: called after each run with its folder and history.
    """
    from irl_align.control.evaluating import OnlyEvaluations
    from irl_align.evaluation.returns import Curve, last_return, report_returns

    expert = last_return(arguments.expert) if arguments.expert is not None else None
    folder, title = Path(config.run_dir), config.environment.name
    curves = []
    for seed in range(config.seed, config.seed + arguments.seeds):
        name = f"seed-{seed}"
        print(f"{title}, {name}")
        one = replace(config, seed=seed, run_dir=str(folder / name))
        history = of.run(one, loggers=[OnlyEvaluations(ConsoleLogger(columns))]).history
        if tell is not None:
            tell(folder / name, history)
        curves.append(Curve.of(name, history, steps=of.steps))
    print(report_returns(folder, title, curves, expert, axis=of.axis))
