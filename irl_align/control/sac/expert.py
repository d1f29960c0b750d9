"""The true reward as a source of batches, for training experts and yardsticks.

The only way on which an environment's own reward can reach a learner: an environment that notes it
down (`NotingEnvironment`) and a source that hands it out (`TrueRewardSource`). The inverse learners
import neither, and a test holds that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, SupportsFloat

import torch
from torch import Tensor

from irl_align.control.buffers import ReplayBuffer
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_open

REWARDS = "true_rewards.pt"


class NotingEnvironment:
    """An environment that remembers the rewards of the steps since they were last asked for."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._noted: list[tuple[float, bool]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)

    def step(self, action: Any, /) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        result = self._environment.step(action)
        self._noted.append((float(result[1]), bool(result[2])))
        return result

    def noted(self) -> list[tuple[float, bool]]:
        """(reward, terminated) of each new step, oldest first."""
        noted, self._noted = self._noted, []
        return noted


class TrueRewardSource:
    """Replayed transitions with the rewards that the environment gave; 0 in absorbing states.

    The rewards stand in a column of their own beside the rows of `buffer`, which must be filled
    from steps of `environment` and nothing else.
    """

    def __init__(self, buffer: ReplayBuffer, environment: NotingEnvironment) -> None:
        self.buffer, self.environment = buffer, environment
        self.rewards = torch.zeros(buffer.capacity)

    def draw(self, batches: int, batch_size: int, /) -> tuple[Tensor, Tensor]:
        self.catch_up()
        index = self.buffer.draw_index(batches * batch_size)
        rows = self.buffer.rows(index).view(batches, batch_size, -1)
        return rows, self.rewards.index_select(0, index).view(batches, batch_size)

    def catch_up(self) -> None:
        """Take over what was noted, behind the rows that the buffer made of the same steps."""
        column: list[float] = []
        for reward, terminated in self.environment.noted():
            column.append(reward)
            if terminated:
                column += [0.0] * self.buffer.absorbing_transitions
        column = column[-self.buffer.capacity :]
        self.rewards[self.buffer.latest_index(len(column))] = torch.tensor(column)


class ExpertCodec(LearnerCodec):
    """A learner with the true rewards of its replay."""

    def __init__(self, learner: Learner, source: TrueRewardSource) -> None:
        super().__init__(learner)
        self.source = source

    def save(self, value: Learner, folder: Path, /) -> None:
        super().save(value, folder)
        self.source.catch_up()
        with atomic_open(folder / REWARDS) as file:
            torch.save(self.source.rewards[: len(value.buffer)].clone(), file)

    def load(self, folder: Path, /) -> Learner:
        learner = super().load(folder)
        path = folder / REWARDS
        try:
            rewards = torch.load(path, weights_only=True)
        except Exception as error:  # torch.load has no error of its own for foreign files
            raise UserError(f"{path}: missing or damaged: {error}") from error
        if len(rewards) != len(learner.buffer):
            raise UserError(
                f"{path}: {len(rewards)} rewards for {len(learner.buffer)} transitions; it belongs "
                "to another replay buffer"
            )
        self.source.rewards[: len(rewards)] = rewards
        return learner
