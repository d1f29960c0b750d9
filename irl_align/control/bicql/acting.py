"""Acting without a policy network: pi(a|s) = exp(Q(s, a) - V(s)), by resampling.

With noise: actions a_j are drawn from a mixture of the box and the clone's surroundings, and one of
them is taken with probability in proportion to exp(Q(s, a_j)) / q(a_j). Without: the one with the
largest Q, then a search around it, each time half as wide. The random numbers of that search are
the same in every state, so that it is a function of the state.

Indices need neither: all of them are tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irl_align.control.bicql.cloning import Clone
from irl_align.control.bicql.config import ActingConfig, CriticConfig, ProposalConfig
from irl_align.control.bicql.critics import Critic, make_critic
from irl_align.control.bicql.log_sum_exp import Tried
from irl_align.control.bicql.proposals import (
    AllIndices,
    BoxProposals,
    Proposals,
    truncated_normal,
)
from irl_align.control.networks.stacked import Activation
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Floats
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open

# The first search's standard deviation, where the box reaches from -1 to 1.
_SEARCH = 0.1
Act = Callable[[Floats], NDArray[Any]]


class Resampled:
    """Policies of a critic, which they follow while it learns."""

    def __init__(
        self, spaces: Spaces, critic: Critic, clone: Clone | None, config: ActingConfig
    ) -> None:
        self.spaces, self.critic, self.clone, self.config = spaces, critic, clone, config
        self.proposals: Proposals
        if spaces.discrete_actions is not None:
            self.proposals = AllIndices(spaces.discrete_actions)
            return
        cloned = config.proposals // 2 if clone is not None else 0
        counts = ProposalConfig(uniform=config.proposals - cloned, cloned=cloned, near=0)
        self.proposals = BoxProposals(spaces, counts, clone)

    def stochastic(self, seed: int, /) -> Act:
        """Draws from exp Q, with a generator of its own."""
        generator = torch.Generator().manual_seed(seed)

        def choose(states: Tensor, tried: Tried, values: Tensor) -> Tensor:
            chances = torch.softmax(values + tried.log_weights, dim=-1)
            return torch.multinomial(chances, 1, generator=generator).squeeze(-1)

        return self._policy(choose, lambda: generator, alike=False, searches=0)

    def deterministic(self) -> Act:
        """The largest Q that is found."""

        def choose(states: Tensor, tried: Tried, values: Tensor) -> Tensor:
            return values.argmax(dim=-1)

        same = torch.Generator()
        searches = self.config.refinements
        return self._policy(choose, lambda: same.manual_seed(0), alike=True, searches=searches)

    def _policy(
        self,
        choose: Callable[[Tensor, Tried, Tensor], Tensor],
        numbers: Callable[[], torch.Generator],
        *,
        alike: bool,
        searches: int,
    ) -> Act:
        @torch.no_grad()
        def act(observation: Floats, /) -> NDArray[Any]:
            states = torch.from_numpy(np.atleast_2d(np.asarray(observation, dtype=np.float32)))
            generator = numbers()
            tried = self.proposals.tried(states, None, generator, alike=alike)
            values = self._values(states, tried.actions)
            chosen = choose(states, tried, values)
            if self.spaces.discrete_actions is not None:
                actions = chosen[:, None]
            else:
                actions = tried.actions[torch.arange(len(states)), chosen]
                for number in range(searches):
                    actions = self._around(states, actions, _SEARCH / 2**number, generator)
            found = actions.numpy()
            return found[0] if np.ndim(observation) == 1 else found

        return act

    def _values(self, states: Tensor, actions: Tensor) -> Tensor:
        return self.critic.spread(states, actions).amin(dim=0)

    def _around(
        self, states: Tensor, best: Tensor, std: float, generator: torch.Generator
    ) -> Tensor:
        """The best of `best` [B, A] and of what lies around it."""
        proposals = cast(BoxProposals, self.proposals)
        shape = 1, self.config.proposals, best.shape[-1]
        width = torch.full_like(proposals.half_width, std)
        middle = proposals.scaled(best)[:, None]
        points = truncated_normal(torch.rand(shape, generator=generator), middle, width)
        actions = proposals.centre + proposals.half_width * points
        actions = torch.cat([best[:, None], actions], dim=1)
        chosen = self._values(states, actions).argmax(dim=-1)
        return actions[torch.arange(len(states)), chosen]


def save_q_policy(path: Path, policy: Resampled, config: CriticConfig) -> None:
    """Write all that acting needs, atomically; `load_q_policy` reads it."""
    spaces, clone = policy.spaces, policy.clone
    saved = {
        "environment": spaces.environment,
        "observation_dim": spaces.observation_dim,
        "action_low": torch.from_numpy(spaces.action_low.copy()),
        "action_high": torch.from_numpy(spaces.action_high.copy()),
        "discrete_actions": spaces.discrete_actions,
        "hidden": list(config.hidden),
        "activation": config.activation,
        "members": config.members,
        "acting": asdict(policy.config),
        "critic": policy.critic.state_dict(),
        "clone": clone.state_dict() if clone is not None else None,
    }
    with atomic_open(path) as file:
        torch.save(saved, file)


def load_q_policy(path: Path) -> Resampled:
    """What `save_q_policy` wrote. UserError when the file is missing, damaged or something else."""
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        spaces = Spaces(
            saved["environment"],
            saved["observation_dim"],
            saved["action_low"].numpy(),
            saved["action_high"].numpy(),
            discrete_actions=saved["discrete_actions"],
        )
        critic = make_critic(
            spaces,
            saved["hidden"],
            members=saved["members"],
            activation=cast(Activation, saved["activation"]),
        )
        critic.load_state_dict(saved["critic"])
        clone = None
        if saved["clone"] is not None:
            weights = [w for name, w in saved["clone"].items() if name.endswith("weight")]
            clone = Clone(spaces.observation_dim, spaces.action_dim, [len(w) for w in weights[:-1]])
            clone.load_state_dict(saved["clone"])
        return Resampled(spaces, critic, clone, ActingConfig(**saved["acting"]))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such policy; check the path") from error
    except Exception as error:  # torch.load has no error of its own for foreign files
        raise UserError(f"{path}: not a policy of Q that can be loaded: {error}") from error
