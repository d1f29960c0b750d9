"""Fitting the ensemble: one program that is K independent fits.

Each member has its own draw of the data, its own order of batches and its own end: it stops when
its error on held-out rows has not fallen by a share of `improvement` for `patience` epochs, keeps
the weights of its best epoch, and is taken out. All its random numbers come from a generator of its
own, so that the others change nothing about it.

A fit that is interrupted begins again: its state is not worth more than its minutes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor

from irl_align.control.networks.stacked import Activation
from irl_align.control.sac.adam import Moments
from irl_align.control.sac.compiling import threads_for, worth_compiling
from irl_align.control.world_model.config import WorldModelConfig
from irl_align.control.world_model.network import GaussianEnsemble
from irl_align.control.world_model.step import Settings, compiled_update, update
from irl_align.core.errors import UserError
from irl_align.core.seeding import derive_seed

# Rows that go through the networks at once where no gradient is asked for: they fit into a cache.
CHUNK = 500
# Epochs that a fit is expected to take, where compiling has to be decided on.
_USUAL_EPOCHS = 30


@dataclass(frozen=True)
class FitReport:
    """How a fit went; lists have one entry a member.

    Attributes:
        errors: mean squared error of the mean on the held-out rows, in the units of the targets,
            at the epoch whose weights were kept.
        best_epochs: which one that was; 0 is the first guess.
        epochs: how many were made.
        updates: steps of the members that learned longest.
    """

    errors: list[float]
    best_epochs: list[int]
    epochs: list[int]
    updates: int
    rows: int
    held_out: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, ready for JSON."""
        return asdict(self)


def fit_ensemble(
    rows: Tensor,
    held_out: Tensor,
    inputs: int,
    config: WorldModelConfig,
    *,
    seed: int,
    members: Sequence[int] | None = None,
    on_epoch: Callable[[int, list[float]], None] | None = None,
) -> tuple[GaussianEnsemble, FitReport]:
    """Fit members to rows [N, inputs + O] of standardised inputs and targets.

    Args:
        held_out: [M, inputs + O], that no member learns from.
        members: which ones, by number; None: all of `config.members`. One that is fitted alone is
            the same as in company, up to rounding.
        on_epoch: called with the epoch, from 1, and all best errors so far.

    Raises UserError when a member leaves the finite numbers.
    """
    numbers = list(range(config.members)) if members is None else list(members)
    start = time.perf_counter()
    with threads_for(config.hidden):
        fit = _Fit(rows, held_out, inputs, config, numbers, seed)
        while fit.groups and fit.epoch < config.max_epochs:
            fit.run_epoch()
            if on_epoch is not None:
                on_epoch(fit.epoch, list(fit.errors))
    report = FitReport(
        fit.errors,
        fit.best_epochs,
        fit.epochs,
        fit.updates,
        rows=len(rows),
        held_out=len(held_out),
        seconds=time.perf_counter() - start,
    )
    return fit.best, report


@dataclass
class _Group:
    """Members that are stepped at once, with their places in the lists of the fit."""

    ensemble: GaussianEnsemble
    moments: Moments
    places: list[int]

    @classmethod
    def fresh(cls, ensemble: GaussianEnsemble, places: list[int]) -> _Group:
        return cls(ensemble, Moments.of(list(ensemble.parameters())), places)

    def keep(self, going: list[int]) -> None:
        """Only the members at these positions of the group."""
        if len(going) in (0, len(self.places)):  # nothing to learn with, or nothing to change
            self.places = self.places[: len(going)]
            return
        self.places = [self.places[where] for where in going]
        self.ensemble = self.ensemble.select(going)
        old, self.moments = self.moments, Moments.of(list(self.ensemble.parameters()))
        for mine, other in ((self.moments.first, old.first), (self.moments.second, old.second)):
            for tensor, value in zip(mine, other, strict=True):
                tensor.copy_(value[going])
        self.moments.count.copy_(old.count)


