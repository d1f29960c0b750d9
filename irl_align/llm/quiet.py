"""Libraries speak when something is wrong; progress is ours to show."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

from irl_align.core.loggers import ConsoleLogger

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["quiet_libraries", "show_progress"]


def quiet_libraries() -> None:
    """Silence bars and notices of transformers, datasets and DeepSpeed in this process."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    import torch

    if not torch.cuda.is_available():
        # DeepSpeed warns when it finds out by itself.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def show_progress(trainer: Trainer, description: str) -> None:
    """Replace a Trainer's printed dictionaries by one progress bar with the loss at its end."""
    from transformers import PrinterCallback, TrainerCallback
    from transformers.trainer_callback import ProgressCallback

    class _Bar(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                self.context = ConsoleLogger().progress(description, total=state.max_steps)
                self.bar = self.context.__enter__()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                self.bar.advance(1)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                self.context.__exit__(None, None, None)

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Bar())
