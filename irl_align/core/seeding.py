"""One base seed, an independent seed for each (round, phase, rank)."""

from __future__ import annotations

import hashlib
import random


def derive_seed(base: int, *, round: int, phase: str, rank: int = 0) -> int:
    """A seed in [0, 2**31) for one phase of one round on one rank.

    The first 31 bits of SHA-256 of ``"irl_align:<base>:<round>:<phase>:<rank>"``: the same on every
    machine and in every version, and without the overlaps of ``base + round + rank``. A phase
    that is done again after a crash gets the seed that it had.
    """
    text = f"irl_align:{base}:{round}:{phase}:{rank}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (all devices)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
