"""The models of a PPO phase, from folders: on one base where they are adapters of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from irl_align.core.errors import UserError
from irl_align.llm.models.adapters import adapter_base_dtype, add_adapters, lora_config
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
from irl_align.llm.models.low_rank import LowRankUpdate, NotLowRank, low_rank_update
from irl_align.llm.models.weights import SavedWeights
from irl_align.llm.policy.artefacts import PolicyRef, continue_adapter
from irl_align.llm.policy.scores import normalisation
from irl_align.llm.ppo.actor_critic import ActorCritic, SeparateModels
from irl_align.llm.ppo.shared import REWARD, VALUE, SharedModels, add_update
from irl_align.llm.reward.classifier import load_classifier
from irl_align.llm.reward.info import RewardModelInfo
from irl_align.llm.reward.scorer import RewardScorer

if TYPE_CHECKING:
    from irl_align.llm.config import AlignConfig

__all__ = ["PPOModels", "build_models"]


@dataclass
class PPOModels:
    """Attributes:
    models: policy, value model and reference.
    scorer: the reward model, if any; `centre`, `scale`: of its scores of demonstrations.
    count: bodies in memory: 4, 2 (the reward model apart) or 1; one less of several without one.
    """

    models: ActorCritic
    scorer: RewardScorer | None
    centre: float
    scale: float
    count: int

    def release_reward(self) -> None:
        """Give back a reward model of its own before the policy is saved."""
        self.scorer = None


def build_models(
    policy: PolicyRef, initial: PolicyRef, reward: Path, config: AlignConfig, *, seed: int
) -> PPOModels:
    """Models on the CPU. With policy.lora and policy.ppo.shared_base all live on the base that the
    policy's adapter belongs to; a reward model that is no adapter of it is loaded beside it, and a
    line says so. Where a rule alone pays, the value model starts at 0 on the policy's own body.
    UserError when the policy cannot go on from its folder."""
    folder = reward / "model" if config.fits_reward else None
    centre, scale = normalisation(folder, config.policy.scores) if folder else (0.0, 1.0)
    if config.policy.lora is None or not config.policy.ppo.shared_base:
        models, scorer, count = _separate(policy, initial, folder, config, centre, scale, seed)
    else:
        models, scorer, count = _shared(policy, initial, folder, config, centre, scale, seed)
    return PPOModels(models, scorer, centre, scale, count)


def _reference(policy: PolicyRef, initial: PolicyRef, config: AlignConfig) -> PolicyRef:
    return policy if config.policy.reference == "previous" else initial


def _load_scorer(folder: Path, config: AlignConfig) -> RewardScorer:
    return RewardScorer.load(
        folder, bf16=config.model.bf16, shared_prefix=config.reward.shared_prefix
    )


def _separate(
    policy: PolicyRef,
    initial: PolicyRef,
    folder: Path | None,
    config: AlignConfig,
    centre: float,
    scale: float,
    seed: int,
) -> tuple[ActorCritic, RewardScorer | None, int]:
    reference = _reference(policy, initial, config)
    frozen = load_causal_lm(reference.model, config.model, dtype=adapter_base_dtype(config.model))
    if config.policy.lora is None:
        trained: Any = load_causal_lm(policy.model, config.model)
    else:
        base = load_causal_lm(reference.model, config.model, dtype=adapter_base_dtype(config.model))
        trained = add_adapters(base, config.policy.lora, "CAUSAL_LM", seed)
        continue_adapter(trained, policy, initial, config.policy.reference)
    value: Any = load_classifier(
        folder or policy.model,
        dtype=config.model.train_dtype,
        attn_implementation=config.model.attn_implementation,
        new_head=folder is None,
    )
    for model in (trained, value):
        if config.policy.gradient_checkpointing:
            model.gradient_checkpointing_enable()
            model.enable_input_require_grads()
    if config.policy.ppo.value_head == "zero":
        nn.init.zeros_(value.score.weight)
        shift, unit = 0.0, 1.0
    else:
        shift, unit = centre, scale
    models = SeparateModels(
        trained,
        value,
        frozen,
        temperature=config.sampling.temperature,
        value_shift=shift,
        value_scale=unit,
    )
    return (models, _load_scorer(folder, config), 4) if folder else (models, None, 3)


def _shared(
    policy: PolicyRef,
    initial: PolicyRef,
    folder: Path | None,
    config: AlignConfig,
    centre: float,
    scale: float,
    seed: int,
) -> tuple[ActorCritic, RewardScorer | None, int]:
    settings = config.policy.lora
    assert settings is not None
    reference = _reference(policy, initial, config)
    base = load_causal_lm(reference.model, config.model, dtype=adapter_base_dtype(config.model))
    prefix = f"{base.base_model_prefix}."
    body = {
        name.removeprefix(prefix): weight
        for name, weight in base.state_dict().items()
        if name.startswith(prefix)
    }
    update, score = _reward_update(body, folder, prefix) if folder else (None, None)
    value_adapter = lora_config(settings, base, "CAUSAL_LM")
    lm = add_adapters(base, settings, "CAUSAL_LM", seed)
    continue_adapter(lm, policy, initial, config.policy.reference)
    value_head = nn.Linear(int(base.config.hidden_size), 1)
    nn.init.zeros_(value_head.weight)
    nn.init.zeros_(value_head.bias)
    if update is not None and update.down:
        add_update(lm, update, REWARD)
        add_update(lm, update, VALUE)
    else:
        torch.manual_seed(seed + 1)
        lm.add_adapter(VALUE, value_adapter)
    if update is None or score is None or folder is None:
        models = SharedModels(lm, value_head, temperature=config.sampling.temperature)
        return (models, _load_scorer(folder, config), 2) if folder else (models, None, 1)
    if config.policy.ppo.value_head == "reward":
        with torch.no_grad():
            value_head.weight.copy_(score / scale)
            value_head.bias.fill_(-centre / scale)
    models = SharedModels(lm, value_head, temperature=config.sampling.temperature, score=score)
    scorer = RewardScorer(
        models.classifier(),  # type: ignore[arg-type]
        load_tokenizer(folder),
        bf16=config.model.bf16,
        shared_prefix=config.reward.shared_prefix,
        info=RewardModelInfo.read(folder),
    )
    return models, scorer, 1


def _reward_update(
    body: dict[str, Tensor], folder: Path, prefix: str
) -> tuple[LowRankUpdate | None, Tensor]:
    """(what the reward model adds to the base's body, None when that is no adapter; its head)."""
    saved = SavedWeights(folder)
    if "score.weight" not in saved:
        raise UserError(f"{folder} is no reward model: it has no score head")
    score = saved["score.weight"].float()
    try:
        update = low_rank_update(body, SavedWeights(folder, prefix))
    except NotLowRank as reason:
        print(
            f"the reward model is no adapter of the policy's base ({reason}) and is loaded beside "
            "it; reward.init_from=reference makes it one",
            file=sys.stderr,
        )
        return None, score
    named = LowRankUpdate(
        update.rank,
        {prefix + name: factor for name, factor in update.down.items()},
        {prefix + name: factor for name, factor in update.up.items()},
    )
    return named, score
