"""Nash-MD: the policy that no other one is preferred to, for preferences that need no reward.

    max_pi min_pi'  P(pi > pi') - beta KL(pi || pi_ref) + beta KL(pi' || pi_ref)

The game is symmetric, and its solution answers to itself: pi* = pi_ref exp(P(. > pi*) / beta) / Z.
One step follows the gradient

    E_{y ~ pi, y' ~ pi'}[(P(y > y' | x) - 1/2 - beta log pi/pi_ref (y)) grad log pi(y | x)]

against answers of the mixture pi' = pi^(1-m) pi_ref^m (Munos et al. 2024, arXiv 2312.00886; thesis
Alg. 10). That is RLOO with P for a reward, the constant being the leave-one-out mean, so TRL's
trainer makes the steps, and the opponents are sampled here.

With a fixed m the policy comes to answer to the mixture and not to itself. The paper's guarantee
lets m fall to 0, and so does `policy.nash.anneal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from irl_align.core.seeding import derive_seed
from irl_align.llm.chat import render_prompt, response_tokens
from irl_align.llm.data.schema import Demonstration, Prompt
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.group import finish_group, make_group_trainer, short_prompts
from irl_align.llm.policy.mixture import sample_mixture
from irl_align.llm.policy.scores import paid
from irl_align.llm.policy.settings import NashSettings

if TYPE_CHECKING:
    from irl_align.llm.config import AlignConfig

__all__ = ["Opponents", "fit_nash"]


class Opponents:
    """Answers of pi^(1-m) pi_ref^m, by the policy as `trainer` has it just now.

    Args:
        trainer: of `make_group_trainer`; knows the policy, its reference and how far it has come.
        temperature: of sampling, for both.
    """

    def __init__(
        self,
        trainer: Any,
        settings: NashSettings,
        *,
        max_new_tokens: int,
        temperature: float,
        seed: int,
    ) -> None:
        self.trainer, self.settings = trainer, settings
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        device = trainer.accelerator.device
        rank = self.trainer.accelerator.process_index  # each process meets opponents of its own
        own = derive_seed(seed, round=0, phase="nash/opponents", rank=rank)
        self.generator = torch.Generator(device).manual_seed(own)

    @property
    def mixture(self) -> float:
        """m at this step."""
        if not self.settings.anneal:
            return self.settings.mixture
        done = self.trainer.state.global_step / max(self.trainer.state.max_steps, 1)
        return self.settings.mixture * max(0.0, 1.0 - done)

    def sample(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """One answer to each prompt of token ids, with its end token if it came to one."""
        tokenizer = self.trainer.processing_class
        pad, eos = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
            mask[row, width - len(prompt) :] = 1
        device = self.trainer.accelerator.device
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        training = model.training
        model.eval()  # a model that recomputes its layers in training keeps no cache there
        answers = sample_mixture(
            model,
            self._reference(model),
            ids.to(device),
            mask.to(device),
            mixture=self.mixture,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=eos,
            pad_token_id=pad,
            temperature=self.temperature,
            generator=self.generator,
        ).tolist()
        model.train(training)
        return [a[: a.index(eos) + 1] if eos in a else a for a in answers]

    def _reference(self, model: Any) -> Any:
        """The reference's forward pass: a model of its own, or the policy without its adapters."""
        apart = self.trainer.ref_model

        def forward(**inputs: Any) -> Any:
            with model.disable_adapter() if apart is None else nullcontext():
                return (model if apart is None else apart)(**inputs)

        return forward


def fit_nash(
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
    """Improve `policy` against the preference model in `reward` and save pi_{t+1} into `out`.

    `policy/*` metrics: those of RLOO, where `score` is the share of comparisons won against the
    mixture. UserError when `reward` holds no pairwise preference model.
    """
    from irl_align.llm.reward.pairwise import PairwisePreference

    preference = PairwisePreference.load(
        reward / "model", bf16=config.model.bf16, shared_prefix=config.reward.shared_prefix
    )
    rows, tokenizer = short_prompts(policy, prompts, config)
    won: list[float] = []

    def pay(
        asked: Sequence[Any], texts: Sequence[str], finished: Sequence[bool]
    ) -> Sequence[float]:
        ids = [response_tokens(tokenizer, render_prompt(tokenizer, p)) for p in asked]
        others = [
            str(tokenizer.decode(a, skip_special_tokens=True)).strip()
            for a in opponents.sample(ids)
        ]
        chances = preference.probability(asked, texts, others)
        won.extend(chances)
        return [paid(p, f, config.policy.scores) for p, f in zip(chances, finished, strict=True)]

    trainer = make_group_trainer(policy, initial, rows, pay, config, seed=seed, scratch=scratch)
    opponents = Opponents(
        trainer,
        config.policy.nash,
        max_new_tokens=config.sampling.max_new_tokens,
        temperature=config.sampling.temperature,
        seed=seed,
    )
    metrics = finish_group(trainer, policy, initial, out, probe, config, seed=seed)
    return metrics | {
        "policy/over_long_prompts": float(len(prompts) - len(rows)),
        "policy/won": sum(won) / max(len(won), 1),  # of this process's answers
        "policy/mixture": opponents.mixture,
    }
