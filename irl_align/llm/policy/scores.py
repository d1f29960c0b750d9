"""What an answer is paid: the reward model's score, a rule's, or both by weights.

    pay = reward_weight (r(x, y) - centre) / scale + rules.weight rule(x, y)

and less for an answer that was cut off; see :class:`ScoreSettings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from irl_align.core.errors import UserError
from irl_align.llm.data.schema import Message
from irl_align.llm.policy.settings import ScoreSettings

if TYPE_CHECKING:
    from irl_align.evaluation.rules import RuleReward, RuleScore
    from irl_align.llm.config import AlignConfig

__all__ = [
    "MixedScorer",
    "Scorer",
    "load_scorer",
    "normalisation",
    "paid",
    "prompt_text",
    "rule_metrics",
    "with_rule",
]

RULE_KEY = "policy.scores.rules.answers"


class Scorer(Protocol):
    """Scores responses: a reward model, or it and a rule."""

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        *,
        finished: Sequence[bool] | None = None,
        batch_size: int = ...,
    ) -> list[float]: ...


class MixedScorer:
    """reward_weight (r - centre) / scale + rules.weight rule.

    Args:
        learned: the reward model; None: the rule alone.
        rule: see `irl_align.evaluation.rules`.
        centre, scale: of the reward model's scores.
    """

    def __init__(
        self,
        learned: Scorer | None,
        rule: RuleReward,
        settings: ScoreSettings,
        centre: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        self.learned, self.rule, self.settings = learned, rule, settings
        self.centre, self.scale = centre, scale
        self._seen: list[RuleScore] = []

    def score(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        *,
        finished: Sequence[bool] | None = None,
        batch_size: int = 32,
    ) -> list[float]:
        """The mixture for each response. UserError when a prompt has no right answer."""
        found = [
            self.rule.score(prompt_text(prompt), response)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        self._seen += found
        by_rule = [self.settings.rules.weight * score.total for score in found]
        if self.learned is None:
            return by_rule
        raw = self.learned.score(prompts, responses, finished=finished, batch_size=batch_size)
        weight = self.settings.reward_weight
        return [
            weight * (r - self.centre) / self.scale + rule
            for r, rule in zip(raw, by_rule, strict=True)
        ]

    def metrics(self) -> dict[str, float]:
        """`policy/rule_score` and `policy/rule_right` (share of right answers) of all responses
        that this process has scored."""
        if not self._seen:
            return {}
        count = len(self._seen)
        return {
            "policy/rule_score": sum(s.total for s in self._seen) / count,
            "policy/rule_right": sum(s.right for s in self._seen) / count,
        }


def prompt_text(prompt: Sequence[Message]) -> str:
    """A prompt as rules and hidden rewards see it: its messages' texts."""
    return "\n\n".join(message["content"] for message in prompt)


def paid(
    raw: float, finished: bool, settings: ScoreSettings, centre: float = 0.0, scale: float = 1.0
) -> float:
    """See :class:`ScoreSettings`; `raw`: what :func:`load_scorer`'s scorer gives, with its `centre`
    and `scale`."""
    if not finished and settings.missing_eos_score is not None:
        return settings.missing_eos_score
    score = (raw - centre) / scale if settings.normalise else raw
    return score if finished else score - settings.missing_eos_penalty


def normalisation(reward: Path, settings: ScoreSettings) -> tuple[float, float]:
    """(centre, scale) of the reward model in the folder `reward`; (0, 1) when scores are not
    normalised. UserError when they are to be and the folder has no record of them."""
    if not settings.normalise:
        return 0.0, 1.0
    from irl_align.llm.reward.info import RewardModelInfo

    info = RewardModelInfo.read(reward)
    if info is None:
        raise UserError(
            f"{reward} has no reward_config.json, so its scores cannot be normalised; set "
            "policy.scores.normalise=false"
        )
    return info.centre, info.scale


def with_rule(
    learned: Scorer | None, centre: float, scale: float, settings: ScoreSettings
) -> tuple[Scorer, float, float]:
    """(scorer, centre, scale) of what answers are paid. Without a rule the reward model and its
    own numbers; with one a mixture that is normalised already."""
    if settings.rules.answers is None:
        if learned is None:
            raise ValueError("neither a reward model nor a rule")
        return learned, centre, scale
    from irl_align.evaluation.answer_keys import load_rule

    rule = load_rule(settings.rules.answers, RULE_KEY)
    return MixedScorer(learned, rule, settings, centre, scale), 0.0, 1.0


def load_scorer(reward: Path, config: AlignConfig) -> tuple[Scorer, float, float]:
    """What `policy.scores` pays for, by the reward model in `reward`/model and the rule, if any."""
    settings = config.policy.scores
    if not config.fits_reward:
        return with_rule(None, 0.0, 1.0, settings)
    from irl_align.llm.reward.scorer import RewardScorer

    folder = reward / "model"
    learned = RewardScorer.load(
        folder, bf16=config.model.bf16, shared_prefix=config.reward.shared_prefix
    )
    policy = config.policy
    drawn = policy.method == "online_dpo" and policy.pairing == "bradley_terry"
    # To rank answers by the reward model alone its centre and scale need not be known.
    ranks = policy.method in ("online_dpo", "raft") and not drawn
    if ranks and settings.rules.answers is None:
        return learned, 0.0, 1.0
    return with_rule(learned, *normalisation(folder, settings), settings)


def rule_metrics(scorer: Scorer) -> dict[str, float]:
    """`policy/rule_*`, where a rule pays."""
    return scorer.metrics() if isinstance(scorer, MixedScorer) else {}
