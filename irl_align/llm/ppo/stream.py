"""What PPO learns from: batches of fresh answers, dealt out in micro-batches.

The trainer asks for the next micro-batch; when a batch of answers has served its epochs, asking
samples the next one from the policy as it then is. Every process knows all answers of a batch
(token ids and a few numbers each), so advantages, whitening and the order of steps do not depend on
how many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from irl_align.core.seeding import derive_seed
from irl_align.llm.distributed import all_gather_objects, world
from irl_align.llm.policy.settings import PPOSettings
from irl_align.llm.ppo.actor_critic import ActorCritic
from irl_align.llm.ppo.advantages import (
    generalised_advantages,
    masked_mean,
    masked_whiten,
    token_rewards,
)
from irl_align.llm.ppo.experience import Experience, Rollout, pad_answers, pad_lower, pad_rollouts
from irl_align.llm.ppo.kl_control import KLCoefficient
from irl_align.llm.ppo.losses import importance_weights
from irl_align.llm.reward.classifier import autocast

__all__ = ["ExperienceStream", "StreamShape"]

# (index of the batch, answers wanted of this process, seed) -> answers
Sample = Callable[[int, int, int], Sequence[Rollout]]
# answers -> their scores by the reward model, raw
Score = Callable[[Sequence[Rollout]], Sequence[float]]


@dataclass(frozen=True)
class StreamShape:
    """How many answers: `batches` of `settings.rollout_batch`, learned from in steps of
    `batch_size`, `micro_batch_size` of a process at a time. All global but the last."""

    batches: int
    batch_size: int
    micro_batch_size: int


class ExperienceStream:
    """Iterates over micro-batches (dictionaries of tensors); see the module.

    `pay`: (raw score, finished) -> what the answer is paid. `history` has one row of metrics for
    each batch of answers, the same on every process; `tell` hears of each as soon as it is there.
    """

    def __init__(
        self,
        models: ActorCritic,
        sample: Sample,
        score: Score,
        settings: PPOSettings,
        shape: StreamShape,
        *,
        beta: float,
        pad_token_id: int,
        seed: int,
        bf16: bool = False,
        pay: Callable[[float, bool], float] = lambda raw, finished: raw,
        tell: Callable[[int, dict[str, float]], None] = lambda batch, row: None,
    ) -> None:
        self.models, self.sample, self.score = models, sample, score
        self.settings, self.shape = settings, shape
        self.kl_coefficient = KLCoefficient(beta, settings.target_kl, settings.kl_horizon)
        self.pad_token_id, self.seed, self.bf16 = pad_token_id, seed, bf16
        self.pay, self.tell = pay, tell
        self.history: list[dict[str, float]] = []
        place = world()
        per_step = shape.micro_batch_size * place.size
        self.accumulation = shape.batch_size // per_step
        steps = settings.rollout_batch // shape.batch_size
        self.length = shape.batches * settings.epochs * steps * self.accumulation

    def __len__(self) -> int:
        """Micro-batches of this process in all."""
        return self.length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for batch in range(self.shape.batches):
            experiences = self._collect(batch)
            table = self._table(experiences)
            order = np.random.default_rng(derive_seed(self.seed, round=batch, phase="ppo/order"))
            for _ in range(self.settings.epochs):
                yield from self._epoch(experiences, table, order)

    def _collect(self, batch: int) -> list[Experience]:
        """The batch's answers with old log probabilities, reference and values, in one order that
        is the same for any number of processes."""
        place = world()
        seed = derive_seed(self.seed, round=batch, phase="ppo/sample", rank=place.rank)
        rollouts = self.sample(batch, self.settings.rollout_batch // place.size, seed)
        raw = self.score(rollouts)
        mine = self._seen(rollouts, raw)
        parts = all_gather_objects(mine)
        return [part[i] for i in range(len(parts[0])) for part in parts]

    @torch.no_grad()
    def _seen(self, rollouts: Sequence[Rollout], raw: Sequence[float]) -> list[Experience]:
        device = next(self.models.parameters()).device
        found: dict[int, Experience] = {}
        order = sorted(range(len(rollouts)), key=lambda i: _tokens(rollouts[i]), reverse=True)
        step = self.shape.micro_batch_size
        keep = world().size == 1  # it is too much to send around; there every step computes it anew
        for start in range(0, len(order), step):
            chunk = order[start : start + step]
            batch = pad_rollouts([rollouts[i] for i in chunk], self.pad_token_id).to(device)
            with autocast(device, self.bf16):
                lower = self.models.lower(batch)
                logprobs, values = self.models(**batch.tensors(), lower=lower)
                reference = self.models.reference_logprobs(batch, lower)
            for row, i in enumerate(chunk):
                length = len(rollouts[i].answer)
                found[i] = Experience(
                    rollouts[i],
                    self.pay(raw[i], rollouts[i].finished),
                    raw[i],
                    logprobs[row, :length].cpu(),
                    reference[row, :length].cpu(),
                    values[row, :length].cpu(),
                    lower[row, batch.attention_mask[row] > 0].cpu()
                    if keep and lower is not None
                    else None,
                )
        return [found[i] for i in range(len(rollouts))]

    def _table(self, experiences: Sequence[Experience]) -> dict[str, Tensor]:
        """Everything per token [N, T] for the whole batch; tells `history`, steers beta."""
        settings = self.settings
        logprobs = pad_answers([e.logprobs for e in experiences])
        reference = pad_answers([e.reference_logprobs for e in experiences])
        values = pad_answers([e.values for e in experiences])
        mask = pad_answers([torch.ones(e.length) for e in experiences])
        scores = torch.tensor([e.score for e in experiences])
        beta = self.kl_coefficient.beta
        rewards = token_rewards(scores, logprobs, reference, mask, beta)
        paid = rewards.sum(1)
        if settings.whiten_rewards:
            rewards = masked_whiten(rewards, mask, shift=False)
        advantages, returns = generalised_advantages(
            rewards, values, mask, gamma=settings.gamma, gae_lambda=settings.gae_lambda
        )
        if settings.whiten_advantages:
            advantages = masked_whiten(advantages, mask)
        table = {
            "old_logprobs": logprobs,
            "old_values": values,
            "advantages": advantages,
            "returns": returns,
        }
        kl = sum(e.kl for e in experiences) / len(experiences)
        row = {
            "score": float(scores.mean()),
            "reward_score": sum(e.raw_score for e in experiences) / len(experiences),
            "kl": kl,
            "return": float(paid.mean()),
            "entropy": -float(masked_mean(logprobs, mask)),  # of a token, on the policy's own
            "length": sum(e.length for e in experiences) / len(experiences),
            "eos_rate": sum(e.rollout.finished for e in experiences) / len(experiences),
            "beta": beta,
            "value_error": float(masked_mean((values - returns) ** 2, mask)),
        }
        row |= self._engine(experiences, table, mask)
        self.tell(len(self.history), row)
        self.history.append(row)
        self.kl_coefficient.observe(kl, len(experiences))
        return table

    def _engine(
        self, experiences: Sequence[Experience], table: dict[str, Tensor], mask: Tensor
    ) -> dict[str, float]:
        """The gap between who sampled and who learns; weights that make up for it, if wanted."""
        known = [e.rollout.engine_logprobs for e in experiences]
        if any(k is None for k in known):
            if self.settings.importance_cap is not None:
                raise RuntimeError("importance_cap needs the engine's log probabilities")
            return {}
        engine = pad_answers([torch.tensor(list(k)) for k in known if k is not None])
        old = table["old_logprobs"]
        if self.settings.importance_cap is not None:
            table["weights"] = importance_weights(old, engine, self.settings.importance_cap)
        return {"engine_gap": float(masked_mean((old - engine).abs(), mask))}

    def _epoch(
        self,
        experiences: Sequence[Experience],
        table: dict[str, Tensor],
        generator: np.random.Generator,
    ) -> Iterator[dict[str, Tensor]]:
        place = world()
        size, micro = self.shape.batch_size, self.shape.micro_batch_size
        order = generator.permutation(len(experiences))
        for start in range(0, len(order), size):
            rows = sorted(
                order[start : start + size].tolist(),
                key=lambda i: _tokens(experiences[i].rollout),
                reverse=True,
            )
            tokens = sum(experiences[i].length for i in rows)
            for k in range(self.accumulation):
                first = (k * place.size + place.rank) * micro
                yield self._micro_batch(
                    [experiences[i] for i in rows[first : first + micro]],
                    {name: t[rows[first : first + micro]] for name, t in table.items()},
                    tokens,
                )

    def _micro_batch(
        self, experiences: Sequence[Experience], table: dict[str, Tensor], tokens: int
    ) -> dict[str, Tensor]:
        batch = pad_rollouts([e.rollout for e in experiences], self.pad_token_id)
        width = batch.mask.shape[1]
        # A token's share of the step's loss; shares sum to 1 over the step's micro-batches.
        if self.settings.average == "token":
            shares = batch.mask / tokens
        else:
            shares = batch.mask / batch.mask.sum(1, keepdim=True) / self.shape.batch_size
        found = batch.tensors() | {n: t[:, :width] for n, t in table.items()} | {"shares": shares}
        lower = [e.lower for e in experiences if e.lower is not None]
        return found | ({"lower": pad_lower(lower, batch)} if lower else {})


def _tokens(rollout: Rollout) -> int:
    return len(rollout.prompt) + len(rollout.answer)
