"""ValueDICE (Kostrikov et al. 2020), offline: imitation from demonstrations alone.

    max_pi min_nu  J = log E_E[exp(nu(s, a) - gamma (1 - d) nu(s', a'))]
                       - (1 - gamma) E_{s0}[nu(s0, a0)]

with a' ~ pi(.|s'), a0 ~ pi(.|s0). The inner minimum is -KL(d_pi || d_E) (Donsker-Varadhan, after
nu - B_pi nu has taken the place of the log ratio), so pi moves its occupancy onto the
demonstrator's without a step in the environment. No reward is learned.

As in the authors' offline runs: every demonstrated state may be a start, observations are
standardised by the demonstrations, the replay's share is 0. The gradient penalty is taken at random
points between demonstrated steps and those that pi would take. Left out: absorbing states (an early
end is a transition without a successor).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from irl_align.control.baselines.value_dice_learner import (
    ValueDICE,
    ValueDICECodec,
    ValueDICEConfig,
)
from irl_align.control.evaluating import ReturnEvaluator
from irl_align.control.fixed_data import fixed_data
from irl_align.control.looping import Verbs
from irl_align.control.sac.compiling import threads_for
from irl_align.control.transitions import Transitions
from irl_align.core.errors import UserError
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result


class Matching:
    """The policy verb: some updates, with random numbers of the phase's own seed."""

    def __init__(self, data: Transitions, config: ValueDICEConfig) -> None:
        self.data, self.config = data, config

    def improve(
        self, policy: ValueDICE, reward: object, samples: object, ctx: PhaseContext, /
    ) -> tuple[ValueDICE, Metrics]:
        generator = torch.Generator().manual_seed(ctx.seed)
        with threads_for(self.config.hidden):
            found = [policy.update(self.data, generator) for _ in range(self.config.steps)]
        value, penalty, log_prob = torch.stack(found).mean(dim=0).tolist()
        if not math.isfinite(value + penalty + log_prob):
            raise UserError("nu is no longer finite; lower nu_learning_rate")
        return policy, {
            "policy/objective": value,
            "policy/penalty": penalty,
            "policy/entropy": -log_prob,
        }


class Compared:
    """The evaluation: `ReturnEvaluator`, with updates and the demonstrations' likelihood."""

    def __init__(self, returns: ReturnEvaluator, data: Transitions) -> None:
        self.returns, self.data = returns, data

    def evaluate(self, policy: ValueDICE, reward: object, ctx: PhaseContext, /) -> Metrics:
        found = dict(self.returns.evaluate(policy, reward, ctx))
        found["steps/updates"] = policy.updates
        if self.returns.due(ctx.round, policy.steps):
            batch = self.data.batch
            log_prob = policy.log_prob(batch.observations, batch.actions)
            found["eval/demo_log_prob"] = log_prob.mean().item()
        return found


def value_dice(
    config: ValueDICEConfig,
    *,
    data: Transitions | None = None,
    loggers: Sequence[Logger] = (),
    keep: bool = True,
    **trainer: Any,
) -> Result[ValueDICE, None]:
    """Run or resume what `config` describes, until its rounds are done.

    Args:
        data: must be None, as `config.dataset` must.
        keep, trainer: as of `bicql`.

    The history holds `policy/{objective,penalty,entropy}` and the metrics of `Compared`. Raises
    UserError when the demonstrations cannot be used, before anything is run.
    """
    if data is not None:
        raise UserError("value_dice learns from demonstrations alone; give it no other data")
    with fixed_data(config) as here:
        found = here.demonstrations()
        shown = Transitions.of(found.trajectories)
        learner = ValueDICE(here.spaces, shown, config)
        verbs: Verbs[ValueDICE, None] = Verbs(policy=Matching(shown, config))
        return here.run(
            verbs,
            learner,
            None,
            Codecs(policy=ValueDICECodec(learner)),
            evaluator=Compared(here.evaluator, shown),
            loggers=loggers,
            keep=keep,
            manifest=lambda number: {"demonstrations": found.report.sha256},
            **trainer,
        )