class _Fit:
    """The members that still learn, in groups, and the best of all.

    Without machine code all members are one group: a small network's step is all overhead, and
    seven cost little more than one. As machine code each is a group of its own: its activations
    stay in a core's cache, and nothing is compiled anew when another one is done.
    """

    def __init__(
        self,
        rows: Tensor,
        held_out: Tensor,
        inputs: int,
        config: WorldModelConfig,
        numbers: list[int],
        seed: int,
    ) -> None:
        self.rows, self.held_out, self.config = rows.contiguous(), held_out, config
        self.generators = [
            torch.Generator().manual_seed(derive_seed(seed, round=0, phase="member", rank=number))
            for number in numbers
        ]
        ensemble = GaussianEnsemble(
            len(numbers),
            inputs,
            rows.shape[1] - inputs,
            config.hidden,
            cast(Activation, config.activation),
            self.generators,
        )
        everyone = list(range(len(numbers)))
        self.best = ensemble.select(everyone)
        self.settings = Settings(config.learning_rate, config.decay_of_layers, inputs)
        self.draws = [self._draw(generator) for generator in self.generators]
        self.batch = min(config.batch_size, len(rows))
        wanted = len(rows) if config.epoch_size is None else config.epoch_size
        self.per_epoch = max(1, min(wanted, len(rows)) // self.batch)
        self.compiled = worth_compiling(
            config.compile,
            self.per_epoch * _USUAL_EPOCHS,
            key="world_model.compile",
            loss="the world model is fitted slower than it could",
        )
        groups = [[place] for place in everyone] if self.compiled else [everyone]
        self.groups = [_Group.fresh(ensemble.select(places), places) for places in groups]
        self.errors = self._finite(squared_errors(ensemble, held_out, inputs))
        self.best_epochs = [0] * len(numbers)
        self.epochs = [0] * len(numbers)
        self._stalled = [0] * len(numbers)
        self.epoch = self.updates = 0

    def run_epoch(self) -> None:
        """An epoch of all groups; members that are done leave."""
        self.updates += self.per_epoch
        self.epoch += 1
        for group in self.groups:
            self._step(group)
            found = self._finite(
                squared_errors(group.ensemble, self.held_out, self.settings.inputs)
            )
            going = [where for where, error in enumerate(found) if self._judge(group, where, error)]
            group.keep(going)
        self.groups = [group for group in self.groups if group.places]

    def _step(self, group: _Group) -> None:
        step = compiled_update() if self.compiled else update
        count = self.per_epoch * self.batch
        # [k, count]: which rows each member sees, in which order.
        order = torch.stack([self._order(place)[:count] for place in group.places])
        for index in order.split(self.batch, dim=1):
            rows = self.rows.index_select(0, index.flatten())
            step(group.ensemble, group.moments, self.settings, rows.view(*index.shape, -1))

    def _judge(self, group: _Group, where: int, error: float) -> bool:
        """Note the error of the member at this position of the group; whether it goes on."""
        place, config = group.places[where], self.config
        self.epochs[place] = self.epoch
        if self.errors[place] - error > config.improvement * self.errors[place]:
            self.errors[place], self.best_epochs[place] = error, self.epoch
            self._stalled[place] = 0
            with torch.no_grad():
                for best, now in zip(
                    self.best.parameters(), group.ensemble.parameters(), strict=True
                ):
                    best[place].copy_(now[where])
        else:
            self._stalled[place] += 1
        return self._stalled[place] < config.patience or self.epoch < config.min_epochs

    def _draw(self, generator: torch.Generator) -> Tensor | None:
        if not self.config.bootstrap:
            return None
        return torch.randint(len(self.rows), (len(self.rows),), generator=generator)

    def _order(self, place: int) -> Tensor:
        order = torch.randperm(len(self.rows), generator=self.generators[place])
        draw = self.draws[place]
        return order if draw is None else draw[order]

    def _finite(self, errors: Tensor) -> list[float]:
        found = [float(error) for error in errors]
        if not all(math.isfinite(error) for error in found):
            raise UserError(
                "the world model left the finite numbers; lower world_model.learning_rate"
            )
        return found


@torch.no_grad()
def squared_errors(ensemble: GaussianEnsemble, rows: Tensor, inputs: int) -> Tensor:
    """[K]: mean squared error of each member's mean over rows [M, inputs + O] and numbers."""
    total = torch.zeros(ensemble.members, dtype=torch.float64)
    for chunk in rows.split(CHUNK):
        mean, _ = ensemble.predict(chunk[:, :inputs])
        total += (mean - chunk[:, inputs:]).square().sum(dim=(1, 2))
    return total / (len(rows) * (rows.shape[1] - inputs))
