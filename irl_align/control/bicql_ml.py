"""BiCQL-ML (arXiv 2511.22210): offline inverse RL with two levels that share one Q.

    max_theta  E_{D_E}[log pi(a|s)],   pi = exp(Q - V),   V(s) = log int exp Q(s, a) da
    s.t.       Q = argmin E[(Q - r_theta - gamma V')^2] + alpha (E[V] - E_m[Q])

from demonstrations D_E and transitions D of anybody, of which no reward is ever read. A round k:

    sample    soft advantages A = Q_k(s, a) - gamma V'(s') on minibatches of D_E
    reward    theta_{k+1}: K_R steps of regression onto A, with E_D[r^2] kept small
    policy    Q_{k+1}: K_Q updates of conservative Q-learning under r_{k+1}
    evaluate  the true return, which nothing else here ever sees

There is no policy network: acting is resampling from exp Q (`bicql.acting`). Why the conservative
term is all that is learned from, what w_E in m = w_E D_E + (1 - w_E) D decides, and why soft values
are taken over m's states, is shown exactly in `tabular.bicql` and `tests/theory`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from irl_align.control.bicql.config import BiCQLConfig
from irl_align.control.bicql.contraction import Gains, round_gains
from irl_align.control.bicql.judging import Judged
from irl_align.control.bicql.learner import QLearner, QLearnerCodec, named
from irl_align.control.bicql.proposals import clone_of
from irl_align.control.bicql.regression import AdvantageRegression, SoftAdvantages
from irl_align.control.bicql.segments import load_segments
from irl_align.control.fixed_data import fixed_data
from irl_align.control.looping import Verbs
from irl_align.control.reward_fit import LearnedReward, RewardCodec
from irl_align.control.sac.batches import RewardFunction
from irl_align.control.sac.compiling import threads_for
from irl_align.control.transitions import Transitions
from irl_align.core.errors import UserError
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result


class ConservativeQ:
    """The policy verb: K_Q updates; in monitored rounds with L_Q and L_ML besides."""

    def __init__(
        self,
        demonstrations: Transitions,
        data: Transitions,
        config: BiCQLConfig,
        advantages: SoftAdvantages,
        regression: AdvantageRegression,
    ) -> None:
        self.demonstrations, self.data, self.config = demonstrations, data, config
        self.advantages, self.regression = advantages, regression
        half = max(1, config.monitor.probes // 2)
        self._probes = torch.cat([demonstrations.head(half).rows, data.head(half).rows])

    def improve(
        self, policy: QLearner, reward: LearnedReward, samples: object, ctx: PhaseContext, /
    ) -> tuple[QLearner, Metrics]:
        every = self.config.monitor.every
        before = copy.deepcopy(policy) if every and ctx.round % every == 0 else None
        with threads_for(policy.config.hidden):
            losses = self._updates(policy, reward.net, ctx.seed)
            if not torch.isfinite(losses).all():
                raise UserError("Q is no longer finite; lower critic.learning_rate")
            metrics = named(losses)
            if before is not None:
                gains = self._gains(before, policy, reward, ctx)
                policy.direction = gains.direction
                metrics["contraction/l_q"] = gains.l_q
                metrics["contraction/l_ml"] = gains.l_ml
                metrics["contraction/product"] = gains.product
        return policy, metrics

    def _updates(self, policy: QLearner, reward: RewardFunction, seed: int) -> Tensor:
        """K_Q updates with the random numbers of `seed`: the mean of their losses."""
        config = self.config.critic
        generator = torch.Generator().manual_seed(seed)
        losses = []
        for _ in range(config.steps):
            sides = self.demonstrations, self.data
            rows = torch.cat([side.draw(config.batch_size, generator) for side in sides])
            batch = self.data.layout.unpack(rows)
            with torch.no_grad():
                rewards = reward(batch.observations, batch.actions)
            losses.append(policy.update(rows, rewards, generator))
        return torch.stack(losses).mean(dim=0)

    def _gains(
        self, before: QLearner, after: QLearner, reward: LearnedReward, ctx: PhaseContext
    ) -> Gains:
        """See `contraction`; leaves everything as it is."""
        probes = self.data.layout.unpack(self._probes)
        theta = parameters_to_vector(reward.net.parameters()).detach()

        def with_rewards(vector: Tensor) -> LearnedReward:
            other = copy.deepcopy(reward)
            vector_to_parameters(vector, other.net.parameters())
            return other

        def with_values(vector: Tensor) -> QLearner:
            other = copy.deepcopy(after)
            vector_to_parameters(vector, other.parts.critic.parameters())
            return other

        def lower(vector: Tensor) -> Tensor:
            learner = copy.deepcopy(before)
            self._updates(learner, with_rewards(vector).net, ctx.seed)
            return _parameters(learner)

        def upper(vector: Tensor) -> Tensor:
            samples, _ = self.advantages.sample(with_values(vector), ctx)
            fitted, _ = self.regression.fit(copy.deepcopy(reward), samples, ctx)
            return parameters_to_vector(fitted.net.parameters()).detach()

        def rewards(vector: Tensor) -> Tensor:
            with torch.no_grad():
                return with_rewards(vector).net(probes.observations, probes.actions)

        def values(vector: Tensor) -> Tensor:
            return with_values(vector).values(probes.observations, probes.actions)

        direction = before.direction
        if direction.shape != theta.shape:
            generator = torch.Generator().manual_seed(ctx.seed)
            direction = torch.randn(theta.shape, generator=generator)
        return round_gains(
            theta,
            direction,
            self.config.monitor.size,
            lower=lower,
            upper=upper,
            rewards=rewards,
            values=values,
            at_rest=_parameters(after),
        )


def bicql(
    config: BiCQLConfig,
    *,
    data: Transitions | None = None,
    loggers: Sequence[Logger] = (),
    keep: bool = True,
    **trainer: Any,
) -> Result[QLearner, LearnedReward]:
    """Run or resume what `config` describes, until its rounds are done.

    Args:
        data: D in memory, instead of `config.dataset`; actions that are indices as such.
        keep: with False nothing is written.
        trainer: what else BilevelTrainer takes (`callbacks`).

    The history holds the metrics of the verbs (`samples/...`, `reward/...`, `policy/...` as
    `bicql.step.LOSSES` has them) and of `Judged`. Raises UserError when demonstrations, data or
    preferences cannot be used, before anything is run.
    """
    with fixed_data(config) as here:
        spaces = here.spaces
        found = here.demonstrations()
        wanted, segments = config.preferences, None
        if wanted.path is not None:
            segments = load_segments(wanted.path, spaces)
        others = here.data(data, found).with_one_hot_actions(spaces)
        shown = Transitions.of(found.trajectories).with_one_hot_actions(spaces)
        learner = QLearner(
            spaces,
            others.layout,
            config.critic,
            config.conservative,
            config.proposals,
            config.acting,
            clone=clone_of(spaces, config.proposals, shown, others, seed=config.seed),
            seed=config.seed,
            planned_updates=config.rounds * config.critic.steps,
        )
        reward = LearnedReward(*others.layout, config.reward.net(), seed=config.seed)
        reward.facts["environment"] = spaces.environment
        reward.facts["alpha"] = 1.0  # the temperature of exp Q
        if spaces.discrete_actions is not None:
            reward.facts["actions"] = "unit vectors"
        ends = bool(shown.batch.terminated.any() or others.batch.terminated.any())
        hold = config.reward.hold or ("nothing" if ends else "reward")
        advantages = SoftAdvantages(shown, config.reward, hold=hold)
        regression = AdvantageRegression(others, config.reward, wanted, segments)
        verbs = Verbs(
            policy=ConservativeQ(shown, others, config, advantages, regression),
            sampler=advantages,
            reward=regression,
        )
        sources = {
            "demonstrations": found.report.sha256,
            "dataset": others.sha256(),
            "preferences": segments.sha256 if segments is not None else None,
        }
        return here.run(
            verbs,
            learner,
            reward,
            Codecs(policy=QLearnerCodec(learner), reward=RewardCodec(reward)),
            evaluator=Judged(here.evaluator, shown, others),
            loggers=loggers,
            keep=keep,
            manifest=lambda number: sources,
            **trainer,
        )


def _parameters(learner: QLearner) -> Tensor:
    return parameters_to_vector(learner.parts.critic.parameters()).detach().clone()
