"""The reward phase: (r_t, demonstrations, samples of pi_t, human pairs) -> r_{t+1} in a folder."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.llm.chat import template_hash
from irl_align.llm.config import ModelConfig, RewardConfig
from irl_align.llm.data.schema import Demonstration, Preference
from irl_align.llm.distributed import barrier, world
from irl_align.llm.generation.samples import PromptSamples
from irl_align.llm.models.adapters import add_adapters
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.models.sharded import whole_model
from irl_align.llm.reward.classifier import load_classifier
from irl_align.llm.reward.head import probe_head
from irl_align.llm.reward.info import CONFIG_NAME, RewardModelInfo
from irl_align.llm.reward.learner import fit_reward, group_accuracy, score_groups
from irl_align.llm.reward.pairs import (
    PairGroup,
    build_demo_groups,
    build_preference_groups,
    split_holdout,
    weigh,
)
from irl_align.llm.reward.saving import save_reward_model
from irl_align.llm.reward.scorer import ConversationTokeniser, RewardScorer
from irl_align.llm.training import training_arguments

__all__ = ["fit_reward_phase"]

_CENTRE_ON = 512  # demonstrations whose scores give centre and scale

EOS_RULE = (
    "score read at the last token of the template's rendering of the whole conversation; "
    "cut-off completions are rendered open"
)


def fit_reward_phase(
    previous: Path | None,
    body: Path,
    demonstrations: Sequence[Demonstration],
    samples: Sequence[Sequence[PromptSamples]],
    preferences: Sequence[Preference],
    out: Path,
    config: RewardConfig,
    model_config: ModelConfig,
    *,
    seed: int,
    scratch: Path,
    round_number: int = 0,
    earlier: Sequence[Path | None] = (),
) -> dict[str, float]:
    """Fit, save, verify and measure one reward model; every process calls it.

    `previous`: folder of r_t, None in round 0 (r_0 = 0). `body`: a language model whose body
    starts the first one. `samples`: newest round first, then as many earlier ones as wanted, with
    the folders `earlier` of the rewards r_j that their policies answered to (None or missing:
    r_0 = 0). Under the residual objective samples of round j fit r_theta - r_j: where each policy
    was its reward's optimum, r_j + beta log demo / pi_j is the same reward for every j.
    Writes `out/model`; returns `reward/*` metrics.
    """
    start = previous if previous is not None and config.warm_start else None
    tokenizer = load_tokenizer(start or body, model_config)
    tokenise = ConversationTokeniser(tokenizer)
    demo_groups, human, dropped = _groups(tokenise, demonstrations, samples, preferences, config)
    split = [split_holdout(groups, config.holdout) for groups in demo_groups]
    held = split[0][1] if split else []  # against the newest policy
    if config.objective == "residual_logistic":
        rewards = [start, *earlier]
        for (of_round, _), frozen in zip(split, rewards, strict=False):
            if frozen is not None and of_round:
                _record_previous_scores(frozen, of_round, config, model_config)
    fit = [g for of_round, _ in split for g in of_round] + human
    fit = weigh(fit, config.gamma_demo, config.alpha_pref)

    head = None
    if start is None and config.head == "probe":
        head = _probe(body, tokenizer, fit, config, model_config, seed)

    arguments = training_arguments(config, model_config, seed=seed, scratch=scratch)

    def build() -> Any:
        model = load_classifier(
            start or body,
            dtype=model_config.train_dtype,
            attn_implementation=model_config.attn_implementation,
            new_head=start is None,
            head=head,
        )
        model.config.pad_token_id = tokenizer.pad_token_id
        if config.lora is None:
            return model
        return add_adapters(model, config.lora, "SEQ_CLS", seed)

    trained = build()
    classifier = trained if config.lora is None else trained.get_base_model()
    if config.gradient_checkpointing:
        classifier.gradient_checkpointing_enable()
        classifier.enable_input_require_grads()
    scorer = RewardScorer(
        classifier, tokenizer, bf16=model_config.bf16, shared_prefix=config.shared_prefix
    )
    metrics = fit_reward(scorer, fit, held, config, arguments, out)
    metrics |= {f"reward/dropped_{k}": float(v) for k, v in dropped.items()}

    info = RewardModelInfo(
        objective=config.objective,
        beta=config.beta,
        template_hash=template_hash(tokenizer),
        eos_rule=EOS_RULE,
        max_length=config.max_length,
        base=str(body.name),
        round=round_number,
    )
    folder = out / "model"
    whole = whole_model(trained, build)
    if world().is_main:
        merged = whole.merge_and_unload() if config.lora is not None else whole
        probe = [(d.prompt, d.response) for d in demonstrations[:8]]
        metrics["reward/reload_difference"] = save_reward_model(
            merged, tokenizer, folder, info, probe, dtype=config.save_dtype
        )
        del merged
    del trained, whole, classifier, scorer
    gc.collect()
    barrier()
    return metrics | _measure(folder, held, demonstrations, info, config, model_config)


def _groups(
    tokenise: ConversationTokeniser,
    demonstrations: Sequence[Demonstration],
    samples: Sequence[Sequence[PromptSamples]],
    preferences: Sequence[Preference],
    config: RewardConfig,
) -> tuple[list[list[PairGroup]], list[PairGroup], Counter[str]]:
    """(demonstration groups of each round's samples, human pairs, what was dropped)."""
    demo: list[list[PairGroup]] = []
    human: list[PairGroup] = []
    dropped: Counter[str] = Counter()
    if config.gamma_demo > 0:
        for of_round in samples:
            found, lost = build_demo_groups(
                demonstrations,
                {s.id: s for s in of_round},
                tokenise,
                max_length=config.max_length,
                truncated=config.truncated,
                limit=config.samples_per_demonstration,
                choose=config.choose,
            )
            demo.append(found)
            dropped += lost
    if config.alpha_pref > 0 and preferences:
        human, lost = build_preference_groups(preferences, tokenise, max_length=config.max_length)
        dropped += lost
    if not any(demo) and not human:
        raise UserError(
            f"the reward model has nothing to learn from: {dict(dropped)}. Raise "
            "sampling.max_new_tokens or reward.max_length, or set reward.truncated=match"
        )
    return demo, human, dropped


def _record_previous_scores(
    folder: Path, groups: Sequence[PairGroup], config: RewardConfig, model_config: ModelConfig
) -> None:
    """The frozen reward on every text of `groups` (human pairs use the absolute reward)."""
    frozen = RewardScorer.load(
        folder,
        dtype=model_config.train_dtype,
        bf16=model_config.bf16,
        shared_prefix=config.shared_prefix,
    )
    for group, scores in zip(groups, score_groups(frozen, groups), strict=True):
        group.previous = scores


def _probe(
    body: Path,
    tokenizer: Any,
    groups: Sequence[PairGroup],
    config: RewardConfig,
    model_config: ModelConfig,
    seed: int,
) -> Tensor:
    """The head's start, by a plain copy of the body that is gone before training begins."""
    classifier: Any = load_classifier(
        body,
        dtype=model_config.train_dtype,
        attn_implementation=model_config.attn_implementation,
        new_head=True,
    )
    classifier.config.pad_token_id = tokenizer.pad_token_id
    classifier.to("cuda" if torch.cuda.is_available() else "cpu")
    frozen = RewardScorer(
        classifier, tokenizer, bf16=model_config.bf16, shared_prefix=config.shared_prefix
    )
    return probe_head(frozen, groups, seed)


def _measure(
    folder: Path,
    held: Sequence[PairGroup],
    demonstrations: Sequence[Demonstration],
    info: RewardModelInfo,
    config: RewardConfig,
    model_config: ModelConfig,
) -> dict[str, float]:
    """Held-out accuracy and centring constants, by the model as it was saved."""
    scorer = RewardScorer.load(folder, bf16=model_config.bf16, shared_prefix=config.shared_prefix)
    metrics: dict[str, float] = {}
    scores = score_groups(scorer, held) if held else []
    if scores:
        metrics |= {f"reward/{k}": v for k, v in group_accuracy(held, scores).items()}
        metrics["reward/demo_score"] = float(np.mean([s[0] for s in scores]))
        metrics["reward/sample_score"] = float(np.mean([x for s in scores for x in s[1:]]))
    if config.centre:
        texts = [
            PairGroup(d.id, "demo", [scorer.tokenise(d.prompt, d.response)])
            for d in demonstrations[:_CENTRE_ON]
        ]
        of_demos = np.array([s[0] for s in score_groups(scorer, texts)])
        info = replace(info, centre=float(of_demos.mean()), scale=float(of_demos.std() or 1.0))
        if world().is_main:
            atomic_write_json(folder / CONFIG_NAME, info.as_dict())
        metrics |= {"reward/centre": info.centre, "reward/scale": info.scale}
        barrier()
    return metrics
