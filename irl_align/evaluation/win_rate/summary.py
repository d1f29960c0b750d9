"""Games on many prompts -> win rate, its length-controlled form, and how far to trust the judge."""

from __future__ import annotations

import math
from collections.abc import Sequence

from irl_align.evaluation.bootstrap import Interval, bootstrap_mean
from irl_align.evaluation.win_rate.length_control import length_controlled_win_rate
from irl_align.evaluation.win_rate.referees import Game

__all__ = ["BIAS_P_VALUE", "sign_test", "summarise"]

BIAS_P_VALUE = 0.01  # below it a liking for one position is reported as such

Metric = Interval | float | int | None


def summarise(
    games: Sequence[Game],
    length_differences: Sequence[int],
    *,
    blind: bool,
    seed: int = 0,
) -> dict[str, Metric]:
    """Metrics over the prompts that have an outcome; intervals resample prompts.

    `win_rate`: mean of A's points (a tie is half a win); `win_rate/length_controlled`: see
    `length_control`; `wins`, `ties`, `losses`: prompts by the sign of the outcome; `excluded`:
    prompts without one. With a referee who sees an order (not `blind`): `swap_agreement`, the
    share of prompts on which both orders gave the same verdict; `position_bias`, in [-1, 1], what
    being shown first is worth (the first one's points minus the second's, mean over prompts), and
    `position_bias/p_value` of a sign test against none.
    """
    kept = [i for i, game in enumerate(games) if game.outcome is not None]
    outcomes = [float(games[i].outcome or 0.0) for i in kept]
    metrics: dict[str, Metric] = {
        "win_rate": bootstrap_mean(outcomes, seed=seed) if kept else None,
        "win_rate/length_controlled": length_controlled_win_rate(
            outcomes, [length_differences[i] for i in kept], seed=seed
        )
        if kept
        else None,
        "wins": sum(o > 0.5 for o in outcomes),
        "ties": sum(o == 0.5 for o in outcomes),
        "losses": sum(o < 0.5 for o in outcomes),
        "excluded": len(games) - len(kept),
    }
    if not blind and kept:
        same = [float(games[i].a_first == games[i].b_first) for i in kept]
        first = [float(games[i].first_shown or 0.0) for i in kept]
        metrics["swap_agreement"] = bootstrap_mean(same, seed=seed)
        metrics["position_bias"] = bootstrap_mean(first, seed=seed)
        metrics["position_bias/p_value"] = sign_test(
            sum(f > 0 for f in first), sum(f < 0 for f in first)
        )
    return metrics


def sign_test(plus: int, minus: int) -> float:
    """Two-sided p-value of `plus` against `minus` under a fair coin; exact. 1 when both are 0."""
    total = plus + minus
    tail = sum(math.comb(total, k) for k in range(min(plus, minus) + 1))
    return min(1.0, 2 * tail / 2**total)  # whole numbers until the division: no overflow
