"""What a reward folder says of itself beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from irl_align.core.errors import UserError

__all__ = ["CONFIG_NAME", "RewardModelInfo"]

CONFIG_NAME = "reward_config.json"


@dataclass
class RewardModelInfo:
    """What `reward_config.json` records beside the weights.

    Scores are in units in which pi_r is proportional to pi_ref exp(r / beta). `centre` and `scale`
    are the mean and standard deviation of the training demonstrations' scores: (r - centre) / scale
    has mean 0 there. They are recorded, not applied: plain loaders see raw scores.
    """

    objective: str
    beta: float
    template_hash: str
    eos_rule: str
    max_length: int
    centre: float = 0.0
    scale: float = 1.0
    base: str = ""
    round: int | None = None
    format_version: int = 1

    @classmethod
    def read(cls, folder: Path) -> RewardModelInfo | None:
        """The record of a reward folder; None for a foreign sequence classifier without one."""
        path = folder / CONFIG_NAME
        if not path.exists():
            return None
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{k: v for k, v in fields.items() if k in cls.__dataclass_fields__})
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} cannot be read ({error}); restore it or delete it") from error

    def as_dict(self) -> dict[str, object]:
        return asdict(self)
