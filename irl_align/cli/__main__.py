"""`irl-align COMMAND`, also `python -m irl_align.cli COMMAND`.

Exit codes: 0 done; 1 `doctor` found something broken; 2 something the user can mend (one message
on stderr); 130 interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from irl_align import __version__
from irl_align.cli import check_data, compare, doctor, report, runs, score, show_config
from irl_align.core.errors import exit_with_clear_errors

_COMMANDS = (doctor, check_data, show_config, runs, report, compare, score)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="irl-align", description="Reward models and policies from demonstrations."
    )
    parser.add_argument("--version", action="version", version=f"irl-align {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser


def dispatch(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; UserError passes through."""
    options = build_parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    exit_with_clear_errors(lambda: dispatch(arguments))


if __name__ == "__main__":
    main()
