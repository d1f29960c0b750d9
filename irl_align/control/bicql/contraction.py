"""How strongly a round hands on a change of the reward: L_Q, L_ML and their product.

The paper proves convergence where L_Q L_ML < 1: L_Q bounds how far Q moves with r, L_ML how far r
moves with Q (its Assumption 1(d); open question 3 asks for estimates). Here both are measured along
one direction at a time, by running a round's two levels twice from the same start with the same
random numbers, once with r and once with r + v:

    l_q  = |Q(r + v) - Q(r)| / |v|,      l_ml = |r'(Q(r + v)) - r'(Q(r))| / |Q(r + v) - Q(r)|

norms being root mean squares over fixed transitions. The change of r' that comes out is the
direction of the next measurement: a power iteration, so l_q l_ml tends to the growth of the change
that a round amplifies most. It is about one round as it is run (K_Q and K_R steps), not about
levels that are solved exactly, for which it is a lower estimate. A product that stays above 1 is a
run whose reward grows without end; E_D[r^2] is what brings it down, for it divides what a round
hands on. A product below 1 says nothing about overfitting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

# First guess of how far a unit step in the parameters may go to measure its effect on r.
_TRIAL = 1e-2


class Gains(NamedTuple):
    """See above; `direction` [P] is a change of the reward's parameters, of length 1."""

    l_q: float
    l_ml: float
    direction: Tensor

    @property
    def product(self) -> float:
        return self.l_q * self.l_ml


def round_gains(
    theta: Tensor,
    direction: Tensor,
    size: float,
    *,
    lower: Callable[[Tensor], Tensor],
    upper: Callable[[Tensor], Tensor],
    rewards: Callable[[Tensor], Tensor],
    values: Callable[[Tensor], Tensor],
    at_rest: Tensor | None = None,
) -> Gains:
    """One measurement.

    Args:
        theta: the reward's parameters [P].
        direction: the change to look at [P].
        size: of |v|.
        lower: from the reward's parameters to Q's, from a fixed start.
        upper: from Q's parameters to the reward's next ones, starting at `theta`.
        rewards, values: r and Q on the fixed transitions [N], from parameters.
        at_rest: lower(theta), where it is known.

    A direction that changes r nowhere has gains of 0 and comes back as it is.
    """
    before = rewards(theta)
    unit = direction / direction.norm().clamp(min=1e-30)
    trial = _rms(rewards(theta + _TRIAL * unit) - before)
    if trial == 0:
        return Gains(0.0, 0.0, unit)
    moved = theta + _TRIAL * size / trial * unit
    change = _rms(rewards(moved) - before)
    calm = lower(theta) if at_rest is None else at_rest
    shaken = lower(moved)
    handed = _rms(values(shaken) - values(calm))
    after, shaken_after = upper(calm), upper(shaken)
    if change == 0 or handed == 0:
        return Gains(0.0, 0.0, unit)
    returned = _rms(rewards(shaken_after) - rewards(after))
    following = shaken_after - after
    length = following.norm()
    return Gains(handed / change, returned / handed, following / length if length > 0 else unit)


def _rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()
