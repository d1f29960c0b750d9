"""Acting and learning in turn."""

from __future__ import annotations

import torch
from torch import Tensor

from irl_align.control.policies import Policy, RandomPolicy
from irl_align.control.rollouts import Collector, Rollouts
from irl_align.control.sac.agent import named
from irl_align.control.sac.batches import BatchSource
from irl_align.control.sac.compiling import threads_for
from irl_align.control.sac.learner import Learner
from irl_align.control.trajectories import Transition


def train(
    learner: Learner,
    collector: Collector,
    source: BatchSource,
    episodes: int,
    *,
    seed: int,
    random: bool = False,
) -> tuple[Rollouts, dict[str, float]]:
    """Collect `episodes` with the stochastic policy, with one update for each step on the way.

    The updates of `update_every` steps are made together, from the first moment on at which the
    buffer holds a batch. With `random` the actions are uniform and nothing is learned yet.

    Returns what happened (with the environment's rewards, for reports) and the metrics
    `policy/{critic_loss,actor_loss,alpha,entropy}` averaged over the updates.
    """
    config, agent, buffer = learner.config, learner.agent, learner.buffer
    policy: Policy = RandomPolicy(learner.spaces, seed) if random else agent.acting.stochastic(seed)
    losses: list[Tensor] = []

    def on_step(transition: Transition) -> None:
        buffer.add(transition)
        learner.steps += 1
        if random:
            return
        learner.due += 1
        if learner.due >= config.update_every and len(buffer) >= config.batch_size:
            rows, rewards = source.draw(config.update_every, config.batch_size)
            losses.append(agent.update(rows, rewards))
            learner.due -= config.update_every

    with threads_for(config.hidden):
        rollouts = collector.collect(policy, episodes, seed=seed, on_step=on_step)
    learner.latest.extend(rollouts.trajectories)
    if not random:
        learner.follow(rollouts.trajectories.total_steps)
    return rollouts, named(torch.stack(losses).mean(dim=0)) if losses else {}
