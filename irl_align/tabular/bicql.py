"""BiCQL-ML (arXiv 2511.22210) on a tabular MDP, every expectation exact.

Two levels that share one table Q, from data D and demonstrations D_E, both distributions over
pairs; B is the mean of both, m = w_E D_E + (1 - w_E) D:

    lower   min_Q  E_B[(Q - y)^2] + alpha (E_m(s)[LSE_a Q(s, a)] - E_m[Q(s, a)]),  y = r + gamma P V
    upper   min_r  E_{D_E}[(r - A)^2] + l2 E_D[r^2],      A = Q - gamma P V,       V = LSE_a Q'

with Q' the slow copy of Q. There is no policy: it is exp(Q - LSE Q).

A is the inverse soft Bellman operator: the pair (Q, A) has no Bellman error whatever Q is. So all
that is learned comes from the conservative term, and without it (alpha = 0) nothing moves. That
term is alpha E_m[-log pi_Q(a|s)], the cloning of m: where D holds what the expert does not do, only
the weight w_E keeps the policy from imitating it: in a table it ends as m's own, whatever alpha.
There the upper level tells D_E's pairs only; a reward with features says something about the rest
of D, too.

Over which states the log-sum-exp is taken is a choice. `mixture` (m's states, as above) leaves the
level of Q(s, .) alone. `data` (D's states, as in CQL) does not: where the expert is more often than
D it pushes a whole row of Q up, round after round, and r, which follows A, does not object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from irl_align.core.errors import UserError
from irl_align.core.protocols import Codecs, Metrics, PhaseContext
from irl_align.core.trainer import BilevelTrainer, Result
from irl_align.tabular.arrays import Array, check_finite, check_shape
from irl_align.tabular.codec import ArrayCodec
from irl_align.tabular.mdp import TabularMDP
from irl_align.tabular.occupancy import conditional_policy
from irl_align.tabular.planning import log_policy, log_sum_exp, soft_backup
from irl_align.tabular.rewards import LinearReward, RewardFamily

__all__ = ["BiCQLSettings", "Levels", "bicql", "expert_kl", "kl_table"]


@dataclass(frozen=True)
class BiCQLSettings:
    """How both levels step. Raises UserError naming what is out of range.

    Attributes:
        alpha: weight of the conservative term.
        expert_weight: w_E.
        states: mixture | data; see above.
        q_steps, q_rate: gradient steps on Q a round, and their size; None is `Levels.stable_rate`.
        reward_steps, reward_rate: gradient steps on theta a round, and their size; None steps takes
            the exact least squares, for linear rewards.
        l2: times E_D[r^2].
        tau: the share of Q that flows into Q' at a step; 1 is no slow copy at all.
    """

    alpha: float = 1.0
    expert_weight: float = 1.0
    states: str = "mixture"
    q_steps: int = 50
    q_rate: float | None = None
    reward_steps: int | None = None
    reward_rate: float = 2.0
    l2: float = 0.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.l2 < 0:
            raise UserError(f"need alpha >= 0 and l2 >= 0, got {self.alpha} and {self.l2}")
        if not 0 <= self.expert_weight <= 1 or not 0 < self.tau <= 1:
            raise UserError(
                f"need expert_weight in [0, 1] and tau in (0, 1], got {self.expert_weight} and "
                f"{self.tau}"
            )
        if self.states not in ("mixture", "data"):
            raise UserError(f"states is {self.states!r}; it must be mixture or data")
        if self.q_steps < 1 or (self.reward_steps is not None and self.reward_steps < 1):
            raise UserError("q_steps and reward_steps must be 1 or more")


class Levels:
    """Both objectives and their gradients, for given data.

    Args:
        mdp: the dynamics that the data show: the true ones, or an `EstimatedModel`'s.
        data, expert: weights of pairs [S, A] >= 0; they are normalised to sum to one.
    """

    def __init__(self, mdp: TabularMDP, data: Any, expert: Any, settings: BiCQLSettings) -> None:
        self.mdp, self.settings = mdp, settings
        self.data, self.expert = (
            _distribution("data", data, mdp),
            _distribution("expert", expert, mdp),
        )
        weight = settings.expert_weight
        self.mixture = weight * self.expert + (1 - weight) * self.data  # m
        self.both = 0.5 * (self.data + self.expert)  # B
        rows = self.mixture if settings.states == "mixture" else self.data
        self.rows = rows.sum(1)  # [S], where the log-sum-exp is taken

    @property
    def stable_rate(self) -> float:
        """1 / L, L = 2 max B + alpha max(states) / 2 a bound on the lower level's curvature."""
        return float(1 / (2 * self.both.max() + 0.5 * self.settings.alpha * self.rows.max()))

    def target(self, reward: Array, slow: Array) -> Array:
        """y = r + gamma P LSE Q' [S, A]."""
        return soft_backup(self.mdp, reward, log_sum_exp(slow))

    def advantage(self, q: Array, slow: Array) -> Array:
        """A = Q - gamma P LSE Q' [S, A]."""
        return q - self.mdp.gamma * self.mdp.kernel.expect(log_sum_exp(slow))

    def conservative(self, q: Array) -> float:
        """E_states[LSE Q] - E_m[Q]; over m's states it is E_m[-log pi_Q]."""
        return float(self.rows @ log_sum_exp(q) - (self.mixture * q).sum())

    def lower(self, q: Array, target: Array) -> float:
        """The lower level's loss at Q for a target that stands still."""
        error = float((self.both * (q - target) ** 2).sum())
        return error + self.settings.alpha * self.conservative(q)

    def lower_gradient(self, q: Array, target: Array) -> Array:
        """d lower / d Q [S, A]."""
        pushed = self.rows[:, None] * np.exp(log_policy(q)) - self.mixture
        return 2 * self.both * (q - target) + self.settings.alpha * pushed


