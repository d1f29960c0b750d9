"""`irl-align check-data FILE`: is this file usable, before anything expensive starts?"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "check-data",
        help="check a file of demonstrations, preferences or prompts",
        description="Reads a data file the way training does and reports rows, lengths, "
        "duplicates and every bad row. Exit code 2 when training would refuse it.",
    )
    parser.add_argument(
        "file", help="JSONL, JSON, Parquet or CSV (.gz too), a saved dataset, hub name"
    )
    parser.add_argument(
        "--kind",
        choices=("auto", "demonstrations", "preferences", "prompts"),
        default="auto",
        help="what the file should hold (default: told from its columns)",
    )
    parser.add_argument("--split", help="split of a saved dataset or hub dataset")
    parser.add_argument("--limit", type=int, metavar="N", help="read the first N rows only")
    parser.add_argument(
        "--on-bad-rows", choices=("error", "drop"), default="error", help="drop: count and go on"
    )
    parser.add_argument("--tokenizer", metavar="DIR", help="model folder: also count tokens")
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="count rows over this")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from irl_align.core.errors import UserError
    from irl_align.llm.data.check import check_file

    if options.max_length is not None and options.tokenizer is None:
        raise UserError("--max-length counts tokens and needs --tokenizer DIR")
    tokenizer = None
    if options.tokenizer is not None:
        # Libraries log on stdout while they are imported: it belongs to the report.
        with contextlib.redirect_stdout(sys.stderr):
            from irl_align.llm.models.loading import load_tokenizer

            tokenizer = load_tokenizer(options.tokenizer)
    found = check_file(
        options.file,
        options.kind,
        tokenizer,
        options.max_length,
        split=options.split,
        limit=options.limit,
        on_bad_rows=options.on_bad_rows,
    )
    if options.json:
        print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    else:
        print(found.render())
    return 0
