"""Offline maximum-likelihood IRL (thesis Alg. 3), as the verbs of core's round loop.

    max_theta E_E[sum_t gamma^t log pi_theta(a_t|s_t)]
    s.t.      pi_theta = argmax_pi E_{pi, P_hat}[sum_t gamma^t (r_theta - lambda u + alpha H(pi))]

r_theta, u and H are of (s_t, a_t) and pi(.|s_t). P_hat is a world model of a data set of
transitions, u >= 0 how unsure it is. It is fitted before the first round; then a round k,
warm-started from the one before, is:

    sample    rollouts of pi_k in P_hat, and the expert's steps from the same kind of states
    reward    theta_{k+1}: Adam on E_A[sum_t r(s_t, a_t; theta)] - E_E[sum_t r(s_t, a_t; theta)],
              `reward.steps` of them on the same samples
    policy    pi_{k+1}: MOPO, that is SAC on short rollouts in P_hat with rewards r_{k+1} - lambda u
    evaluate  the true return, which nothing else here ever sees

The rewards of the data set's own file reach nothing here (`offline.dataset`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from irl_align.control.assembly import world
from irl_align.control.looping import Verbs
from irl_align.control.offline.comparison import Comparison, InTheModel
from irl_align.control.offline.config import OfflineMLIRLConfig
from irl_align.control.offline.dataset import OfflineDataset
from irl_align.control.offline.improvement import ModelBasedSoftActorCritic
from irl_align.control.offline.preparing import model_learner, model_of
from irl_align.control.reward_fit import LearnedReward, RewardCodec, fit_reward
from irl_align.control.sac.compiling import threads_for
from irl_align.control.sac.learner import Learner, LearnerCodec
from irl_align.control.scores import reference
from irl_align.control.transitions import Transitions
from irl_align.core.loggers import Logger
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import Result

# What may change when a run is taken up again.
FREE_KEYS = ("rounds", "run_dir")


class ConservativeLikelihoodStep:
    """The reward verb: see `reward_fit`. The penalty has no theta in it, so no gradient either."""

    def __init__(self, config: OfflineMLIRLConfig) -> None:
        self.config = config

    def fit(
        self, reward: LearnedReward, samples: Comparison, ctx: PhaseContext, /
    ) -> tuple[LearnedReward, Metrics]:
        # The scale of a reward means something only beside the temperature it was learned with.
        reward.facts["alpha"] = samples.alpha
        if self.config.reward.anneal:
            reward.slow_down(1.0 - ctx.round / self.config.rounds)
        with threads_for(self.config.reward.hidden):
            metrics = fit_reward(
                reward,
                samples.expert,
                samples.agent,
                replay=samples.replay,
                replay_share=self.config.comparison.replay_share,
                seed=ctx.seed,
            )
        return reward, metrics


def offline_ml_irl(
    config: OfflineMLIRLConfig,
    *,
    loggers: Sequence[Logger] = (),
    keep: bool = True,
    **trainer: Any,
) -> Result[Learner, LearnedReward]:
    """Run or resume what `config` describes, until its rounds are done.

    Arguments as of `ml_irl`. The history holds the metrics of `ReturnEvaluator` (with
    `steps/environment` 0), `fit_reward`, `samples/{length,demo_length}`, and of the policy's
    updates `policy/*` and `model/{steps,length,penalty}`. Raises UserError when demonstrations or
    data set cannot be used, before anything is run.
    """
    with world(config) as here:
        spaces = here.spaces
        here.evaluator.reference = reference(spaces.environment, config.scores)
        demonstrations = here.demonstrations(config.demonstrations)
        data = OfflineDataset.loaded(here.demonstrations(config.dataset))
        learner = model_learner(config, spaces)
        reward = LearnedReward(
            spaces.observation_dim, spaces.action_dim, config.reward, seed=config.seed
        )
        reward.look_at(Transitions.of(demonstrations.trajectories).batch)
        reward.facts["environment"] = spaces.environment
        with here.directory(keep, FREE_KEYS) as run:
            expert = demonstrations.trajectories
            model = model_of(config, spaces, data, expert, run, loggers)
            gamma = config.sac.gamma if config.reward.discount_in_gradient else 1.0
            verbs = Verbs(
                sampler=InTheModel(model, expert, data, config.comparison, gamma=gamma),
                reward=ConservativeLikelihoodStep(config),
                policy=ModelBasedSoftActorCritic(
                    model, data, config.imagination, lambda learned: learned.net
                ),
            )
            return here.run(
                verbs,
                learner,
                reward,
                Codecs(policy=LearnerCodec(learner), reward=RewardCodec(reward)),
                loggers=loggers,
                keep=keep,
                directory=run,
                rounds=config.rounds,
                manifest=lambda number: {
                    "demonstrations": demonstrations.report.sha256,
                    "dataset": data.report.sha256,
                },
                **trainer,
            )
