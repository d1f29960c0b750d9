"""The world model: fitted networks, their units, who of them predicts, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from irl_align.control.buffers import Batch
from irl_align.control.networks.stacked import Activation
from irl_align.control.spaces import Spaces
from irl_align.control.world_model.config import WorldModelConfig
from irl_align.control.world_model.fit import FitReport, fit_ensemble
from irl_align.control.world_model.network import GaussianEnsemble, Scales
from irl_align.control.world_model.penalties import PENALTIES, Predicted
from irl_align.control.world_model.terminations import (
    KNOWN,
    Known,
    LearnedTermination,
    Never,
    choose_termination,
)
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open
from irl_align.core.seeding import derive_seed

FILE = "world_model.pt"


class Imagined(NamedTuple):
    """A step in the model."""

    next_observations: Tensor  # [B, O]
    terminated: Tensor  # [B], bool
    penalties: Tensor  # [B], u >= 0


class WorldModel:
    """P_hat(s' | s, a) with its uncertainty.

    Attributes:
        elites: [E], numbers of the members that next states are drawn from; all K say how unsure
            they are.
        facts: plain values that are saved beside the weights (environment, data, errors).
    """

    def __init__(
        self,
        ensemble: GaussianEnsemble,
        scales: Scales,
        elites: Tensor,
        termination: nn.Module,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.ensemble = ensemble.eval().requires_grad_(False)
        self.scales, self.elites, self.termination = scales, elites, termination
        self.facts = dict(facts or {})

    @property
    def observation_dim(self) -> int:
        return len(self.scales.change_mean)

    @property
    def action_dim(self) -> int:
        return len(self.scales.input_mean) - self.observation_dim

    def predict(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """[B, O], [B, A] -> mean and standard deviation of the next state, each [K, B, O]."""
        found = self.ensemble.predict(self.scales.inputs(observations, actions))
        return self._next(observations, *found)

    def _next(self, observations: Tensor, mean: Tensor, log_var: Tensor) -> tuple[Tensor, Tensor]:
        """What networks say of changes [..., B, O], as mean and standard deviation of next states
        in the environment's units."""
        unit = self.scales.change_std
        next_mean = observations + self.scales.change_mean + mean * unit
        return next_mean, (0.5 * log_var).exp() * unit

    @torch.no_grad()
    def step(
        self,
        observations: Tensor,
        actions: Tensor,
        generator: torch.Generator,
        penalty: str | None,
    ) -> Imagined:
        """One step of B rows, each drawn from an elite of its own choice.

        Args:
            penalty: a key of `PENALTIES`, or None for none, which is 0 and needs no other member.
        """
        count = len(observations)
        chosen = self.elites[torch.randint(len(self.elites), (count,), generator=generator)]
        noise = torch.randn(count, self.observation_dim, generator=generator)
        if penalty is None:
            inputs = self.scales.inputs(observations, actions)
            mean, std = self._next(observations, *self.ensemble.predict_by(inputs, chosen))
        else:
            means, stds = self.predict(observations, actions)
            index = chosen[None, :, None].expand(1, -1, self.observation_dim)
            mean, std = means.gather(0, index)[0], stds.gather(0, index)[0]
        sampled = (mean + std * noise).clamp(self.scales.low, self.scales.high)
        unsure = torch.zeros(count)
        if penalty is not None:
            unsure = PENALTIES[penalty](Predicted(means, stds, chosen, sampled))
        return Imagined(sampled, self.termination(sampled), unsure)

    def save(self, folder: Path) -> None:
        """All of it in one file, FILE."""
        ensemble = self.ensemble
        kept = {
            "members": ensemble.members,
            "sizes": list(ensemble.sizes),
            "activation": ensemble.activation,
            "ensemble": ensemble.state_dict(),
            "scales": self.scales.state_dict(),
            "elites": self.elites,
            "termination": _described(self.termination),
            "facts": self.facts,
        }
        with atomic_open(folder / FILE) as file:
            torch.save(kept, file)

    @classmethod
    def load(cls, path: Path, spaces: Spaces | None = None) -> WorldModel:
        """What `save` wrote, from the file or its folder. Loads no pickled code.

        Raises UserError when it is missing or damaged, or not of the dimensions of `spaces`.
        """
        path = path / FILE if path.is_dir() else path
        try:
            kept = torch.load(path, weights_only=True)
            inputs, *hidden, outputs = kept["sizes"]
            observations = outputs // 2
            ensemble = GaussianEnsemble(
                kept["members"], inputs, observations, hidden, cast(Activation, kept["activation"])
            )
            ensemble.load_state_dict(kept["ensemble"])
            scales = Scales(observations, inputs - observations)
            scales.load_state_dict(kept["scales"])
            termination = _rebuilt(kept["termination"], observations)
            found = cls(ensemble, scales, kept["elites"], termination, kept["facts"])
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such world model; check the path") from error
        except Exception as error:  # torch.load has no error of its own for foreign files
            raise UserError(f"{path}: not a world model that can be loaded: {error}") from error
        if spaces is not None:
            dims = found.observation_dim, found.action_dim
            needed = spaces.observation_dim, spaces.action_dim
            if dims != needed:
                raise UserError(
                    f"{path}: a world model of {dims[0]} observation and {dims[1]} action numbers, "
                    f"but {spaces.environment} has {needed[0]} and {needed[1]}; give one that was "
                    "fitted for this environment"
                )
        return found


@dataclass(frozen=True)
class Fitted:
    """A new world model, how its fit went, and the rows [M] of the data that it never saw."""

    model: WorldModel
    report: FitReport
    termination: dict[str, Any]
    held_out: Tensor


def fit_world_model(
    data: Batch,
    spaces: Spaces,
    config: WorldModelConfig,
    *,
    seed: int,
    fixed_horizon: bool = False,
    facts: dict[str, Any] | None = None,
    on_epoch: Callable[[int, list[float]], None] | None = None,
) -> Fitted:
    """Fit one to transitions `data` of N rows.

    The rows that are held out are drawn at random, so most of their neighbours in time are not.
    Raises UserError when there are too few rows, or the fit leaves the finite numbers.
    """
    held_out, learned = split(len(data.observations), config, seed)
    changes = data.next_observations - data.observations
    scales = Scales(spaces.observation_dim, spaces.action_dim)
    inputs = torch.cat([data.observations, data.actions], dim=-1)
    scales.fit(inputs[learned], changes[learned] if config.standardised_targets else None)
    if config.stay_in_box:
        scales.low.copy_(data.next_observations.amin(dim=0))
        scales.high.copy_(data.next_observations.amax(dim=0))
    rows = torch.cat(
        [scales.inputs(data.observations, data.actions), scales.targets(changes)], dim=-1
    )
    ensemble, report = fit_ensemble(
        rows[learned], rows[held_out], inputs.shape[1], config, seed=seed, on_epoch=on_epoch
    )
    elites = torch.tensor(report.errors).argsort(stable=True)[: config.elites].sort().values
    termination, said = choose_termination(
        config.termination,
        spaces,
        data.next_observations,
        data.terminated,
        fixed_horizon=fixed_horizon,
        seed=derive_seed(seed, round=0, phase="termination"),
    )
    known = {"environment": spaces.environment, "errors": report.errors, **(facts or {})}
    return Fitted(WorldModel(ensemble, scales, elites, termination, known), report, said, held_out)


def split(count: int, config: WorldModelConfig, seed: int) -> tuple[Tensor, Tensor]:
    """Of `count` rows those that are held out and those that are learned from, as numbers.

    UserError when there are too few.
    """
    if count < 2:
        raise UserError(f"a world model needs 2 or more transitions, the data set has {count}")
    aside = max(1, int(config.holdout * count))
    if config.most_held_out is not None:
        aside = min(aside, config.most_held_out)
    generator = torch.Generator().manual_seed(derive_seed(seed, round=0, phase="held_out"))
    order = torch.randperm(count, generator=generator)
    return order[:aside], order[aside:]


def _described(termination: nn.Module) -> dict[str, Any]:
    if isinstance(termination, Known):
        return {"kind": "known", "name": termination.name}
    if isinstance(termination, LearnedTermination):
        return {"kind": "learned", "weights": termination.state_dict()}
    return {"kind": "never"}


def _rebuilt(kept: dict[str, Any], observation_dim: int) -> nn.Module:
    if kept["kind"] == "known":
        if kept["name"] not in KNOWN:
            raise ValueError(f"no termination of {kept['name']} is known here")
        return Known(kept["name"])
    if kept["kind"] == "learned":
        net = LearnedTermination(observation_dim)
        net.load_state_dict(kept["weights"])
        return net.eval().requires_grad_(False)
    return Never()
