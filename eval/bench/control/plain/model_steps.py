"""CPU and wall-clock milliseconds for 1,000 penalised steps in the model, members `listed` or
`stacked`: all rows of a step at once, with numpy between policy and model."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from eval.bench.control.plain.listed import Member
from eval.bench.control.plain.stacked import Stacked
from eval.bench.control.stopwatch import Stopwatch, arguments, report


def main(
    members: int,
    hidden: list[int],
    policy_hidden: int,
    observations: int,
    actions: int,
    starts: int,
    horizon: int,
    form: str,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    inputs = observations + actions
    listed = [Member(inputs, observations, hidden) for _ in range(members)]
    stacked = Stacked(members, inputs, observations, hidden)
    policy = nn.Sequential(
        *(nn.Linear(observations, policy_hidden), nn.ReLU()),
        *(nn.Linear(policy_hidden, policy_hidden), nn.ReLU()),
        nn.Linear(policy_hidden, 2 * actions),
    )
    mean_of_inputs, std_of_inputs = np.zeros(inputs), np.ones(inputs)
    elites = np.arange(min(5, members))
    kept = []

    def roll_out(state: np.ndarray) -> int:
        made = 0
        for _ in range(horizon):
            with torch.no_grad():
                mean, log_std = policy(torch.as_tensor(state, dtype=torch.float32)).chunk(2, -1)
                action = torch.tanh(torch.distributions.Normal(mean, log_std.exp()).sample())
            action = action.numpy()
            x = (np.concatenate([state, action], axis=1) - mean_of_inputs) / std_of_inputs
            given = torch.as_tensor(x, dtype=torch.float32)
            with torch.no_grad():
                if form == "listed":
                    each = [member(given) for member in listed]
                    means = np.stack([of_one.numpy() for of_one, _ in each])
                    log_vars = np.stack([of_one.numpy() for _, of_one in each])
                else:
                    means, log_vars = (tensor.numpy() for tensor in stacked(given))
            all_means, all_stds = means + state, np.sqrt(np.exp(log_vars))
            samples = all_means + rng.normal(size=all_means.shape) * all_stds
            following = samples[rng.choice(elites, size=len(state)), np.arange(len(state))]
            penalty = np.linalg.norm(all_stds, axis=2).max(axis=0)
            kept.append((state, action, following, penalty))
            state = following
            made += len(state)
        return made

    first = rng.normal(size=(starts, observations)).astype(np.float32)
    roll_out(first[:1_000])
    kept.clear()
    with Stopwatch() as watch:
        made = roll_out(first)
    report(cpu=watch.cpu / made * 1e6, wall=watch.wall / made * 1e6, steps=made)


if __name__ == "__main__":
    main(**arguments())
