"""What a run says while it goes, and the report that it leaves."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from irl_align.core.protocols import Metrics

__all__ = ["COLUMNS", "headline", "say", "write_report_quietly"]

# Of a round's line in the console's table.
COLUMNS = (
    "eval/reward_accuracy",
    "eval/preference_accuracy",
    "reward/accuracy",
    "eval/hidden_reward",
    "eval/gain_over_sft",
    "eval/win_rate_vs_sft",
    "eval/kl",
    "eval/length",
    "eval/eos_rate",
)


def say(text: str) -> None:
    """A line with the time, on stderr."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def headline(metrics: Metrics) -> str:
    """A phase's few numbers that a person looks for, in brackets; nothing where there are none."""
    wanted = {
        "eval/hidden_reward": "hidden reward",
        "eval/reward_accuracy": "reward accuracy",
        "reward/accuracy": "held-out pair accuracy",
        "reward/loss": "loss",
        "sft/loss": "loss",
        "policy/loss": "loss",
        "policy/pairs": "pairs",
        "samples/completions": "completions",
        "samples/eos_rate": "EOS rate",
        "eval/kl": "KL",
    }
    found = [f"{name} {metrics[key]:.4g}" for key, name in wanted.items() if key in metrics]
    return f" ({', '.join(found)})" if found else ""


def write_report_quietly(path: Path) -> None:
    """The report is a view: a fault in it must not end a run that has hours behind it."""
    try:
        from irl_align.evaluation.report import write_report

        write_report(path)
    except Exception as error:
        say(f"report not written: {type(error).__name__}: {error}")
