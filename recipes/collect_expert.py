"""An expert: SAC on the true reward, and demonstrations of what it has learned.

    python recipes/collect_expert.py configs/control/pendulum_expert.yaml
    python recipes/collect_expert.py CONFIG reward=runs/mine/rounds/0070/reward/reward.pt \\
        run_dir=runs/check demonstrations=null      # the same on a learned reward that is frozen

Run the same command again after a crash: it goes on behind the last committed round.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from irl_align.core.config import load_config
from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.loggers import ConsoleLogger
from irl_align.core.seeding import derive_seed

COLUMNS = ("steps/environment", "eval/return", "eval/return_std", "policy/alpha", "policy/entropy")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of configs/control")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()

    from irl_align.control.config import ExpertConfig
    from irl_align.control.evaluating import OnlyEvaluations
    from irl_align.control.sac.fixed_reward import train_on_fixed_reward

    config = load_config(ExpertConfig, arguments.config, arguments.overrides)
    path = Path(config.demonstrations) if config.demonstrations is not None else None
    if path is not None and path.suffix != ".npz":
        raise UserError(f"demonstrations={path}: they are saved as .npz; name the file so")
    result = train_on_fixed_reward(config, loggers=[OnlyEvaluations(ConsoleLogger(COLUMNS))])
    if path is not None:
        record(config, result.policy, path)
    return 0


def record(config: Any, learner: Any, path: Path) -> None:
    """Episodes of the trained policy, as plain observations without an absorbing flag."""
    from irl_align.control.absorbing import with_flag
    from irl_align.control.experts import record_demonstrations

    acting = learner.acting
    seed = derive_seed(config.seed, round=0, phase="demonstrations")
    act = acting.deterministic() if config.deterministic else acting.stochastic(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    rollouts = record_demonstrations(
        (lambda seen: act(with_flag(seen))) if config.environment.absorbing else act,
        config.environment.name,
        config.episodes,
        seed=seed,
        path=path,
        policy_name=config.run_dir,
        **{**config.environment.options(), "absorbing_flag": False},
    )
    returns = rollouts.true_rewards.returns()
    print(f"{path}: {len(returns)} episodes, true return {returns.mean():.1f} (mean)")


if __name__ == "__main__":
    exit_with_clear_errors(main)
