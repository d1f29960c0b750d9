"""The Open LLM Leaderboard (its first version), run by lm-eval."""

from irl_align.evaluation.leaderboard.run import LeaderboardOptions, run_leaderboard
from irl_align.evaluation.leaderboard.tasks import TASKS, LeaderboardTask

__all__ = ["TASKS", "LeaderboardOptions", "LeaderboardTask", "run_leaderboard"]
