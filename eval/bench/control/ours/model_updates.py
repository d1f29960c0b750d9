"""CPU and wall-clock milliseconds for a step of the whole ensemble."""

from __future__ import annotations

import torch

from eval.bench.control.stopwatch import Stopwatch, arguments, report
from irl_align.control.sac.adam import Moments
from irl_align.control.world_model.network import GaussianEnsemble
from irl_align.control.world_model.step import Settings, compiled_update


def main(
    members: int,
    hidden: list[int],
    decay: list[float],
    batch_size: int,
    inputs: int,
    outputs: int,
    rows: int,
    updates: int,
) -> None:
    torch.set_num_threads(1)
    generators = [torch.Generator().manual_seed(k) for k in range(members)]
    # As `fit` does it where steps are compiled: each member is a group of its own.
    ensembles = [GaussianEnsemble(1, inputs, outputs, hidden, "silu", [g]) for g in generators]
    moments = [Moments.of(list(ensemble.parameters())) for ensemble in ensembles]
    settings = Settings(1e-3, tuple(decay), inputs)
    data, step = torch.randn(rows, inputs + outputs), compiled_update()

    def update() -> None:
        for ensemble, its_moments in zip(ensembles, moments, strict=True):
            index = torch.randint(rows, (batch_size,))
            step(ensemble, its_moments, settings, data[index].view(1, batch_size, -1))

    for _ in range(3):
        update()
    with Stopwatch() as watch:
        for _ in range(updates):
            update()
    report(cpu=watch.cpu / updates * 1e3, wall=watch.wall / updates * 1e3, updates=updates)


if __name__ == "__main__":
    main(**arguments())
