"""The returns that normalised scores are measured against, for one version of an environment.

    python eval/control_references.py Hopper --policy runs/mine/rounds/0400/policy/actor.npz
    python eval/control_references.py Hopper --demonstrations expert.npz --out references.json

Adds the environment's entry to a table (JSON) that `scores=TABLE` of an offline run takes. The
expert's return is that of a policy without noise, or of a file of demonstrations.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.files import sha256_file


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("environment", help="a short name, or a gymnasium id")
    expert = parser.add_mutually_exclusive_group(required=True)
    expert.add_argument("--policy", type=Path, help="actor.npz of a run")
    expert.add_argument("--demonstrations", type=Path, help="a file with rewards")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("references.json"))
    arguments = parser.parse_args()

    from irl_align.control.demonstrations.loading import load_demonstrations
    from irl_align.control.experts import load_policy
    from irl_align.control.scores import measure_reference, save_reference

    if arguments.episodes < 1:
        raise UserError(f"--episodes {arguments.episodes}: ask for 1 or more")
    source = arguments.policy or arguments.demonstrations
    best: Any
    if arguments.policy is not None:
        best = load_policy(source)
    else:
        returns = load_demonstrations(source).report.returns
        if returns is None:
            raise UserError(f"{source}: no rewards in it, so no return; give --policy")
        best = sum(returns) / len(returns)
    name, found = measure_reference(
        arguments.environment, best, episodes=arguments.episodes, seed=arguments.seed
    )
    save_reference(
        arguments.out,
        name,
        found,
        episodes=arguments.episodes,
        seed=arguments.seed,
        expert_from=str(source),
        sha256=sha256_file(source),
    )
    print(
        f"{arguments.out}: {name}: random {found.random:.2f}, expert {found.expert:.2f} "
        f"({arguments.episodes} episodes)"
    )
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
