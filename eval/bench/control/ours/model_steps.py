"""CPU and wall-clock milliseconds for 1,000 penalised steps in the model, buffer included."""

from __future__ import annotations

import numpy as np
import torch

from eval.bench.control.stopwatch import Stopwatch, arguments, report
from irl_align.control.networks.actor import SquashedGaussianActor
from irl_align.control.spaces import Spaces
from irl_align.control.world_model.model import WorldModel
from irl_align.control.world_model.network import GaussianEnsemble, Scales
from irl_align.control.world_model.rollouts import PenalisedBuffer, fill, stochastic
from irl_align.control.world_model.terminations import Never


def main(
    members: int,
    hidden: list[int],
    policy_hidden: int,
    observations: int,
    actions: int,
    starts: int,
    horizon: int,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    box = np.ones(actions, np.float32)
    spaces = Spaces("Bench-v0", observations, -box, box)
    act = stochastic(SquashedGaussianActor(spaces, [policy_hidden, policy_hidden]))
    generators = [torch.Generator().manual_seed(k) for k in range(members)]
    model = WorldModel(
        GaussianEnsemble(members, observations + actions, observations, hidden, "silu", generators),
        Scales(observations, actions),
        torch.arange(min(5, members)),
        Never(),
    )
    buffer = PenalisedBuffer(starts * horizon, observations, actions)
    generator = torch.Generator().manual_seed(0)

    def roll_out(first: torch.Tensor) -> float:
        told = fill(buffer, model, act, first, horizon, generator, penalty="mopo_default")
        return told["model/steps"]

    first = torch.randn(starts, observations)
    roll_out(first[:1_000])
    with Stopwatch() as watch:
        made = roll_out(first)
    report(cpu=watch.cpu / made * 1e6, wall=watch.wall / made * 1e6, steps=made)


if __name__ == "__main__":
    main(**arguments())
