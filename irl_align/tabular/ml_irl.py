"""Maximum-likelihood IRL on a tabular MDP (thesis Alg. 1), as the verbs of core's round loop.

    max_theta L(theta) = E_E[sum_t gamma^t log pi_theta(a_t|s_t)]
    s.t. pi_theta = argmax_pi E_pi[sum_t gamma^t (r(s,a;theta) + H(pi(.|s)))]

A round k, with a single loop for both levels:

    policy    Q_k = soft evaluation of pi_k under r_{theta_k};  pi_{k+1} = softmax Q_k
    sample    the occupancy of pi_{k+1}: exact, or of sampled trajectories
    reward    theta_{k+1} = theta_k + alpha (<d_E, grad r> - <d_{k+1}, grad r>)

with alpha = alpha_0 / K^sigma, constant over the K rounds. The evaluation stands between policy and
sample, where theta_k and pi_{k+1} meet: Theorem 2 is about this pair.

The policy artefact is the table Q_k: its softmax is pi_{k+1}, and Theorem 2's proof tracks Q.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irl_align.core.errors import UserError
from irl_align.core.protocols import Codec, Codecs, Metrics, Phase, PhaseContext
from irl_align.core.trainer import BilevelTrainer, Result
from irl_align.tabular.adam import Adam, AdamCodec
from irl_align.tabular.arrays import Array, check_finite, check_shape
from irl_align.tabular.codec import ArrayCodec
from irl_align.tabular.diagnostics import Diagnostics
from irl_align.tabular.mdp import TabularMDP
from irl_align.tabular.occupancy import occupancy_unchecked
from irl_align.tabular.planning import log_policy, soft_policy_step
from irl_align.tabular.rewards import RewardFamily
from irl_align.tabular.rollouts import Rollouts, roll_out

__all__ = [
    "ORDER",
    "ExactOccupancy",
    "LikelihoodAscent",
    "SampledOccupancy",
    "SoftImprovement",
    "ml_irl",
    "step_size",
]

ORDER: tuple[Phase, ...] = ("policy", "evaluate", "sample", "reward")
# Discounted mass that demonstrations may miss behind their horizon when gradients are exact.
MISSING_MASS = 0.01


class SoftImprovement:
    """Steps (a) and (b): evaluate softmax(Q_{k-1}) under r_theta exactly; its Q is the artefact."""

    def __init__(self, mdp: TabularMDP, family: RewardFamily) -> None:
        self.mdp, self.family = mdp, family

    def improve(
        self, policy: Array, reward: Array, samples: Array | None, ctx: PhaseContext
    ) -> tuple[Array, Metrics]:
        q, _ = soft_policy_step(self.mdp, self.family.values(reward), policy)
        return q, {"policy/q_change": float(np.abs(q - policy).max())}


class ExactOccupancy:
    """Step (c) without noise: the discounted occupancy d [S, A] of softmax(Q), by a solve."""

    def __init__(self, mdp: TabularMDP) -> None:
        self.mdp = mdp

    def sample(self, policy: Array, ctx: PhaseContext) -> tuple[Array, Metrics]:
        return occupancy_unchecked(self.mdp, np.exp(log_policy(policy))), {}


class SampledOccupancy:
    """Step (c): the empirical occupancy of ``episodes`` trajectories of softmax(Q)."""

    def __init__(self, mdp: TabularMDP, episodes: int, horizon: int) -> None:
        self.mdp, self.episodes, self.horizon = mdp, episodes, horizon

    def sample(self, policy: Array, ctx: PhaseContext) -> tuple[Array, Metrics]:
        rng = np.random.default_rng(ctx.seed)
        drawn = roll_out(self.mdp, np.exp(log_policy(policy)), self.episodes, self.horizon, rng)
        return drawn.occupancy(self.mdp), {}


class LikelihoodAscent:
    """Steps (d) and (e): theta + alpha sum_{s,a} (d_E - d) grad r, or a step of ``adam`` along it.

    ``expert`` is d_E [S, A], or Rollouts of which ``episodes`` are drawn (with replacement) in
    every round. Raises UserError when theta leaves the finite numbers.
    """

    def __init__(
        self,
        mdp: TabularMDP,
        family: RewardFamily,
        expert: Array | Rollouts,
        alpha: float,
        episodes: int = 1,
        adam: Adam | None = None,
    ) -> None:
        self.mdp, self.family, self.expert = mdp, family, expert
        self.alpha, self.episodes, self.adam = alpha, episodes, adam

    def fit(self, reward: Array, samples: Array, ctx: PhaseContext) -> tuple[Array, Metrics]:
        expert = self.expert
        if isinstance(expert, Rollouts):
            rng = np.random.default_rng(ctx.seed)
            drawn = rng.integers(0, len(expert), size=self.episodes)
            expert = expert.pick(drawn).occupancy(self.mdp)
        gradient = self.family.gradient(reward, expert - samples)
        step = self.alpha * gradient if self.adam is None else self.adam.step(gradient)
        theta = reward + step
        if not np.isfinite(theta).all():
            smaller = "alpha0" if self.adam is None else "the learning rate"
            raise UserError(f"theta is no longer finite after round {ctx.round}; lower {smaller}")
        return theta, {"reward/step_norm": float(np.linalg.norm(step))}


def step_size(alpha0: float, rounds: int, sigma: float = 0.5) -> float:
    """alpha = alpha_0 / K^sigma. UserError unless alpha_0 > 0, K >= 1 and sigma is in (0, 1)."""
    if not alpha0 > 0 or rounds < 1 or not 0 < sigma < 1:
        raise UserError(
            f"need alpha0 > 0, rounds >= 1 and sigma in (0, 1), got {alpha0=}, {rounds=}, {sigma=}"
        )
    return float(alpha0 / rounds**sigma)


def ml_irl(
    mdp: TabularMDP,
    family: RewardFamily,
    demonstrations: Array | Rollouts,
    *,
    rounds: int,
    alpha0: float = 0.3,
    sigma: float = 0.5,
    adam: float | None = None,
    episodes: int | None = None,
    seed: int = 0,
    theta: Array | None = None,
    q: Array | None = None,
    evaluate_every: int = 1,
    **trainer: Any,
) -> Result[Array, Array]:
    """Alg. 1 from demonstrations to (Q_K, theta_K, history).

    Args:
        mdp: dynamics, initial distribution and discount, shared by expert and agent.
        family: what theta means.
        demonstrations: the expert's occupancy [S, A], or Rollouts.
        rounds: K. It sets the step, so a run that is resumed keeps it.
        alpha0, sigma: alpha = alpha0 / K^sigma.
        adam: a learning rate: steps are Adam's, and alpha is not used.
        episodes: None computes both expectations exactly (over the given demonstrations). A number
            draws that many demonstrations and trajectories a round (the paper: 1), cut at the
            demonstrations' horizon; it needs Rollouts.
        seed: of theta and of all draws.
        theta, q: [d] and [S, A] to start from; by default ``family.initial(seed)`` and zeros, the
            uniform policy.
        evaluate_every: rounds between :class:`Diagnostics`, 0 for none.
        trainer: what else BilevelTrainer takes: ``run``, ``save_every``, ``loggers``, ...

    The result's ``reward`` is theta, its ``policy`` is Q (``planning.log_policy`` of it), and the
    history holds ``eval/...`` (see Diagnostics), ``policy/q_change`` and ``reward/step_norm``.
    Raises UserError on demonstrations of another MDP, on such that are cut too early for exact
    gradients, and when theta diverges.
    """
    alpha = step_size(alpha0, rounds, sigma)
    known = _occupancy_of(mdp, demonstrations)
    stepper = Adam(adam) if adam is not None else None
    codec: Codec[Array] = ArrayCodec("theta") if stepper is None else AdamCodec(stepper)
    learner: LikelihoodAscent
    sampler: ExactOccupancy | SampledOccupancy
    if episodes is None:
        _check_mass(mdp, known)
        sampler = ExactOccupancy(mdp)
        learner = LikelihoodAscent(mdp, family, known, alpha, adam=stepper)
    else:
        if not isinstance(demonstrations, Rollouts) or episodes < 1:
            raise UserError(
                "sampled gradients need demonstrations as Rollouts and episodes >= 1, got "
                f"{type(demonstrations).__name__} and {episodes=}"
            )
        sampler = SampledOccupancy(mdp, episodes, demonstrations.horizon)
        learner = LikelihoodAscent(mdp, family, demonstrations, alpha, episodes, stepper)
    loop: BilevelTrainer[Array, Array] = BilevelTrainer(
        sampler,
        learner,
        SoftImprovement(mdp, family),
        Diagnostics(mdp, family, known, every=evaluate_every) if evaluate_every else None,
        rounds=rounds,
        seed=seed,
        order=ORDER,
        codecs=Codecs(ArrayCodec("q"), codec, ArrayCodec("occupancy")),
        **trainer,
    )
    start = family.initial(seed) if theta is None else check_shape("theta", theta, (family.size,))
    first = np.zeros(mdp.shape) if q is None else check_shape("q", q, mdp.shape)
    return loop.train(check_finite("q", first), check_finite("theta", start))


def _occupancy_of(mdp: TabularMDP, demonstrations: Array | Rollouts) -> Array:
    if isinstance(demonstrations, Rollouts):
        return demonstrations.occupancy(mdp)
    visits = check_finite(
        "the demonstrations", check_shape("the demonstrations", demonstrations, mdp.shape)
    )
    if visits.min() < 0:
        raise UserError(f"the demonstrations hold {visits.min()}; an occupancy is >= 0")
    return visits


def _check_mass(mdp: TabularMDP, visits: Array) -> None:
    """Against an exact occupancy a shorter expert would seem to avoid every state a little."""
    share = visits.sum() / mdp.mass
    if abs(share - 1) > MISSING_MASS:
        raise UserError(
            f"the demonstrations hold {share:.1%} of the discounted mass 1 / (1 - gamma) = "
            f"{mdp.mass:.6g}: give longer rollouts (horizon_for says how long), or an occupancy "
            "that sums to it"
        )
