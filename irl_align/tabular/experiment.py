"""A tabular experiment from its configuration to a table: Alg. 1 against a hidden reward.

The hidden reward is random weights on the features of the problem; its soft-optimal policy
demonstrates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from irl_align.core.config import to_dict
from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.core.loggers import Logger
from irl_align.core.run import RunDirectory
from irl_align.core.seeding import derive_seed
from irl_align.core.trainer import Result
from irl_align.tabular.arrays import Array, Ints
from irl_align.tabular.comparison import levelled_distance, policy_regret
from irl_align.tabular.config import DemonstrationConfig, ProblemConfig, RewardConfig, TabularConfig
from irl_align.tabular.garnet import garnet
from irl_align.tabular.gridworld import gridworld
from irl_align.tabular.mdp import TabularMDP
from irl_align.tabular.ml_irl import ml_irl
from irl_align.tabular.neural import NeuralReward
from irl_align.tabular.occupancy import occupancy
from irl_align.tabular.planning import soft_policy_iteration
from irl_align.tabular.rewards import LinearReward, RewardFamily, one_hot
from irl_align.tabular.rollouts import Rollouts, horizon_for, roll_out

__all__ = ["Problem", "learn", "make_family", "make_problem", "measure", "report"]

# Numbers in a table of features (0.8 GB) beyond which a state-action one is refused.
MOST_FEATURES = 10**8


@dataclass(frozen=True, eq=False)
class Problem:
    """An MDP with the reward that is to be found.

    Attributes:
        state_features: [S, d].
        reward: the hidden one, [S, A].
        log_expert: log of its soft-optimal policy, [S, A].
        visits: that policy's discounted occupancy, [S, A].
    """

    config: ProblemConfig
    mdp: TabularMDP
    state_features: Array
    reward: Array
    log_expert: Array
    visits: Array

    def features(self, inputs: str) -> Array:
        """[S, d] for "state", [S, A, d'] for "state_action"."""
        return _features(self.config, self.mdp, self.state_features, inputs)


def make_problem(config: ProblemConfig) -> Problem:
    """The MDP, the hidden reward, and its soft-optimal expert. Raises UserError as the MDPs do."""
    mdp, states = _mdp(config)
    table = _features(config, mdp, states, config.hidden_reward)
    weights = np.random.default_rng([config.seed, 2]).normal(size=table.shape[-1]) * config.scale
    reward = mdp.check_reward(table @ weights)
    best = soft_policy_iteration(mdp, reward)
    return Problem(config, mdp, states, reward, best.log_policy, occupancy(mdp, best.policy))


def _mdp(config: ProblemConfig) -> tuple[TabularMDP, Array]:
    """The MDP, and features of its states [S, d]."""
    if config.kind == "garnet":
        mdp = garnet(
            config.states, config.actions, config.branching, gamma=config.gamma, seed=config.seed
        )
        rng = np.random.default_rng([config.seed, 1])
        return mdp, rng.normal(size=(mdp.states, config.features))
    world = gridworld(config.rows, config.columns, gamma=config.gamma, slip=config.slip)
    return world.mdp, _bumps(world.cells, (config.rows, config.columns), config.bumps)


def _bumps(cells: Ints, size: tuple[int, int], count: int) -> Array:
    """exp(-|x - c|^2 / 2 w^2) for centres c on a lattice, w half their distance: [S, d]."""
    along = []
    for axis, length in enumerate(size):
        centres = np.linspace(0, length - 1, count) if count > 1 else np.array([(length - 1) / 2])
        width = 0.5 * max((length - 1) / max(count - 1, 1), 1.0)
        along.append(np.exp(-0.5 * ((cells[:, axis, None] - centres) / width) ** 2))
    return np.einsum("si,sj->sij", *along).reshape(len(cells), -1)


def _features(config: ProblemConfig, mdp: TabularMDP, states: Array, inputs: str) -> Array:
    if inputs == "state":
        return states
    width = states.shape[1] * (mdp.actions if config.kind == "gridworld" else 1)
    if mdp.states * mdp.actions * width > MOST_FEATURES:
        raise UserError(
            f"{mdp.states} states x {mdp.actions} actions x {width} features do not fit into "
            "memory; let the rewards look at states alone, or lower problem.bumps or "
            "problem.features"
        )
    if config.kind == "garnet":
        rng = np.random.default_rng([config.seed, 3])
        return rng.normal(size=(*mdp.shape, states.shape[1]))
    each = np.einsum("sd,ab->sabd", states, np.eye(mdp.actions))
    return each.reshape(*mdp.shape, width)


def make_family(config: RewardConfig, problem: Problem) -> RewardFamily:
    """What theta means."""
    if config.family == "tabular":
        return one_hot(problem.mdp, state_only=config.inputs == "state")
    table = problem.features(config.inputs)
    if config.family == "linear":
        return LinearReward(problem.mdp, table)
    return NeuralReward(
        problem.mdp,
        table,
        config.hidden,
        activation="relu" if config.activation == "relu" else "tanh",
        bound=config.bound,
    )


def demonstrate(config: DemonstrationConfig, problem: Problem, seed: int) -> Array | Rollouts:
    """Trajectories of the expert, or its exact occupancy [S, A]."""
    if config.count is None:
        return problem.visits
    horizon = config.horizon or horizon_for(problem.mdp.gamma)
    rng = np.random.default_rng(derive_seed(seed, round=0, phase="demonstrations"))
    return roll_out(problem.mdp, np.exp(problem.log_expert), config.count, horizon, rng)


def from_their_starts(mdp: TabularMDP, shown: Array | Rollouts) -> TabularMDP:
    """The MDP with episodes that start where the demonstrations did.

    Optimal policies do not depend on it, and E_E - E_pi keeps its mean but loses the noise of where
    demonstrations happened to start, of which a reward would otherwise learn that it is good there.
    """
    if not isinstance(shown, Rollouts):
        return mdp
    starts = np.bincount(shown.states[:, 0], minlength=mdp.states) / len(shown)
    return replace(mdp, initial=starts)


def measure(
    problem: Problem, family: RewardFamily, theta: Array, mdp: TabularMDP, shown: Array
) -> dict[str, float]:
    """How far theta is from the hidden reward.

    Args:
        mdp: the one that was learned in (see :func:`from_their_starts`).
        shown: occupancy [S, A] of the demonstrations.

    Returns ``likelihood_gap`` E_E[sum_t gamma^t (log pi_E - log pi_theta)] over the expert's own
    occupancy, hence >= 0 and 0 for its policy alone; ``gradient_norm`` |grad L(theta)|;
    ``policy_regret`` (soft, under the hidden reward); ``levelled_distance``, EPIC's for known
    dynamics, in [0, 1].
    """
    values = family.values(theta)
    optimum = soft_policy_iteration(mdp, values)
    gradient = family.gradient(theta, shown - occupancy(mdp, optimum.policy))
    return {
        "likelihood_gap": float((problem.visits * (problem.log_expert - optimum.log_policy)).sum()),
        "gradient_norm": float(np.linalg.norm(gradient)),
        "policy_regret": policy_regret(problem.mdp, values, problem.reward),
        "levelled_distance": levelled_distance(problem.mdp, values, problem.reward),
    }


def learn(config: TabularConfig, *, loggers: Sequence[Logger] = ()) -> dict[str, dict[str, float]]:
    """Run or resume what ``config`` describes, and measure where it starts and where it ends.

    Returns {"start": ..., "learned": ...} as :func:`measure` has it, also written to
    ``run_dir``/results.json. Raises UserError before the run when the problem cannot be built.
    """
    problem = make_problem(config.problem)
    family = make_family(config.reward, problem)
    shown = demonstrate(config.demonstrations, problem, config.seed)
    mdp = from_their_starts(problem.mdp, shown)
    with RunDirectory(config.run_dir).open(to_dict(config), free_keys=("run_dir",)) as run:
        result: Result[Array, Array] = ml_irl(
            mdp,
            family,
            shown,
            rounds=config.rounds,
            alpha0=config.alpha0,
            sigma=config.sigma,
            adam=config.learning_rate if config.optimiser == "adam" else None,
            episodes=config.episodes,
            seed=config.seed,
            evaluate_every=config.evaluate_every,
            run=run,
            save_every=config.save_every,
            loggers=loggers,
        )
        known = shown.occupancy(mdp) if isinstance(shown, Rollouts) else shown
        found = {
            name: measure(problem, family, theta, mdp, known)
            for name, theta in (("start", family.initial(config.seed)), ("learned", result.reward))
        }
        steps = {
            "rounds": float(config.rounds),
            "demonstrated": float(shown.states.size) if isinstance(shown, Rollouts) else 0.0,
            "sampled": float(config.rounds * (config.episodes or 0) * _horizon(shown)),
        }
        atomic_write_json(run.path / "results.json", {**found, "steps": steps})
    return {**found, "steps": steps}


def _horizon(shown: Array | Rollouts) -> int:
    return shown.horizon if isinstance(shown, Rollouts) else 0


def report(found: Mapping[str, Mapping[str, float]]) -> str:
    """The table of :func:`learn` as text."""
    keys = list(found["start"])
    lines = [f"{'':<9}" + "".join(f"{key.replace('_', ' '):>19}" for key in keys)]
    for name in ("start", "learned"):
        lines.append(f"{name:<9}" + "".join(f"{found[name][key]:>19.4g}" for key in keys))
    steps = found["steps"]
    lines.append(
        f"{steps['rounds']:.0f} rounds, {steps['demonstrated']:.0f} demonstrated steps, "
        f"{steps['sampled']:.0f} sampled steps"
    )
    return "\n".join(lines)
