"""r(s, a; theta) as a small multi-layer perceptron on features, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from irl_align.core.errors import UserError
from irl_align.tabular.arrays import Array, check_finite, check_shape
from irl_align.tabular.mdp import TabularMDP

__all__ = ["NeuralReward"]

# Rows of features that pass the net at a time: bounds the activations that autograd keeps.
CHUNK = 65536


class NeuralReward:
    """An MLP reward with a soft bound: ``bound * tanh(net(x) / bound)``.

    A hard clamp has no gradient once it saturates; the soft one keeps pulling. The net has an
    activation after every hidden layer.

    Args:
        mdp: gives S and A.
        inputs: features [S, A, d], or [S, d] for a state-only reward.
        hidden: widths of the hidden layers.
        activation: "relu" or "tanh" (smooth, as the paper's Lipschitz gradients ask).
        bound: largest absolute reward; None for none.

    Raises UserError on inputs of another shape and on a bound or width that is not positive.
    """

    def __init__(
        self,
        mdp: TabularMDP,
        inputs: Any,
        hidden: Sequence[int] = (64, 64),
        *,
        activation: Literal["relu", "tanh"] = "tanh",
        bound: float | None = 10.0,
    ) -> None:
        table = check_finite("the inputs", np.asarray(inputs, dtype=np.float64))
        self.state_only = table.ndim == 2
        leading = mdp.shape[:1] if self.state_only else mdp.shape
        if table.ndim not in (2, 3) or table.shape[:-1] != leading or not table.shape[-1]:
            raise UserError(
                f"inputs have shape [S, A, d] or [S, d] with S={mdp.states}, A={mdp.actions}, got "
                f"{list(table.shape)}"
            )
        if bound is not None and not bound > 0:
            raise UserError(f"bound must be positive or None, got {bound}")
        if any(width < 1 for width in hidden):
            raise UserError(f"hidden widths must be positive, got {tuple(hidden)}")
        if activation not in ("relu", "tanh"):
            raise UserError(f'activation must be "relu" or "tanh", got {activation!r}')
        self.inputs = torch.from_numpy(table.reshape(-1, table.shape[-1]).copy())  # [S(*A), d_in]
        self.hidden, self.activation, self.bound = tuple(hidden), activation, bound
        self._shape = mdp.shape
        # On the meta device: a pattern of names and shapes, the numbers are theta's.
        self._net = self._build("meta")
        self._parts = [(name, p.shape, p.numel()) for name, p in self._net.named_parameters()]

    def _build(self, device: str) -> nn.Sequential:
        layers: list[nn.Module] = []
        width = self.inputs.shape[1]
        for size in self.hidden:
            layers.append(nn.Linear(width, size, dtype=torch.float64, device=device))
            layers.append(nn.ReLU() if self.activation == "relu" else nn.Tanh())
            width = size
        layers.append(nn.Linear(width, 1, dtype=torch.float64, device=device))
        return nn.Sequential(*layers)

    @property
    def size(self) -> int:
        return sum(count for _, _, count in self._parts)

    def initial(self, seed: int) -> Array:
        """PyTorch's initialisation under ``seed``; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = self._build("cpu")
        return np.concatenate([p.detach().numpy().ravel() for p in net.parameters()])

    def values(self, theta: Array) -> Array:
        flat = torch.from_numpy(check_shape("theta", theta, (self.size,)))
        with torch.no_grad():
            rewards = torch.cat([self._rewards(flat, rows) for rows in self._chunks()]).numpy()
        if self.state_only:
            return np.broadcast_to(rewards[:, None], self._shape)
        return np.asarray(rewards.reshape(self._shape))

    def gradient(self, theta: Array, weights: Array) -> Array:
        flat = torch.from_numpy(check_shape("theta", theta, (self.size,)).copy())
        flat.requires_grad_(True)
        per_row = weights.sum(1) if self.state_only else np.ascontiguousarray(weights).reshape(-1)
        total = torch.zeros_like(flat)
        for rows in self._chunks():
            score = (self._rewards(flat, rows) * torch.from_numpy(per_row[rows])).sum()
            total += torch.autograd.grad(score, flat)[0]
        return total.detach().numpy()

    def _rewards(self, flat: Tensor, rows: slice) -> Tensor:
        parameters: dict[str, Tensor] = {}
        start = 0
        for name, shape, count in self._parts:
            parameters[name] = flat[start : start + count].view(shape)
            start += count
        out = functional_call(self._net, parameters, (self.inputs[rows],)).squeeze(-1)
        return out if self.bound is None else self.bound * torch.tanh(out / self.bound)

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.inputs), CHUNK):
            yield slice(start, start + CHUNK)