class SoftAdvantages:
    """The sample verb: A [S, A] of the current Q, which the reward is regressed onto."""

    def __init__(self, levels: Levels) -> None:
        self.levels = levels

    def sample(self, policy: Array, ctx: PhaseContext) -> tuple[Array, Metrics]:
        return self.levels.advantage(policy[0], policy[1]), {}


class Regression:
    """The reward verb, the upper level."""

    def __init__(self, levels: Levels, family: RewardFamily) -> None:
        self.levels, self.family = levels, family

    def fit(self, reward: Array, samples: Array, ctx: PhaseContext) -> tuple[Array, Metrics]:
        levels, settings, family = self.levels, self.levels.settings, self.family
        theta = reward
        if settings.reward_steps is None:
            theta = self._exact(samples)
        for _ in range(settings.reward_steps or 0):
            values = family.values(theta)
            errors = levels.expert * (values - samples) + settings.l2 * levels.data * values
            theta = theta - settings.reward_rate * family.gradient(theta, 2 * errors)
        if not np.isfinite(theta).all():
            raise UserError(f"theta is no longer finite after round {ctx.round}; lower reward_rate")
        left = levels.expert * (family.values(theta) - samples) ** 2
        return theta, {"reward/loss": float(left.sum())}

    def _exact(self, advantages: Array) -> Array:
        family, levels = self.family, self.levels
        if not isinstance(family, LinearReward):
            raise UserError("reward_steps=None is for linear rewards; give a number of steps")
        weights = levels.expert + levels.settings.l2 * levels.data  # [S, A]
        wanted = family.expectation(levels.expert * advantages)  # [d]
        matrix: Any = family.matrix
        flat = weights.sum(1) if family.state_only else weights.ravel()
        dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
        gram = dense.T @ (flat[:, None] * dense)
        # The least theta where the data leave several: 0 for a pair that nobody has shown.
        return np.asarray(np.linalg.lstsq(gram, wanted, rcond=1e-12)[0])


class ConservativeSteps:
    """The policy verb, the lower level: gradient steps on Q; the artefact is (Q, Q') [2, S, A]."""

    def __init__(self, levels: Levels, family: RewardFamily) -> None:
        self.levels, self.family = levels, family

    def improve(
        self, policy: Array, reward: Array, samples: Array | None, ctx: PhaseContext
    ) -> tuple[Array, Metrics]:
        levels, settings = self.levels, self.levels.settings
        rewards = self.family.values(reward)
        q, slow = policy
        rate = levels.stable_rate if settings.q_rate is None else settings.q_rate
        for _ in range(settings.q_steps):
            q = q - rate * levels.lower_gradient(q, levels.target(rewards, slow))
            slow = slow + settings.tau * (q - slow)
        if not np.isfinite(q).all():
            raise UserError(f"Q is no longer finite after round {ctx.round}; lower q_rate")
        after = np.stack([q, slow])
        return after, {"policy/q_change": float(np.abs(after[0] - policy[0]).max())}


