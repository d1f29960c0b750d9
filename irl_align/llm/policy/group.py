"""GRPO and RLOO by TRL's stable trainers, against the reward model.

Both sample G answers to a prompt from the policy as it is, and hold each against its siblings:

    GRPO  A_j = (r_j - mean r) [/ std r];  loss with clipped ratios and beta k3 per token
    RLOO  A_j = R_j - mean of the others,  R = r - beta log pi/pi_ref of the whole answer

(thesis Algs. 8 and 11; Shao et al. 2024; Ahmadian et al. 2024). RLOO's fixed point is pi_ref
exp(r / beta) / Z. GRPO's is only nearly: dividing by a group's deviation (`scale_rewards=group`,
what it is known for) gives every prompt a beta of its own, and its KL term charges a token for its
own log ratio and not for those that it leads to (exact for answers of one token alone).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from irl_align.core.errors import UserError
from irl_align.llm.chat import render_prompt, response_tokens
from irl_align.llm.data.schema import Demonstration, Prompt
from irl_align.llm.models.adapters import adapter_base_dtype, load_adapted_lm, lora_config
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef, continue_adapter, save_policy
from irl_align.llm.policy.scores import load_scorer, paid, rule_metrics
from irl_align.llm.training import run_training, training_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from irl_align.llm.config import AlignConfig

__all__ = ["finish_group", "fit_group", "make_group_trainer", "short_prompts"]

# (prompts, completions as text, finished) -> what each is paid
Pay = Callable[[Sequence[Any], Sequence[str], Sequence[bool]], Sequence[float]]


def make_group_trainer(
    policy: PolicyRef,
    initial: PolicyRef,
    prompts: Sequence[Any],
    pay: Pay,
    config: AlignConfig,
    *,
    seed: int,
    scratch: Path,
) -> Any:
    """A GRPOTrainer, or (`policy.method` rloo and nash_md) an RLOOTrainer, whose policy is pi_t and
    whose reference is the one that `policy.reference` names. `prompts`: messages or texts."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    optim, group = config.policy, config.policy.group
    grpo = optim.method == "grpo"
    steps = max(1, round(optim.epochs * len(prompts) * group.answers / optim.batch_size))
    more: dict[str, Any] = {
        "max_steps": steps * group.iterations,
        "num_generations": group.answers,
        "num_iterations": group.iterations,
        "epsilon": group.clip,
        "beta": optim.beta,
        "temperature": config.sampling.temperature,
        "max_completion_length": config.sampling.max_new_tokens,
        "disable_dropout": True,
        "shuffle_dataset": True,
    }
    if grpo:
        more |= {"scale_rewards": group.scale_rewards, "loss_type": group.loss_type}
    arguments = training_arguments(
        optim,
        config.model,
        seed=seed,
        scratch=scratch,
        kind=GRPOConfig if grpo else RLOOConfig,
        **more,
    )
    tokenizer = load_tokenizer(policy.model, config.model)
    stops = {tokenizer.eos_token_id}

    def reward(
        prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **_: Any
    ) -> list[float]:
        texts = [c if isinstance(c, str) else str(c[0]["content"]) for c in completions]
        finished = [bool(ids) and int(ids[-1]) in stops for ids in completion_ids]
        return list(pay(prompts, [t.strip() for t in texts], finished))

    reference = policy if optim.reference == "previous" else initial
    common: dict[str, Any] = {
        "reward_funcs": [reward],
        "args": arguments,
        "train_dataset": Dataset.from_list([{"prompt": p} for p in prompts]),
        "processing_class": tokenizer,
    }
    kind = GRPOTrainer if grpo else RLOOTrainer
    if optim.lora is None:
        model = load_causal_lm(policy.model, config.model)
        # TRL loads the reference from where the policy says that it comes from.
        model.config._name_or_path = str(reference.model)
        return kind(model=model, **common)
    base = load_causal_lm(reference.model, config.model, dtype=adapter_base_dtype(config.model))
    torch.manual_seed(seed)  # the adapters' start must depend on nothing drawn before
    trainer = kind(model=base, peft_config=lora_config(optim.lora, base, "CAUSAL_LM"), **common)
    continue_adapter(trainer.model, policy, initial, optim.reference)
    return trainer


def fit_group(
    policy: PolicyRef,
    initial: PolicyRef,
    reward: Path,
    prompts: Sequence[Prompt],
    out: Path,
    probe: Demonstration,
    config: AlignConfig,
    *,
    seed: int,
    scratch: Path,
) -> dict[str, float]:
    """Improve `policy` by GRPO or RLOO and save pi_{t+1} into `out`; `policy/*` metrics.

    Answers are sampled by Hugging Face generate on the trained model. Prompts over
    `sampling.max_prompt_tokens` are left out and counted.
    """
    scorer, centre, scale = load_scorer(reward, config)
    raw: list[float] = []

    def pay(
        prompts: Sequence[Any], texts: Sequence[str], finished: Sequence[bool]
    ) -> Sequence[float]:
        scores = scorer.score(prompts, texts, finished=finished, batch_size=36)
        raw.extend(scores)
        settings = config.policy.scores
        return [paid(s, f, settings, centre, scale) for s, f in zip(scores, finished, strict=True)]

    rows, _ = short_prompts(policy, prompts, config)
    trainer = make_group_trainer(policy, initial, rows, pay, config, seed=seed, scratch=scratch)
    metrics = finish_group(trainer, policy, initial, out, probe, config, seed=seed)
    metrics |= rule_metrics(scorer)
    return metrics | {
        "policy/over_long_prompts": float(len(prompts) - len(rows)),
        "policy/reward_score": sum(raw) / max(len(raw), 1),  # of this process's answers, raw
    }


def short_prompts(
    policy: PolicyRef, prompts: Sequence[Prompt], config: AlignConfig
) -> tuple[list[list[dict[str, Any]]], PreTrainedTokenizerBase]:
    """(messages of the prompts within `sampling.max_prompt_tokens`, the policy's tokenizer).
    UserError when none is."""
    tokenizer = load_tokenizer(policy.model, config.model)
    limit = config.sampling.max_prompt_tokens
    rows = [
        [dict(m) for m in p.messages]
        for p in prompts
        if len(response_tokens(tokenizer, render_prompt(tokenizer, p.messages))) <= limit
    ]
    if not rows:
        raise UserError(f"every prompt is over sampling.max_prompt_tokens={limit}; raise it")
    return rows, tokenizer


def finish_group(
    trainer: Any,
    policy: PolicyRef,
    initial: PolicyRef,
    out: Path,
    probe: Demonstration,
    config: AlignConfig,
    *,
    seed: int,
) -> dict[str, float]:
    """Run the trainer of :func:`make_group_trainer` and save its policy; `policy/*` metrics."""
    name = config.policy.method.replace("_", "-").upper()
    metrics = run_training(trainer, "policy", out, description=name)
    reference = policy if config.policy.reference == "previous" else initial
    start = reference if config.policy.lora is not None else policy
    save_policy(
        trainer.accelerator.unwrap_model(trainer.model),
        partial(load_adapted_lm, start.model, config.model, config.policy.lora, seed),
        trainer.processing_class,
        out,
        probe,
        dtype=config.sampling.dtype,
    )
    told = {
        "reward": "score",
        "kl": "kl",
        "completions/mean_length": "length",
        "entropy": "entropy",
    }
    for theirs, ours in told.items():
        found = [row[theirs] for row in trainer.state.log_history if theirs in row]
        if found:
            metrics[f"policy/first_{ours}"], metrics[f"policy/{ours}"] = found[0], found[-1]
    return metrics
