"""The one place that touches lm-eval: a model, one task at a time, values of each item."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irl_align.core.errors import UserError
from irl_align.evaluation.leaderboard.tasks import LeaderboardTask

__all__ = ["Harness", "ItemValue", "require_lm_eval", "template_folder"]


@dataclass(frozen=True)
class ItemValue:
    """`value`: the task's metric on one item, in [0, 1]; `subtask`: lm-eval's name of its task."""

    subtask: str
    item: int
    value: float
    target: str
    answer: str


def require_lm_eval() -> None:
    """UserError when lm-eval cannot be imported."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the leaderboard needs lm-eval ({error}): pip install 'irl-align[eval]'"
        ) from error


def template_folder() -> Path:
    """lm-eval's own task files."""
    import lm_eval

    return Path(str(lm_eval.__file__)).parent / "tasks"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Harness:
    """A model folder in lm-eval. `batch_size` is fixed, since scores depend on it slightly."""

    def __init__(
        self,
        model: Path,
        *,
        backend: str,
        dtype: str,
        batch_size: int,
        chat_template: bool = False,
        max_length: int | None = None,
    ) -> None:
        import torch

        self.chat_template = chat_template
        self._stock: Any = None
        settings: dict[str, Any] = {
            "pretrained": str(model),
            "dtype": dtype,
            "batch_size": batch_size,
        }
        if max_length is not None:
            settings["max_length" if backend == "hf" else "max_model_len"] = max_length
        with contextlib.redirect_stdout(sys.stderr):
            if backend == "hf":
                from lm_eval.models.huggingface import HFLM

                device = "cuda" if torch.cuda.is_available() else "cpu"
                try:
                    self.model: Any = HFLM(**settings, device=device)
                except (OSError, ValueError) as error:
                    raise UserError(
                        f"{model} cannot be loaded as a model folder ({_first_line(error)})"
                    ) from error
            else:
                try:
                    from lm_eval.models.vllm_causallms import VLLM
                except ImportError as error:
                    raise UserError(
                        f"--backend vllm: lm-eval cannot use vLLM here ({error}); it wants the "
                        "GPU build, the package vllm. Take --backend hf"
                    ) from error
                self.model = VLLM(**settings)

    def run(
        self,
        task: LeaderboardTask,
        names: Sequence[str],
        shots: int,
        *,
        limit: int | None,
        tasks: Path | None,
    ) -> list[ItemValue]:
        """Values of the items of lm-eval's tasks `names`; `tasks`: a folder of task files."""
        from lm_eval import simple_evaluate

        try:
            with contextlib.redirect_stdout(sys.stderr):
                found = simple_evaluate(
                    model=self.model,
                    tasks=list(names),
                    num_fewshot=shots,
                    limit=limit,
                    bootstrap_iters=0,  # intervals are ours
                    log_samples=True,
                    apply_chat_template=self.chat_template,
                    fewshot_as_multiturn=self.chat_template,
                    task_manager=self._manager(tasks),
                )
        except (ConnectionError, FileNotFoundError) as error:
            raise UserError(
                f"{task.name}: lm-eval cannot load its data ({_first_line(error)}); check the "
                f"network, or give {task.name}.{task.split}=FILE by --data"
            ) from error
        except Exception as error:
            if type(error).__name__ != "DatasetGenerationError":
                raise
            reason = _first_line(error.__cause__ or error)
            raise UserError(
                f"{task.name}: its data cannot be read together ({reason}); give all rows of all "
                "its files the same columns"
            ) from error
        return [
            ItemValue(
                subtask,
                int(sample["doc_id"]),
                float(sample[task.metric]),
                str(sample["target"]),
                str(sample["filtered_resps"]),
            )
            for subtask, samples in sorted(found["samples"].items())
            for sample in samples
            if sample.get("filter", "none") == task.filter
        ]

    def _manager(self, tasks: Path | None) -> Any:
        """lm-eval's index of tasks; reading all of its own takes long, so that is done once, and
        not at all for task files of ours, which name their templates by path."""
        from lm_eval.tasks import TaskManager

        if tasks is not None:
            return TaskManager(include_path=str(tasks), include_defaults=False)
        if self._stock is None:
            self._stock = TaskManager()
        return self._stock
