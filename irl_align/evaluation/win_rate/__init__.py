"""Win rate: how often one policy's answer is preferred to another's on the same prompt."""

from irl_align.evaluation.win_rate.run import WinRateOptions, run_win_rate

__all__ = ["WinRateOptions", "run_win_rate"]
