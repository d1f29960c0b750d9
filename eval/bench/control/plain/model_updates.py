"""CPU and wall-clock milliseconds for an Adam step of every member: `listed`, one after the other,
or `stacked`."""

from __future__ import annotations

import torch

from eval.bench.control.plain.listed import Member
from eval.bench.control.plain.stacked import Stacked
from eval.bench.control.stopwatch import Stopwatch, arguments, report


def main(
    members: int,
    hidden: list[int],
    decay: list[float],
    batch_size: int,
    inputs: int,
    outputs: int,
    rows: int,
    updates: int,
    form: str,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(rows, inputs), torch.randn(rows, outputs)
    if form == "listed":
        ensemble = [Member(inputs, outputs, hidden) for _ in range(members)]
        optimisers = [torch.optim.Adam(member.parameters(), lr=1e-3) for member in ensemble]

        def update() -> None:
            for member, optimiser in zip(ensemble, optimisers, strict=True):
                index = torch.randint(rows, (batch_size,))
                optimiser.zero_grad()
                member.loss(x[index], y[index], decay).backward()
                optimiser.step()
    else:
        stacked = Stacked(members, inputs, outputs, hidden)
        optimiser = torch.optim.Adam(stacked.parameters(), lr=1e-3)

        def update() -> None:
            index = torch.randint(rows, (members, batch_size))
            optimiser.zero_grad()
            stacked.loss(x[index], y[index], decay).backward()
            optimiser.step()

    for _ in range(3):
        update()
    with Stopwatch() as watch:
        for _ in range(updates):
            update()
    report(cpu=watch.cpu / updates * 1e3, wall=watch.wall / updates * 1e3, updates=updates)


if __name__ == "__main__":
    main(**arguments())
