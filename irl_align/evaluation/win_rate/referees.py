"""Who decides: a judge, a reward model or a rule. Each pair is decided in both orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from irl_align.core.errors import UserError
from irl_align.evaluation.hidden_reward import HiddenReward, load_hidden_reward
from irl_align.evaluation.judges.pairwise import PairwiseJudge, Verdict
from irl_align.evaluation.store import ModelRecord, identify_model
from irl_align.evaluation.win_rate.answers import SideAnswer

__all__ = ["Game", "JudgeReferee", "Referee", "RewardReferee", "RuleReferee"]

Pair = tuple[SideAnswer, SideAnswer]
_SWAPPED: dict[Verdict | None, Verdict | None] = {"a": "b", "b": "a", "tie": "tie", None: None}
POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}


@dataclass(frozen=True)
class Game:
    """One prompt. `a_first` and `b_first`: who won ("a", "b" or "tie", None without a verdict)
    when that side was shown first; `scores` of both answers where there are any."""

    a_first: Verdict | None
    b_first: Verdict | None
    scores: tuple[float, float] | None = None

    @property
    def outcome(self) -> float | None:
        """A's points in [0, 1], the mean over both orders; None when a verdict is missing: one
        order alone would carry the judge's liking for a position."""
        if self.a_first is None or self.b_first is None:
            return None
        return (POINTS[self.a_first] + POINTS[self.b_first]) / 2.0

    @property
    def first_shown(self) -> float | None:
        """Points of whoever was shown first, both orders together, minus 1: in [-1, 1], and 0 on
        average for a referee who does not look at the position."""
        if self.a_first is None or self.b_first is None:
            return None
        return POINTS[self.a_first] - POINTS[self.b_first]


class Referee(Protocol):
    """`blind`: it does not see an order, so that there is no agreement to report."""

    blind: bool

    def decide(self, pairs: Sequence[Pair]) -> list[Game]:
        """Pairs whose answers are both there, in order."""
        ...

    def judge(self) -> Mapping[str, Any]:
        """Who decided, for the results store."""
        ...

    def others(self) -> dict[str, ModelRecord]: ...

    def failures(self) -> dict[str, int]:
        """Why verdicts are missing, counted."""
        ...


class JudgeReferee:
    """A language model, asked twice a pair."""

    blind = False

    def __init__(self, pairwise: PairwiseJudge) -> None:
        self.pairwise = pairwise

    def decide(self, pairs: Sequence[Pair]) -> list[Game]:
        def one(job: tuple[Pair, bool]) -> Verdict | None:
            (a, b), swapped = job
            assert a.text is not None and b.text is not None
            if swapped:
                return _SWAPPED[self.pairwise.compare(a.prompt, b.text, a.text)]
            return self.pairwise.compare(a.prompt, a.text, b.text)

        jobs = [(pair, swapped) for pair in pairs for swapped in (False, True)]
        verdicts = self.pairwise.chat.map(one, jobs, "judging")
        return [Game(*two) for two in zip(verdicts[0::2], verdicts[1::2], strict=True)]

    def judge(self) -> Mapping[str, Any]:
        return self.pairwise.record()

    def others(self) -> dict[str, ModelRecord]:
        return {}

    def failures(self) -> dict[str, int]:
        return dict(self.pairwise.failures)


class _ScoreReferee:
    """The higher score wins; the order in which answers are shown does not exist."""

    blind = True

    def _games(self, scores: Sequence[float]) -> list[Game]:
        games = []
        for a, b in zip(scores[0::2], scores[1::2], strict=True):
            winner: Verdict = "tie" if a == b else "a" if a > b else "b"
            games.append(Game(winner, winner, (a, b)))
        return games

    def failures(self) -> dict[str, int]:
        return {}


class RewardReferee(_ScoreReferee):
    """A reward model's folder; loaded when it first decides."""

    def __init__(self, folder: str, *, bf16: bool = False, batch_size: int = 32) -> None:
        self.folder, self.bf16, self.batch_size = folder, bf16, batch_size
        self.model = identify_model(Path(folder))

    def decide(self, pairs: Sequence[Pair]) -> list[Game]:
        import math

        from irl_align.llm.reward.scorer import RewardScorer

        answers = [answer for pair in pairs for answer in pair]
        scores = RewardScorer.load(self.folder, bf16=self.bf16).score(
            [a.prompt for a in answers],
            [a.text or "" for a in answers],
            finished=[a.finished for a in answers],
            batch_size=self.batch_size,
        )
        if not all(map(math.isfinite, scores)):
            raise UserError(f"{self.folder} gives scores that are no finite numbers; its weights "
                            "are damaged")  # fmt: skip
        return self._games(scores)

    def judge(self) -> Mapping[str, Any]:
        return {"reward": self.model.sha256, "bf16": self.bf16}

    def others(self) -> dict[str, ModelRecord]:
        return {"referee": self.model}


class RuleReferee(_ScoreReferee):
    """`length` (characters), `vader` (sentiment) or `module:function` of (prompt, response)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rule: HiddenReward | Callable[[str, str], float] = (
            (lambda prompt, response: float(len(response)))
            if name == "length"
            else load_hidden_reward(name, key="--rule")
        )

    def decide(self, pairs: Sequence[Pair]) -> list[Game]:
        def score(answer: SideAnswer) -> float:
            prompt = "\n\n".join(m["content"] for m in answer.prompt)
            return self.rule(prompt, answer.text or "")

        return self._games([score(answer) for pair in pairs for answer in pair])

    def judge(self) -> Mapping[str, Any]:
        return {"rule": self.name}

    def others(self) -> dict[str, ModelRecord]:
        return {}
