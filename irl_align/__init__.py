"""irl_align: maximum-likelihood inverse reinforcement learning, tabular MDPs to language models.

Importing the package is cheap on purpose: it loads neither torch nor transformers nor vllm.
The few names offered here are imported when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irl_align.core.errors import UserError as UserError
    from irl_align.core.run import RunDirectory as RunDirectory
    from irl_align.core.trainer import BilevelTrainer as BilevelTrainer

__version__ = "0.1.0"

_LAZY = {
    "BilevelTrainer": "irl_align.core.trainer",
    "RunDirectory": "irl_align.core.run",
    "UserError": "irl_align.core.errors",
}
__all__ = ["BilevelTrainer", "RunDirectory", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
