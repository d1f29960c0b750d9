"""Measuring what a run achieved: intervals for every number, and a page a stranger can read."""

from irl_align.evaluation.bootstrap import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_pooled,
    bootstrap_stratified,
    bootstrap_win_rate,
)

__all__ = [
    "Interval",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_pooled",
    "bootstrap_stratified",
    "bootstrap_win_rate",
]
