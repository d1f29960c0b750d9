"""The coefficient of the KL term: fixed, or steered towards a wanted KL."""

from __future__ import annotations

__all__ = ["KLCoefficient"]


class KLCoefficient:
    """beta of `score - beta log pi/pi_ref`.

    With `target` None it stays. With a target (nats per answer) it is steered after every batch of
    n answers (Ziegler et al. 2019, section 2.2):

        e = clip(KL / target - 1, -.2, .2),    beta <- beta (1 + e n / horizon)
    """

    def __init__(self, beta: float, target: float | None = None, horizon: int = 10_000) -> None:
        self.beta, self.target, self.horizon = beta, target, horizon

    def observe(self, kl: float, answers: int) -> None:
        """Tell of the mean KL of `answers` answers; after the batch was made, so that a batch is
        rewarded with one coefficient."""
        if self.target is None:
            return
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.beta *= 1 + error * answers / self.horizon
