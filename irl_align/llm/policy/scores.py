"""What an answer is paid for the score that the reward model gives it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from irl_align.core.errors import UserError

__all__ = ["ScoreSettings", "normalisation", "paid"]


@dataclass
class ScoreSettings:
    """How scores become pay.

    With `normalise` a score is (r - centre) / scale of the reward model's record, so that
    demonstrations have mean 0 and variance 1, and one beta serves every reward model. An answer
    that was cut off is paid its score less `missing_eos_penalty`; or `missing_eos_score`, whatever
    it says (the paper's -1: right only where ordinary answers are paid more than that).
    """

    normalise: bool = True
    missing_eos_penalty: float = 1.0
    missing_eos_score: Optional[float] = None

    def __post_init__(self) -> None:
        if self.missing_eos_penalty < 0:
            raise ValueError(
                f"missing_eos_penalty is {self.missing_eos_penalty}; it must be 0 or more"
            )


def paid(
    raw: float, finished: bool, settings: ScoreSettings, centre: float = 0.0, scale: float = 1.0
) -> float:
    """See :class:`ScoreSettings`; `raw`: the reward model's score."""
    if not finished and settings.missing_eos_score is not None:
        return settings.missing_eos_score
    score = (raw - centre) / scale if settings.normalise else raw
    return score if finished else score - settings.missing_eos_penalty


def normalisation(reward: Path, settings: ScoreSettings) -> tuple[float, float]:
    """(centre, scale) of the reward model in the folder `reward`; (0, 1) when scores are not
    normalised. UserError when they are to be and the folder has no record of them."""
    if not settings.normalise:
        return 0.0, 1.0
    from irl_align.llm.reward.scorer import RewardModelInfo

    info = RewardModelInfo.read(reward)
    if info is None:
        raise UserError(
            f"{reward} has no reward_config.json, so its scores cannot be normalised; set "
            "policy.scores.normalise=false"
        )
    return info.centre, info.scale
