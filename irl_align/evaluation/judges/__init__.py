"""Language models as judges, behind any OpenAI-compatible address."""

from irl_align.evaluation.judges.chat import CachedChat, ChatCounts, Reply, open_chat
from irl_align.evaluation.judges.grading import SingleGrader
from irl_align.evaluation.judges.pairwise import Comparer, PairwiseJudge, Verdict
from irl_align.evaluation.judges.parsing import Parsed, parse_score, parse_verdict

__all__ = [
    "CachedChat",
    "ChatCounts",
    "Comparer",
    "PairwiseJudge",
    "Parsed",
    "Reply",
    "SingleGrader",
    "Verdict",
    "open_chat",
    "parse_score",
    "parse_verdict",
]
