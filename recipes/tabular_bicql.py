"""Tabular BiCQL-ML: how far its policy ends from the expert when others are in the data.

    python recipes/tabular_bicql.py configs/tabular/garnet.yaml
    python recipes/tabular_bicql.py configs/tabular/gridworld.yaml --share 0.1 --alphas 1 \\
        --weights 0 0.5 1 problem.scale=2

Of the configuration only `problem` counts: the MDP, and the hidden reward whose soft-optimal policy
demonstrates. D is a share of its occupancy, the rest a uniform policy's. The table holds
KL(pi_E || pi_Q) over demonstrated states for each alpha and w_E, and what the policy of the mixture
m = w_E D_E + (1 - w_E) D itself has. Everything is exact: there are no seeds, and nothing is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/tabular")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--share", type=float, default=0.3, help="of the expert in D")
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.1, 1.0, 10.0])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.5, 0.9, 1.0])
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_intermixed_args()

    import numpy as np

    from irl_align.tabular.bicql import expert_kl, kl_table
    from irl_align.tabular.config import TabularConfig
    from irl_align.tabular.experiment import make_problem
    from irl_align.tabular.occupancy import conditional_policy, occupancy
    from irl_align.tabular.rewards import one_hot

    if not 0 <= arguments.share <= 1:
        raise UserError(f"--share {arguments.share}: give a share in [0, 1]")
    config = load_config(TabularConfig, arguments.config, arguments.overrides)
    problem = make_problem(config.problem)
    mdp, expert = problem.mdp, problem.visits / problem.visits.sum()
    uniform = occupancy(mdp, np.full(mdp.shape, 1 / mdp.actions))
    data = arguments.share * expert + (1 - arguments.share) * uniform / uniform.sum()
    table = kl_table(
        mdp,
        one_hot(mdp),
        expert,
        uniform,
        share=arguments.share,
        alphas=tuple(arguments.alphas),
        expert_weights=tuple(arguments.weights),
        rounds=arguments.rounds,
        q_steps=20,
    )
    print(f"{'KL to the expert':<18}" + "".join(f"{f'w_E = {w:g}':>12}" for w in arguments.weights))
    for alpha, row in zip(arguments.alphas, table, strict=True):
        print(f"{f'alpha = {alpha:g}':<18}" + "".join(f"{kl:>12.4g}" for kl in row))
    mixtures = [conditional_policy(w * expert + (1 - w) * data) for w in arguments.weights]
    floors = [expert_kl(expert, np.log(np.maximum(policy, 1e-300))) for policy in mixtures]
    print(f"{'the mixture':<18}" + "".join(f"{kl:>12.4g}" for kl in floors))
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
