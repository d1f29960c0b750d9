"""Actions that exp Q is integrated over, drawn from a mixture whose density is known.

    q(a|s) = (m_u U(a) + m_c N_box(a; clone(s), sigma_c) + m_n N_box(a; a_data, sigma_n)) / M

Every action is weighed by the density of the whole mixture, whichever part it came from (the
balance heuristic, Veach & Guibas 1995). So a weight is never above M / m_u times the box, and none
has to be clipped; weighing each by its own part's density would leave those in the thin tails of a
narrow part with weights without bound.

N_box is a Gaussian cut off at the box, drawn by its inverse distribution function. Densities are
those of the box scaled to [-1, 1]^A, as in `networks.actor`: a unit of V means the same whatever
the units of an action.

All of it is frozen before the first round and knows nothing of Q, so it stays outside of compiled
updates.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from irl_align.control.bicql.cloning import Clone, fit_clone
from irl_align.control.bicql.config import ProposalConfig
from irl_align.control.bicql.log_sum_exp import Tried
from irl_align.control.sac.compiling import threads_for
from irl_align.control.spaces import Spaces
from irl_align.control.transitions import Transitions
from irl_align.core.errors import UserError
from irl_align.core.seeding import derive_seed


class Proposals(Protocol):
    """Where Q is asked."""

    def tried(
        self,
        observations: Tensor,
        actions: Tensor | None,
        generator: torch.Generator,
        /,
        *,
        alike: bool = False,
    ) -> Tried:
        """For states [B, O] and, where they are known, the data's actions there [B, A].

        `alike` uses the same random numbers in every state.
        """
        ...

    def blurred(self, actions: Tensor, generator: torch.Generator, /) -> Tensor:
        """Actions close to the data's [B, A], whose Q the conservative term raises."""
        ...


class AllIndices:
    """Every one of n actions: nothing is drawn."""

    def __init__(self, count: int) -> None:
        self.count = count

    def tried(
        self,
        observations: Tensor,
        actions: Tensor | None,
        generator: torch.Generator,
        /,
        *,
        alike: bool = False,
    ) -> Tried:
        size = len(observations), self.count
        return Tried(observations.new_zeros(*size, 0), observations.new_zeros(size))

    def blurred(self, actions: Tensor, generator: torch.Generator, /) -> Tensor:
        return actions


class BoxProposals:
    """Draws from the mixture above.

    Args:
        clone: what the data do, see `cloning`; None leaves that part out.
        blur: standard deviation of `blurred` actions around the data's.

    Raises UserError when the box has no bounds.
    """

    def __init__(
        self, spaces: Spaces, config: ProposalConfig, clone: Clone | None, blur: float = 0.0
    ) -> None:
        low, high = torch.from_numpy(spaces.action_low), torch.from_numpy(spaces.action_high)
        if not torch.isfinite(low + high).all():
            raise UserError(
                f"{spaces.environment} has actions without bounds: exp Q has no integral over them"
            )
        self.config, self.clone, self.blur = config, clone, blur
        self.centre, self.half_width = (high + low) / 2, (high - low) / 2

    def scaled(self, actions: Tensor) -> Tensor:
        """From the environment's units to [-1, 1]."""
        return ((actions - self.centre) / self.half_width).clamp(-1.0, 1.0)

    def blurred(self, actions: Tensor, generator: torch.Generator, /) -> Tensor:
        if not self.blur:
            return actions
        uniforms = torch.rand(actions.shape, generator=generator)
        std = torch.full_like(self.half_width, self.blur)
        return self.centre + self.half_width * truncated_normal(uniforms, self.scaled(actions), std)

    @torch.no_grad()
    def tried(
        self,
        observations: Tensor,
        actions: Tensor | None,
        generator: torch.Generator,
        /,
        *,
        alike: bool = False,
    ) -> Tried:
        parts: list[tuple[int, Tensor, Tensor]] = []  # so many around [B, A] with std [A]
        if self.clone is not None and self.config.cloned:
            parts.append((self.config.cloned, self.clone(observations), self.clone.std))
        if actions is not None and self.config.near:
            width = torch.full_like(self.half_width, self.config.near_std)
            parts.append((self.config.near, self.scaled(actions), width))
        size, dims = len(observations), len(self.half_width)
        rows = 1 if alike else size
        uniforms = torch.rand(rows, self.config.uniform, dims, generator=generator)
        drawn = [(2 * uniforms - 1).expand(size, -1, -1)]
        for count, middle, std in parts:
            uniforms = torch.rand(rows, count, dims, generator=generator)
            drawn.append(truncated_normal(uniforms, middle[:, None], std))
        points = torch.cat(drawn, dim=1)  # [B, M, A]
        total = points.shape[1]
        flat = points.new_full(points.shape[:2], -dims * math.log(2.0))
        densities = [flat + math.log(self.config.uniform / total)]
        for count, middle, std in parts:
            density = truncated_normal_log_density(points, middle[:, None], std).sum(dim=-1)
            densities.append(density + math.log(count / total))
        log_q = torch.logsumexp(torch.stack(densities), dim=0)
        return Tried(self.centre + self.half_width * points, -log_q - math.log(total))


def truncated_normal(uniforms: Tensor, middle: Tensor, std: Tensor) -> Tensor:
    """Draws of N(middle, std^2) cut off at [-1, 1] from uniform numbers; shapes broadcast."""
    below, above = _tails(middle, std)
    inside = torch.special.ndtri(below + (above - below) * uniforms)
    return (middle + std * inside).clamp(-1.0, 1.0)


def truncated_normal_log_density(points: Tensor, middle: Tensor, std: Tensor) -> Tensor:
    """Its log density at `points` of [-1, 1], each dimension by itself."""
    below, above = _tails(middle, std)
    z = (points - middle) / std
    return -0.5 * (z.square() + math.log(2 * math.pi)) - torch.log(std * (above - below))


def _tails(middle: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Phi at both ends of [-1, 1]."""
    ends = (-1.0 - middle) / std, (1.0 - middle) / std
    return torch.special.ndtr(ends[0]), torch.special.ndtr(ends[1])


def clone_of(spaces: Spaces, config: ProposalConfig, *data: Transitions, seed: int) -> Clone | None:
    """Of all `data`, each as much as any other; None where no proposals are drawn around it."""
    if spaces.discrete_actions is not None or not config.cloned:
        return None
    scaled = BoxProposals(spaces, config, None).scaled
    with threads_for(config.clone_hidden):
        return fit_clone(
            *((each, scaled(each.batch.actions)) for each in data),
            hidden=config.clone_hidden,
            steps=config.clone_steps,
            seed=derive_seed(seed, round=0, phase="clone"),
        )
