"""The policy phase by PPO: prompts and a reward model in, the next policy out."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from irl_align.core.loggers import ConsoleLogger
from irl_align.llm.data.schema import Demonstration, Message, Prompt
from irl_align.llm.distributed import world
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef, save_policy
from irl_align.llm.policy.scores import paid, rule_metrics, with_rule
from irl_align.llm.ppo.building import PPOModels, build_models
from irl_align.llm.ppo.experience import Rollout
from irl_align.llm.ppo.rollouts import make_rollouts
from irl_align.llm.ppo.stream import ExperienceStream, StreamShape
from irl_align.llm.ppo.trainer import train_ppo
from irl_align.llm.preflight import check_policy
from irl_align.llm.training import training_arguments

if TYPE_CHECKING:
    from irl_align.llm.config import AlignConfig

__all__ = ["fit_ppo", "stream_shape"]

TOLD = ("score", "kl", "return", "length", "eos_rate")  # of rollouts.jsonl, on the console


def stream_shape(config: AlignConfig, prompts: int) -> StreamShape:
    """How many batches a round makes: at least one, and whole ones only."""
    policy, ppo = config.policy, config.policy.ppo
    episodes = ppo.episodes or round(policy.epochs * prompts)
    batches = max(1, -(-episodes // ppo.rollout_batch))
    return StreamShape(batches, policy.batch_size, policy.micro_batch_size)


class TextScore:
    """Scores of rollouts: the policy's tokens as text, and that by the reward model's template."""

    def __init__(self, scorer: Any, tokenizer: Any, prompts: Sequence[Sequence[Message]]) -> None:
        self.scorer, self.tokenizer, self.prompts = scorer, tokenizer, prompts

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        texts = [
            str(self.tokenizer.decode(list(r.answer), skip_special_tokens=True)).strip()
            for r in rollouts
        ]
        found: list[float] = self.scorer.score(
            [self.prompts[r.source] for r in rollouts],
            texts,
            finished=[r.finished for r in rollouts],
            batch_size=36,
        )
        return found


def fit_ppo(
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
    """Improve `policy` against the reward model in `reward` and save pi_{t+1} into `out`.

    Every process calls it. The reference is pi_0 (`initial`) or, with policy.reference=previous,
    the policy at the start. Returns `policy/*` metrics; answers of all batches are told of in
    `out`/rollouts.jsonl. Raises UserError when the batch cannot be split over the processes, or
    a setting rules PPO out.
    """
    settings, scores = config.policy.ppo, config.policy.scores
    check_policy(config, human_pairs=False)
    shape = stream_shape(config, len(prompts))
    steps = shape.batches * settings.epochs * (settings.rollout_batch // shape.batch_size)
    arguments = training_arguments(
        config.policy, config.model, seed=seed, scratch=scratch, max_steps=steps
    )
    built = build_models(policy, initial, reward, config, seed=seed)
    built.models.to(arguments.device)
    tokenizer = load_tokenizer(policy.model, config.model)
    messages = [p.messages for p in prompts]
    scorer, centre, scale = with_rule(built.scorer, built.centre, built.scale, scores)
    answers = make_rollouts(built.models, tokenizer, messages, config, scratch, probe, seed=seed)
    try:
        stream = ExperienceStream(
            built.models,
            answers.sample,
            TextScore(scorer, tokenizer, messages),
            settings,
            shape,
            beta=config.policy.beta,
            pad_token_id=int(tokenizer.pad_token_id),
            seed=seed,
            bf16=config.model.bf16,
            pay=partial(paid, settings=scores, centre=centre, scale=scale),
            tell=_say,
        )
        _, metrics = train_ppo(built.models, stream, settings, arguments, out)
    finally:
        answers.close()
    metrics |= {"policy/models": float(built.count)} | answers.metrics() | rule_metrics(scorer)
    built.release_reward()
    _save(built, policy, initial, reward, tokenizer, out, probe, config, seed)
    return metrics


def _say(batch: int, row: dict[str, float]) -> None:
    """A line for who watches: a round of PPO is long, and what goes wrong shows here first."""
    if world().is_main:
        shown = {name: row[name] for name in TOLD}
        ConsoleLogger(stream=sys.stderr).log(batch, shown, kind="answers")


def _save(
    built: PPOModels,
    policy: PolicyRef,
    initial: PolicyRef,
    reward: Path,
    tokenizer: Any,
    out: Path,
    probe: Demonstration,
    config: AlignConfig,
    seed: int,
) -> None:
    trained = built.models.policy_model()
    build = partial(_build_policy, policy, initial, reward, config, seed)
    save_policy(trained, build, tokenizer, out, probe, dtype=config.sampling.dtype)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _build_policy(
    policy: PolicyRef, initial: PolicyRef, reward: Path, config: AlignConfig, seed: int
) -> Any:
    """The trained model's like, to take whole weights (see `models.whole_model`)."""
    return build_models(policy, initial, reward, config, seed=seed).models.policy_model()
