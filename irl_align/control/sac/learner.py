"""What a policy learner is between two rounds: agent, replay, counters; and as a folder on disk."""

from __future__ import annotations

import copy
import math
from collections import deque
from pathlib import Path
from typing import Any

import torch

from irl_align.control.buffers import ReplayBuffer
from irl_align.control.config import SACConfig
from irl_align.control.networks.numpy_actor import NumpyActor, save_actor
from irl_align.control.sac.agent import SAC
from irl_align.control.sac.step import TEMPORAL_DIFFERENCE, CriticLoss
from irl_align.control.spaces import Spaces
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.core.callbacks import Callback
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open
from irl_align.core.protocols import Metrics
from irl_align.core.run import RunDirectory

STATE, REPLAY, ACTOR = "learner.pt", "replay.pt", "actor.npz"


class Learner:
    """SAC with all that its next round depends on.

    Attributes:
        agent: see `SAC`.
        buffer: every transition so far, without rewards; one of another kind can be given.
        latest: the last whole episodes, at most `remember` of them.
        average: exponential moving average of the actor over `config.average_over` environment
            steps (updates, where none are taken); None when none is asked for.
        acting: what to evaluate and to deploy: the average, or the latest actor.
        steps: environment steps so far, counted once each.
        due: steps since the last update.
    """

    def __init__(
        self,
        spaces: Spaces,
        config: SACConfig,
        *,
        seed: int,
        absorbing: bool = False,
        remember: int = 0,
        planned_updates: int | None = None,
        critics: CriticLoss = TEMPORAL_DIFFERENCE,
        cloning: float = 0.0,
        buffer: ReplayBuffer | None = None,
    ) -> None:
        self.spaces, self.config = spaces, config
        self.agent = SAC(
            spaces,
            config,
            seed=seed,
            absorbing=absorbing,
            planned_updates=planned_updates,
            critics=critics,
            cloning=cloning,
        )
        if buffer is None:
            buffer = ReplayBuffer(
                config.capacity,
                spaces.observation_dim,
                spaces.action_dim,
                absorbing_transitions=config.absorbing_transitions if absorbing else 0,
                seed=seed,
            )
        self.buffer = buffer
        self.average = copy.deepcopy(self.agent.actor) if config.average_over is not None else None
        self.acting = self.agent.acting
        if self.average is not None:
            self.acting = NumpyActor.of(self.average.requires_grad_(False))
        self.latest: deque[Trajectory] = deque(maxlen=remember)
        self.steps = 0
        self.due = 0

    def take(self, trajectories: Trajectories) -> None:
        """Add whole episodes that were collected without learning from them on the way."""
        self.buffer.extend(trajectories)
        self.latest.extend(trajectories)
        self.steps += trajectories.total_steps

    @torch.no_grad()
    def follow(self, steps: int) -> None:
        """Move the average towards the actor, for `steps` environment steps that it took, or as
        many updates. Whoever improves the agent says so here: `acting` is the average."""
        if self.average is None or self.config.average_over is None:
            return
        share = 1.0 - math.exp(-steps / self.config.average_over)
        for slow, fast in zip(
            self.average.parameters(), self.agent.actor.parameters(), strict=True
        ):
            slow.lerp_(fast, share)

    def save(self, folder: Path) -> None:
        """Three files: the actor alone (for anyone), the replay, everything else."""
        state = {
            "agent": self.agent.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "steps": self.steps,
            "due": self.due,
            "latest": [_plain(t) for t in self.latest],
        }
        with atomic_open(folder / STATE) as file:
            torch.save(state, file)
        self.buffer.save(folder / REPLAY)
        save_actor(
            folder / ACTOR,
            self.acting,
            environment=self.spaces.environment,
            alpha=self.agent.alpha,
            steps=self.steps,
        )

    def load(self, folder: Path) -> None:
        """Go on exactly where `save` was called. UserError when a file is missing or damaged."""
        path = folder / STATE
        try:
            state = torch.load(path, weights_only=True)
            self.agent.load_state_dict(state["agent"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.steps, self.due = state["steps"], state["due"]
            self.latest.clear()
            self.latest.extend(_trajectory(t) for t in state["latest"])
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file; the learner's state is gone") from error
        except Exception as error:  # torch.load has no error of its own for foreign files
            raise UserError(f"{path}: not a learner of this configuration: {error}") from error
        self.buffer.load(folder / REPLAY)


class LearnerCodec:
    """How core's round loop keeps a learner. It loads into the one learner that there is."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def save(self, value: Learner, folder: Path, /) -> None:
        value.save(folder)

    def load(self, folder: Path, /) -> Learner:
        self.learner.load(folder)
        return self.learner


class ForgetReplay(Callback):
    """Keeps the replay of the last committed round only: no other can be taken up again.

    A replay of 10^6 transitions of a humanoid is 3 GB. The rest of a round stays.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def on_round_end(self, round: int, policy: Any, reward: Any, metrics: Metrics) -> None:
        if self.run.round_done(round):
            for earlier in self.run.committed_rounds():
                if earlier < round:
                    folder = self.run.phase_folder(earlier, "policy")
                    (folder / REPLAY).unlink(missing_ok=True)


def _plain(trajectory: Trajectory) -> dict[str, Any]:
    return {
        "observations": torch.from_numpy(trajectory.observations),
        "actions": torch.from_numpy(trajectory.actions),
        "terminated": trajectory.terminated,
        "truncated": trajectory.truncated,
    }


def _trajectory(saved: dict[str, Any]) -> Trajectory:
    return Trajectory(
        saved["observations"].numpy(),
        saved["actions"].numpy(),
        saved["terminated"],
        saved["truncated"],
    )
