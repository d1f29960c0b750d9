"""K Gaussian networks (s, a) -> N(mean, std^2) of the change s' - s, as one batch of products.

    log var = lo + softplus(hi - softplus(hi - raw) - lo)        lo, hi learned (PETS, Chua 2018)

Nothing is shared between members, not even the bounds: so the sum of their losses trains each as
if it were alone, and one that is done can be taken out (`select`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from irl_align.control.networks.stacked import ACTIVATIONS, Activation, StackedLinear, StackedMLP

# Inputs further from the mean of the data than so many standard deviations are taken as there.
_CLIP = 10.0
_LEAST_STD = 1e-6
_FIRST_MAX, _FIRST_MIN = 0.5, -10.0


class Scales(nn.Module):
    """Units of the data: inputs are standardised, changes of state if so asked.

    Attributes:
        input_mean, input_std: [O + A].
        change_mean, change_std: [O]; 0 and 1 when changes are taken as they are.
        low, high: [O], the box that next states are kept in; infinite where there is none.
    """

    input_mean: Tensor
    input_std: Tensor
    change_mean: Tensor
    change_std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        width = observation_dim + action_dim
        self.register_buffer("input_mean", torch.zeros(width))
        self.register_buffer("input_std", torch.ones(width))
        self.register_buffer("change_mean", torch.zeros(observation_dim))
        self.register_buffer("change_std", torch.ones(observation_dim))
        self.register_buffer("low", torch.full((observation_dim,), -torch.inf))
        self.register_buffer("high", torch.full((observation_dim,), torch.inf))

    def fit(self, inputs: Tensor, changes: Tensor | None) -> None:
        """To inputs [N, O + A] and, unless None, changes [N, O]. A constant column keeps unit 1."""
        parts = [(inputs, self.input_mean, self.input_std)]
        if changes is not None:
            parts.append((changes, self.change_mean, self.change_std))
        for values, mean, std in parts:
            # In double precision: float32 sums over 10^6 rows are off in the fourth digit.
            spread, centre = torch.std_mean(values.double(), dim=0, correction=0)
            spread = torch.where(spread > _LEAST_STD, spread, torch.ones_like(spread))
            mean.copy_(centre)
            std.copy_(spread)

    def inputs(self, observations: Tensor, actions: Tensor) -> Tensor:
        """[..., O], [..., A] -> what networks take [..., O + A]."""
        x = torch.cat([observations, actions], dim=-1)
        return ((x - self.input_mean) / self.input_std).clamp(-_CLIP, _CLIP)

    def targets(self, changes: Tensor) -> Tensor:
        """s' - s [..., O] -> what networks are to say."""
        return (changes - self.change_mean) / self.change_std


class GaussianEnsemble(nn.Module):
    """The networks. Weights begin as a normal of std 1 / (2 sqrt(inputs)), cut at two of these.

    Args:
        generators: one for each member, which nothing but its weights is drawn from here.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        activation: Activation = "silu",
        generators: Sequence[torch.Generator] | None = None,
    ) -> None:
        super().__init__()
        self.members: int = members
        self.activation: Activation = activation
        self.sizes = (inputs, *hidden, 2 * outputs)
        with torch.random.fork_rng(devices=[]):  # overwritten below
            self.net = StackedMLP(members, self.sizes, activation)
        self.max_log_var = nn.Parameter(torch.full((members, 1, outputs), _FIRST_MAX))
        self.min_log_var = nn.Parameter(torch.full((members, 1, outputs), _FIRST_MIN))
        if generators is not None:
            self._initialise(generators)

    @property
    def layers(self) -> list[StackedLinear]:
        return [cast(StackedLinear, layer) for layer in self.net.layers]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised [B, in], the same for all, or [K, B, in] -> mean, log var [K, B, O]."""
        return self._bounded(self.net(x))

    @torch.no_grad()
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same for [B, in] without gradients, member by member: with B in the hundreds the
        activations of one stay in the nearest cache, where those of all would not."""
        raw = x.new_empty(self.members, len(x), self.sizes[-1])
        for member in range(self.members):
            self._alone(member, x, out=raw[member])
        return self._bounded(raw)

    @torch.no_grad()
    def predict_by(self, x: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """Row b of [B, in] by member members[b] alone -> mean, log var [B, O]: what `predict` says
        of it for a K-th of the work."""
        raw = x.new_empty(len(x), self.sizes[-1])
        for member in members.unique().tolist():
            rows = (members == member).nonzero()[:, 0]
            raw[rows] = self._alone(member, x[rows])
        return self._bounded(raw, members)

    def _alone(self, member: int, x: Tensor, out: Tensor | None = None) -> Tensor:
        """One member [B, in] -> [B, 2 O], before the bounds."""
        activate = ACTIVATIONS[self.activation]
        *hidden, last = self.layers
        for layer in hidden:
            x = activate(torch.addmm(layer.bias[member], x, layer.weight[member]))
        return torch.addmm(last.bias[member], x, last.weight[member], out=out)

    def _bounded(self, outputs: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Of all members [K, B, 2 O], or of row b by members[b] [B, 2 O]."""
        low: Tensor = self.min_log_var
        high: Tensor = self.max_log_var
        if members is not None:
            low, high = low[members, 0], high[members, 0]
        mean, raw = outputs.chunk(2, dim=-1)
        log_var = high - softplus(high - raw)
        return mean, low + softplus(log_var - low)

    def select(self, members: Sequence[int]) -> GaussianEnsemble:
        """An ensemble of copies of these members."""
        *sizes, outputs = self.sizes
        chosen = GaussianEnsemble(len(members), sizes[0], outputs // 2, sizes[1:], self.activation)
        with torch.no_grad():
            for mine, other in zip(chosen.parameters(), self.parameters(), strict=True):
                mine.copy_(other[list(members)])
        return chosen

    @torch.no_grad()
    def _initialise(self, generators: Sequence[torch.Generator]) -> None:
        for layer in self.layers:
            std = 0.5 / math.sqrt(layer.weight.shape[1])
            for member, generator in enumerate(generators):
                nn.init.trunc_normal_(
                    layer.weight[member], std=std, a=-2 * std, b=2 * std, generator=generator
                )
            layer.bias.zero_()
