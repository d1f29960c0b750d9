"""A reward that the run never sees: the honest yardstick of an experiment with known truth.

The quickstart's truth is VADER's compound sentiment of the answer, in [-1, 1]. A rule with right
answers (`rules:FILE`, see `evaluation.rules`) or any function of (prompt text, response), as
`module:function`, can take its place. Only evaluation imports this.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irl_align.core.errors import UserError

__all__ = ["HiddenReward", "hidden_pairs", "load_hidden_reward"]

HiddenReward = Callable[[str, str], float]


def _vader(key: str) -> HiddenReward:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise UserError(
            f"{key}=vader needs vaderSentiment: pip install 'irl-align[eval]'"
        ) from error
    analyser: Any = SentimentIntensityAnalyzer()
    return lambda prompt, response: float(analyser.polarity_scores(response)["compound"])


def load_hidden_reward(name: str, key: str = "evaluation.hidden_reward") -> HiddenReward:
    """`vader`, `rules:FILE` or `module:function`; clear error naming the setting `key` when it
    cannot be imported, or when the file of answers is wrong."""
    if name == "vader":
        return _vader(key)
    module, _, function = name.partition(":")
    if not function:
        raise UserError(f"{key}={name!r}: expected vader, rules:FILE or module:function")
    if module == "rules":
        from irl_align.evaluation.answer_keys import load_rule

        return load_rule(function, key)
    try:
        found: HiddenReward = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key}={name!r} cannot be imported: {error}") from error
    return found


def hidden_pairs(rewards: Sequence[float]) -> list[tuple[int, int]]:
    """All (better, worse) index pairs of one prompt's answers; equal rewards form no pair."""
    values: NDArray[np.float64] = np.asarray(rewards, dtype=np.float64)
    better, worse = np.nonzero(values[:, None] > values[None, :])
    return list(zip(better.tolist(), worse.tolist(), strict=True))
