"""MT-Bench: two-turn questions in eight categories, graded from 1 to 10 by a judge."""

from irl_align.evaluation.mt_bench.questions import Question, load_questions
from irl_align.evaluation.mt_bench.run import MtBenchOptions, run_mt_bench

__all__ = ["MtBenchOptions", "Question", "load_questions", "run_mt_bench"]
