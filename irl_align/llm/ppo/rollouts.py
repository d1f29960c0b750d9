"""Who samples for PPO: the trained model itself, or an engine that is given its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_json
from irl_align.core.seeding import derive_seed
from irl_align.llm.chat import render, render_prompt, response_tokens
from irl_align.llm.data.schema import Demonstration, Message, Prompt
from irl_align.llm.distributed import world
from irl_align.llm.generation.base import GenerationSettings
from irl_align.llm.generation.client import PolicySampler, resolve_backend
from irl_align.llm.generation.hf import HfGenerator, token_logprobs
from irl_align.llm.generation.probe import PROBE_NAME, LogprobProbe
from irl_align.llm.generation.samples import Completion
from irl_align.llm.models.saving import merged_state, save_model
from irl_align.llm.ppo.actor_critic import ActorCritic
from irl_align.llm.ppo.experience import Rollout
from irl_align.llm.reward.classifier import autocast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from irl_align.llm.config import AlignConfig

__all__ = ["RolloutSource", "make_rollouts"]

_PROBE_TOKENS = 256


class RolloutSource(ABC):
    """Answers to the round's prompts, in an order drawn once and gone through again and again."""

    def __init__(
        self,
        models: ActorCritic,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[Message]],
        config: AlignConfig,
        *,
        seed: int,
    ) -> None:
        self.models, self.tokenizer, self.prompts = models, tokenizer, prompts
        self.sampling, self.bf16 = config.sampling, config.model.bf16
        self.ids = [response_tokens(tokenizer, render_prompt(tokenizer, p)) for p in prompts]
        limit = config.sampling.max_prompt_tokens
        self.usable = [i for i, ids in enumerate(self.ids) if len(ids) <= limit]
        if not self.usable:
            raise UserError(f"every prompt is over sampling.max_prompt_tokens={limit}; raise it")
        self.batch = config.policy.ppo.rollout_batch
        self.seed = seed

    def sample(self, batch: int, count: int, seed: int) -> list[Rollout]:
        """This process's `count` answers of the batch."""
        chosen = self._chosen(batch)[world().rank :: world().size]
        assert len(chosen) == count
        completions = self._answer(chosen, seed, batch)
        return [self._rollout(i, c) for i, c in zip(chosen, completions, strict=True)]

    def _chosen(self, batch: int) -> list[int]:
        """Prompts of the batch's answers, for all processes."""
        wanted = range(batch * self.batch, (batch + 1) * self.batch)
        orders: dict[int, Any] = {}
        for turn in {slot // len(self.usable) for slot in wanted}:
            drawn = derive_seed(self.seed, round=turn, phase="ppo/prompts")
            orders[turn] = np.random.default_rng(drawn).permutation(self.usable)
        size = len(self.usable)
        return [int(orders[slot // size][slot % size]) for slot in wanted]

    def _rollout(self, prompt: int, completion: Completion) -> Rollout:
        return Rollout(
            self.ids[prompt],
            completion.token_ids,
            completion.finished,
            completion.logprobs,
            source=prompt,
        )

    def _settings(self, seed: int) -> GenerationSettings:
        return GenerationSettings(
            n=1,
            temperature=self.sampling.temperature,
            max_new_tokens=self.sampling.max_new_tokens,
            max_prompt_tokens=self.sampling.max_prompt_tokens,
            seed=seed,
            logprobs=True,
        )

    @abstractmethod
    def _answer(self, prompts: Sequence[int], seed: int, batch: int) -> list[Completion]: ...

    def metrics(self) -> dict[str, float]:
        return {"policy/over_long_prompts": float(len(self.prompts) - len(self.usable))}

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Give back what was started for sampling."""


class OwnRollouts(RolloutSource):
    """Hugging Face generate on the very model that is trained; nothing is copied."""

    def _answer(self, prompts: Sequence[int], seed: int, batch: int) -> list[Completion]:
        generator = HfGenerator(self.sampling)
        device = next(self.models.parameters()).device
        was_training = self.models.training
        self.models.eval()
        with self.models.answering() as model, autocast(device, self.bf16):
            generator.hold(model, self.tokenizer)
            found = generator.generate([self.prompts[i] for i in prompts], self._settings(seed))
        self.models.train(was_training)
        return [answers[0] for answers in found]  # type: ignore[misc]


class EngineRollouts(RolloutSource):
    """An engine process that takes the trained weights before each batch; the logprob probe, whose
    numbers come from the trained model itself, tells whether it did."""

    def __init__(
        self,
        models: ActorCritic,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sequence[Message]],
        config: AlignConfig,
        scratch: Path,
        probe: Demonstration,
        *,
        seed: int,
    ) -> None:
        super().__init__(models, tokenizer, prompts, config, seed=seed)
        self.sampler = PolicySampler(replace(config.sampling, engine="persistent"))
        # One folder for all processes of a machine would need a common name: each has its own.
        self.scratch = scratch
        text = render(tokenizer, probe.prompt, probe.response)
        self.probe = response_tokens(tokenizer, text)[:_PROBE_TOKENS]
        self.gaps: list[float] = []
        self.seconds = {"load": 0.0, "generate": 0.0}

    def _answer(self, prompts: Sequence[int], seed: int, batch: int) -> list[Completion]:
        folder = self.scratch / f"policy-{batch}"
        self._write(folder)
        samples, metrics = self.sampler.sample(
            folder,
            folder / PROBE_NAME,
            [Prompt(str(i), tuple(self.prompts[i])) for i in prompts],
            self._settings(seed),
            description=f"batch {batch}: sampling",
        )
        self.gaps.append(metrics["samples/probe_gap"])
        for key in self.seconds:
            self.seconds[key] += metrics[f"time/{key}"]
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        return [s.completions[0] for s in samples]

    def _write(self, folder: Path) -> None:
        with self.models.answering() as model:
            whole, state = merged_state(model, self.sampling.dtype)
            save_model(whole, self.tokenizer, folder, dtype=self.sampling.dtype, state_dict=state)
            device = next(self.models.parameters()).device
            with autocast(device, self.bf16):
                found = token_logprobs(model, self.probe)
        atomic_write_json(
            folder / PROBE_NAME, asdict(LogprobProbe(self.probe, found, self.sampling.dtype))
        )

    def metrics(self) -> dict[str, float]:
        gap = max(self.gaps, default=0.0)
        times = {f"policy/seconds_{key}": value for key, value in self.seconds.items()}
        return super().metrics() | {"policy/probe_gap": gap} | times

    def close(self) -> None:
        self.sampler.close()


def make_rollouts(
    models: ActorCritic,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    config: AlignConfig,
    scratch: Path,
    probe: Demonstration,
    *,
    seed: int,
) -> RolloutSource:
    """By `sampling.backend`: vllm gives an engine a process, hf the model itself. `seed`, the same
    on every process, draws the order of the prompts."""
    if resolve_backend(config.sampling).backend == "vllm":
        return EngineRollouts(models, tokenizer, prompts, config, scratch, probe, seed=seed)
    return OwnRollouts(models, tokenizer, prompts, config, seed=seed)
