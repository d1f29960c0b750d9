from __future__ import annotations

import numpy as np
import pytest
import torch

from irl_align.control.buffers import Layout
from irl_align.control.demonstrations.report import DemonstrationReport
from irl_align.control.offline.comparison import InTheModel, imagined_steps
from irl_align.control.offline.config import ComparisonConfig
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.reward_fit import Weighted
from irl_align.control.trajectories import Trajectories, Trajectory
from irl_align.control.world_model.model import Imagined
from irl_align.core.protocols import PhaseContext


class Walk:
    """s = (name, t): t grows by the action; over as soon as t reaches `end`."""

    def __init__(self, end: float = 1e9) -> None:
        self.end = end

    def step(self, observations, actions, generator, penalty):
        following = torch.stack([observations[:, 0], observations[:, 1] + actions[:, 0]], dim=1)
        return Imagined(following, following[:, 1] >= self.end, torch.zeros(len(observations)))


def one(observations, generator):
    return torch.ones(len(observations), 1)


class Policy:
    """What the verb reads of a learner; its actions are 1 and its buffer holds three rows."""

    class agent:
        alpha = 0.3

        class actor:
            centre = torch.zeros(1)

            @staticmethod
            def sample(observations, noise):
                assert noise.shape == (len(observations), 1)

                class Sample:
                    actions = torch.ones(len(observations), 1)

                return Sample

    class buffer:
        layout = Layout(2, 1)

        def __len__(self):
            return 3

        @staticmethod
        def rows(index):
            return torch.arange(18.0).view(3, 6)[index]

    buffer = buffer()  # type: ignore[misc]


def expert(number: int, length: int, terminated: bool) -> Trajectory:
    """Its states are (number, 100 + t), its actions t."""
    times = np.arange(length + 1)
    observations = np.stack([np.full(length + 1, number), 100 + times], axis=1)
    return Trajectory(observations, times[:-1, None], terminated, not terminated)


DATA = OfflineDataset(
    Layout(2, 1), torch.zeros(4, 6), torch.tensor([[50.0, 0], [60, 0]]), DemonstrationReport("x")
)


def sampled(demonstrations, model=None, gamma=1.0, **changes):
    config = ComparisonConfig(**{"rollouts": 6, "horizon": 4, **changes})
    verb = InTheModel(model or Walk(), Trajectories(demonstrations), DATA, config, gamma=gamma)
    return verb.sample(Policy(), PhaseContext(0, "sample", 5, None, []))


def test_rollouts_begin_where_the_expert_did_and_are_as_long():
    found, told = sampled([expert(1, 9, False), expert(2, 9, True)])
    assert torch.bincount(found.agent.trajectory).tolist() == [4] * 6
    assert torch.bincount(found.expert.trajectory).tolist() == [4] * 2
    first = found.agent.observations[::4]
    assert sorted(first[:, 0].tolist()) == [1, 1, 1, 2, 2, 2]
    assert (first[:, 1] == 100).all()
    torch.testing.assert_close(found.agent.weights, torch.full((24,), 0.25))
    assert told == {"samples/length": 4, "samples/demo_length": 4}
    assert found.alpha == 0.3 and found.replay is None


def test_no_side_knows_more_of_time_than_the_other():
    """A demonstration that was cut after three steps cuts both sides there; an end does not."""
    found, _ = sampled([expert(1, 3, False), expert(2, 9, True)])
    assert torch.bincount(found.agent.trajectory).tolist() == [3] * 6
    assert torch.bincount(found.expert.trajectory).tolist() == [3, 3]
    found, told = sampled([expert(1, 3, True), expert(2, 9, True)])
    assert torch.bincount(found.agent.trajectory).tolist() == [4] * 6
    assert torch.bincount(found.expert.trajectory).tolist() == [3, 4]
    assert told["samples/demo_length"] == 3.5


def test_anywhere_puts_each_rollout_beside_what_the_expert_did_from_there():
    found, _ = sampled(
        [expert(1, 20, False), expert(2, 6, True)], start="anywhere", rollouts=400, horizon=4
    )
    place = found.agent.trajectory.diff(prepend=torch.tensor([-1])) > 0
    mine = found.agent.observations[place]
    place = found.expert.trajectory.diff(prepend=torch.tensor([-1])) > 0
    theirs = found.expert.observations[place]
    assert torch.equal(mine, theirs) and len(mine) == 400
    assert torch.equal(found.expert.observations[:, 1] - 100, found.expert.actions[:, 0])
    # Cut after 20 steps, so the last start is 16; ended after 6, so any of them.
    assert set(mine[mine[:, 0] == 1][:, 1].tolist()) == set(range(100, 117))
    assert set(mine[mine[:, 0] == 2][:, 1].tolist()) == set(range(100, 106))
    lengths = torch.bincount(found.expert.trajectory)
    wanted = torch.where(mine[:, 0] == 1, 4, (106 - mine[:, 1]).clamp(max=4)).long()
    assert torch.equal(lengths, wanted)


def test_data_set_starts():
    found, _ = sampled([expert(1, 9, False)], start="dataset", rollouts=40)
    assert set(found.agent.observations[::4, 0].tolist()) == {50, 60}
    assert (found.agent.observations[::4, 1] == 0).all()
    assert found.expert.observations[:, 0].tolist() == [1] * 4


def test_a_rollout_that_ends_has_a_shorter_sum():
    demonstrations = [expert(1, 9, True)]
    found, told = sampled(demonstrations, Walk(end=102), gamma=0.5)
    assert told["samples/length"] == 2
    returns = found.agent.returns(torch.ones(len(found.agent.weights)))
    torch.testing.assert_close(returns, torch.full((6,), (1 + 0.5) / 4))
    returns = found.expert.returns(torch.ones(len(found.expert.weights)))
    torch.testing.assert_close(returns, torch.tensor([(1 + 0.5 + 0.25 + 0.125) / 4]))


def test_imagined_steps_stand_as_trajectories_do():
    """The same numbers as `Weighted.of` makes of the rollouts as trajectories."""
    starts = torch.tensor([[1.0, 0], [2, 3], [3, 1]])
    found = imagined_steps(Walk(end=4), one, starts, 5, torch.Generator(), 0.9)
    trajectories = Trajectories(
        Trajectory(
            np.array([[name, t] for t in range(int(first), 5)]),
            np.ones((4 - int(first), 1)),
            True,
            False,
        )
        for name, first in starts.tolist()
    )
    wanted = Weighted.of(trajectories, 5, 0.9)
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other)


def test_old_imagined_steps_join_where_asked():
    found, _ = sampled([expert(1, 9, False)], replay_share=0.5, replay_steps=30)
    assert found.replay is not None and len(found.replay.observations) == 30
    assert set(found.replay.observations[:, 0].tolist()) == {0, 6, 12}


@pytest.mark.parametrize("start", ["expert", "anywhere", "dataset"])
def test_the_phase_s_seed_decides(start):
    demonstrations = [expert(1, 9, False), expert(2, 30, False)]
    one, other = (sampled(demonstrations, start=start)[0] for _ in range(2))
    assert torch.equal(one.agent.observations, other.agent.observations)
    assert torch.equal(one.expert.observations, other.expert.observations)
