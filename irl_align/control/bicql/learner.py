"""What is learned at the lower level, between two rounds and as a folder on disk."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from irl_align.control.bicql.acting import Resampled, save_q_policy
from irl_align.control.bicql.cloning import Clone
from irl_align.control.bicql.config import (
    ActingConfig,
    ConservativeConfig,
    CriticConfig,
    ProposalConfig,
)
from irl_align.control.bicql.critics import make_critic
from irl_align.control.bicql.log_sum_exp import Tried, soft_value
from irl_align.control.bicql.proposals import AllIndices, BoxProposals, Proposals
from irl_align.control.bicql.step import LOSSES, Parts, Settings, asked, compiled_update, update
from irl_align.control.buffers import Layout
from irl_align.control.networks.stacked import Activation
from irl_align.control.sac.adam import Moments
from irl_align.control.sac.compiling import worth_compiling
from irl_align.control.spaces import Spaces
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open

STATE, POLICY = "q_learner.pt", "q_policy.pt"


class QLearner:
    """Conservative Q-learning with soft targets; the policy is exp Q.

    Args:
        layout: of the transitions, whose actions are unit vectors where they are indices.
        clone: see `cloning`; None without one. It is kept and saved with the rest.
        seed: of the initial weights.
        planned_updates: what `compile: auto` decides by; None does not compile.

    Attributes:
        acting: how it acts (see `acting`), on the networks that learn.
        steps: 0, for it takes no environment steps.
        direction: of the last change of r that `contraction` looked at [P]; empty before.

    Raises UserError when actions are a box without bounds, or `compile: always` cannot be had.
    """

    steps = 0

    def __init__(
        self,
        spaces: Spaces,
        layout: Layout,
        critic: CriticConfig,
        conservative: ConservativeConfig,
        proposals: ProposalConfig,
        acting: ActingConfig,
        *,
        clone: Clone | None,
        seed: int,
        planned_updates: int | None = None,
    ) -> None:
        self.spaces, self.layout, self.config, self.clone = spaces, layout, critic, clone
        self.proposals: Proposals
        if spaces.discrete_actions is not None:
            self.proposals = AllIndices(spaces.discrete_actions)
        else:
            self.proposals = BoxProposals(spaces, proposals, clone, conservative.blur)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            first = make_critic(
                spaces,
                critic.hidden,
                members=critic.members,
                activation=cast(Activation, critic.activation),
            )
        log_alpha = torch.tensor(math.log(conservative.alpha) if conservative.alpha else -math.inf)
        self.parts = Parts(
            first,
            copy.deepcopy(first).requires_grad_(False),
            log_alpha,
            Moments.of(list(first.parameters())),
            Moments.of([log_alpha]),
        )
        self.settings = Settings(
            critic.gamma,
            critic.tau,
            critic.learning_rate,
            critic.gradient_clip,
            conservative.expert_weight,
            conservative.states == "mixture",
            conservative.target_gap,
            conservative.alpha_learning_rate,
            conservative.alpha_max,
        )
        self.acting = Resampled(spaces, first, clone, acting)
        self.direction = torch.zeros(0)
        self.compiled = worth_compiling(
            critic.compile,
            planned_updates,
            key="critic.compile",
            loss="updates of Q run slower than they could",
        )

    @property
    def updates(self) -> int:
        """How many were ever made."""
        return int(self.parts.critic_moments.count.item())

    def update(self, rows: Tensor, rewards: Tensor, generator: torch.Generator) -> Tensor:
        """One update on rows [2 B, width] (D_E, then D) with rewards [2 B]; `LOSSES` [7]."""
        batch = self.layout.unpack(rows)
        where = asked(self.settings, len(rows) // 2)
        tried = self.proposals.tried
        here = tried(batch.observations[where], batch.actions[where], generator)
        there = tried(batch.next_observations, None, generator)
        raised = self.proposals.blurred(batch.actions, generator)
        function = compiled_update if self.compiled else update
        return function(
            self.parts, self.settings, self.layout, rows, rewards, raised, *here, *there
        )

    @torch.no_grad()
    def values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """min_i Q_i(s, a): [B, O], [B, A] -> [B]."""
        return self.parts.critic(observations, actions).amin(dim=0)

    @torch.no_grad()
    def soft_values(self, observations: Tensor, tried: Tried) -> Tensor:
        """V(s) of min_i Q_i: [B, O] -> [B]."""
        spread = self.parts.critic.spread(observations, tried.actions).amin(dim=0)
        return soft_value(spread, tried.log_weights)

    def advantages(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A = Q(s, a) - gamma (1 - d) V'(s') of rows [B, width]: [B].

        Q is the critics' mean, not the smaller one: a reward that follows the smaller one gives
        both a target of which it is the better half, and round by round the level of Q sinks.

        V' is that of the critics themselves, not of the slow ones that Q's targets take. Q and
        r = A fit each other at any level, so nothing calls a level back that has begun to move.
        Measured against the slow critics, which are late, a Q that sinks has a small A, therefore
        a small r, and sinks on; against its own V', the slow ones pull it back.
        """
        batch = self.layout.unpack(rows)
        tried = self.proposals.tried(batch.next_observations, None, generator)
        following = self.soft_values(batch.next_observations, tried)
        going = self.settings.gamma * (1.0 - batch.terminated)
        with torch.no_grad():
            q = self.parts.critic(batch.observations, batch.actions).mean(dim=0)
        return q - going * following

    def save(self, folder: Path) -> None:
        """Two files: the policy alone (for anyone), and everything."""
        parts = self.parts
        state = {
            "critic": parts.critic.state_dict(),
            "target": parts.target.state_dict(),
            "log_alpha": parts.log_alpha,
            "critic_moments": parts.critic_moments.state_dict(),
            "alpha_moments": parts.alpha_moments.state_dict(),
            "clone": self.clone.state_dict() if self.clone is not None else None,
            "direction": self.direction,
        }
        with atomic_open(folder / STATE) as file:
            torch.save(state, file)
        save_q_policy(folder / POLICY, self.acting, self.config)

    def load(self, folder: Path) -> None:
        """Go on exactly where `save` was called, in place. UserError when it cannot be."""
        path, parts = folder / STATE, self.parts
        try:
            state = torch.load(path, weights_only=True)
            parts.critic.load_state_dict(state["critic"])
            parts.target.load_state_dict(state["target"])
            parts.log_alpha.copy_(state["log_alpha"])
            parts.critic_moments.load_state_dict(state["critic_moments"])
            parts.alpha_moments.load_state_dict(state["alpha_moments"])
            if self.clone is not None:
                self.clone.load_state_dict(state["clone"])
            self.direction = state["direction"]
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file; the learner's state is gone") from error
        except Exception as error:  # torch.load has no error of its own for foreign files
            raise UserError(f"{path}: not a learner of this configuration: {error}") from error


class QLearnerCodec:
    """How core's round loop keeps a learner. It loads into the one learner that there is."""

    def __init__(self, learner: QLearner) -> None:
        self.learner = learner

    def save(self, value: QLearner, folder: Path, /) -> None:
        value.save(folder)

    def load(self, folder: Path, /) -> QLearner:
        self.learner.load(folder)
        return self.learner


def named(losses: Tensor) -> dict[str, float]:
    """What `QLearner.update` returned, by the keys of metrics."""
    return {f"policy/{key}": float(value) for key, value in zip(LOSSES, losses, strict=True)}
