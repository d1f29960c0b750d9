"""What an answer is paid for the score that the reward model gives it."""

from __future__ import annotations

from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.llm.policy.settings import ScoreSettings

__all__ = ["normalisation", "paid"]


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
