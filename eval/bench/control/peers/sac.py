"""SAC of Stable-Baselines3 or SBX with the hyper-parameters of our benchmarks."""

from __future__ import annotations

from typing import Any


def agent(
    library: str,
    environment: Any,
    hidden: int,
    batch_size: int,
    together: int,
    *,
    random_steps: int | None = None,
    seed: int = 0,
) -> Any:
    """`together` updates every so many steps, as ours makes them; the temperature is tuned.

    Raises ModuleNotFoundError when the library is not installed.
    """
    import torch

    torch.set_num_threads(1)
    if library == "sbx":
        from sbx import SAC
    else:
        from stable_baselines3 import SAC
    return SAC(
        "MlpPolicy",
        environment,
        learning_rate=1e-3,
        batch_size=batch_size,
        learning_starts=batch_size if random_steps is None else random_steps,
        train_freq=together,
        gradient_steps=together,
        gamma=0.99,
        tau=0.005,
        ent_coef="auto_0.2",
        policy_kwargs={"net_arch": [hidden, hidden]},
        seed=seed,
        device="cpu",
    )