class Distance:
    """The evaluation: how far exp Q is from the expert (see `expert_kl`), and the level of Q.

    ``eval/expert_kl``, ``eval/conservative`` (the conservative term), ``eval/bellman_error`` (root
    mean square over B, under r_theta), ``eval/q_largest``.
    """

    def __init__(self, levels: Levels, family: RewardFamily) -> None:
        self.levels, self.family = levels, family

    def evaluate(self, policy: Array, reward: Array, ctx: PhaseContext) -> Metrics:
        q, slow = policy
        error = (q - self.levels.target(self.family.values(reward), slow)) ** 2
        return {
            "eval/expert_kl": expert_kl(self.levels.expert, q),
            "eval/conservative": self.levels.conservative(q),
            "eval/bellman_error": float(np.sqrt((self.levels.both * error).sum())),
            "eval/q_largest": float(np.abs(q).max()),
        }


def expert_kl(expert: Any, q: Array) -> float:
    """E_{s ~ D_E}[KL(pi_E(.|s) || pi_Q(.|s))] with pi_E the conditional of ``expert`` [S, A]."""
    visits = check_shape("the expert", expert, (len(q), q.shape[1]))
    shown = conditional_policy(visits)
    logs = np.log(np.where(visits > 0, shown, 1.0)) - log_policy(q)
    return float((visits * logs).sum() / visits.sum())


def bicql(
    mdp: TabularMDP,
    family: RewardFamily,
    data: Any,
    expert: Any,
    *,
    rounds: int,
    settings: BiCQLSettings | None = None,
    seed: int = 0,
    q: Array | None = None,
    theta: Array | None = None,
    **trainer: Any,
) -> Result[Array, Array]:
    """BiCQL-ML from two distributions over pairs to ((Q, Q'), theta, history).

    Args:
        mdp: the dynamics that the data show; initial states are not looked at.
        family: what theta means.
        data, expert: D and D_E, weights of pairs [S, A]; occupancies or counts.
        q, theta: where to start, [S, A] and [d]; by default zeros and ``family.initial(seed)``.
        trainer: what else BilevelTrainer takes: ``run``, ``save_every``, ``loggers``, ...

    The result's ``policy`` is [2, S, A], of which the first is Q. Raises UserError on data of
    another MDP, and when a level leaves the finite numbers.
    """
    levels = Levels(mdp, data, expert, settings or BiCQLSettings())
    loop: BilevelTrainer[Array, Array] = BilevelTrainer(
        SoftAdvantages(levels),
        Regression(levels, family),
        ConservativeSteps(levels, family),
        Distance(levels, family),
        rounds=rounds,
        seed=seed,
        codecs=Codecs(ArrayCodec("q"), ArrayCodec("theta")),
        **trainer,
    )
    first = np.zeros(mdp.shape) if q is None else check_finite("q", check_shape("q", q, mdp.shape))
    start = family.initial(seed) if theta is None else check_shape("theta", theta, (family.size,))
    return loop.train(np.stack([first, first]), start)


def kl_table(
    mdp: TabularMDP,
    family: RewardFamily,
    expert: Any,
    other: Any,
    *,
    share: float,
    alphas: tuple[float, ...],
    expert_weights: tuple[float, ...],
    rounds: int,
    **settings: Any,
) -> Array:
    """Final ``expert_kl`` for each alpha and w_E: [len(alphas), len(expert_weights)].

    Args:
        other: weights of pairs [S, A] of somebody else.
        share: of the expert in D = share D_E + (1 - share) of the other's.
        settings: of ``BiCQLSettings``.
    """
    demonstrated, rest = _distribution("expert", expert, mdp), _distribution("other", other, mdp)
    data = share * demonstrated + (1 - share) * rest
    table = np.empty((len(alphas), len(expert_weights)))
    for i, alpha in enumerate(alphas):
        for j, weight in enumerate(expert_weights):
            chosen = BiCQLSettings(alpha=alpha, expert_weight=weight, **settings)
            result = bicql(mdp, family, data, demonstrated, rounds=rounds, settings=chosen)
            table[i, j] = expert_kl(demonstrated, result.policy[0])
    return table


def _distribution(name: str, weights: Any, mdp: TabularMDP) -> Array:
    table = check_finite(name, check_shape(name, weights, mdp.shape))
    if table.min() < 0 or not table.sum() > 0:
        raise UserError(f"{name} must be weights >= 0 of pairs that are not all 0")
    return np.asarray(table / table.sum())
