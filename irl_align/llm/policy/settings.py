"""What the policy learners can be told, beyond the optimiser's settings that all share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from irl_align.core.checks import choice, not_negative, positive

__all__ = ["GroupSettings", "NashSettings", "PPOSettings", "RuleSettings", "ScoreSettings"]


@dataclass
class RuleSettings:
    """A rule beside the reward model or in its place: the form that was asked for, and the right
    answer; 3, -0.5, -1 or -3. See `irl_align.evaluation.rules`."""

    answers: Optional[str] = None  # JSON lines with prompt and answer; null: no rule
    weight: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "weight")


@dataclass
class ScoreSettings:
    """How scores become pay.

    pay = `reward_weight` x score + `rules.weight` x rule. With `reward_weight` 0 no reward model is
    fitted, and the rule alone pays.

    With `normalise` a score is (r - centre) / scale of the reward model's record, so that
    demonstrations have mean 0 and variance 1, and one beta serves every reward model. An answer
    that was cut off is paid its score less `missing_eos_penalty`; or `missing_eos_score`, whatever
    it says (the paper's -1: right only where ordinary answers are paid more than that).
    """

    normalise: bool = True
    missing_eos_penalty: float = 1.0
    missing_eos_score: Optional[float] = None
    reward_weight: float = 1.0
    rules: RuleSettings = field(default_factory=RuleSettings)

    def __post_init__(self) -> None:
        not_negative(self, "reward_weight")
        if self.reward_weight == 0 and self.rules.answers is None:
            raise ValueError(
                "reward_weight is 0 and rules.answers is not set: nothing is left to pay for"
            )
        if self.missing_eos_penalty < 0:
            raise ValueError(
                f"missing_eos_penalty is {self.missing_eos_penalty}; it must be 0 or more"
            )


@dataclass
class PPOSettings:
    """PPO against the reward model (thesis Alg. 7, Table 5.6).

    A batch of answers is sampled from the current policy, then learned from for `epochs` passes in
    steps of `policy.batch_size` answers. `policy.beta` is the KL coefficient,
    `sampling.temperature` the temperature of policy and reference alike. What an answer is paid is
    `policy.scores`' matter.
    """

    rollout_batch: int = 512  # answers sampled before each stretch of learning, all processes
    episodes: Optional[int] = None  # answers sampled in a round; None: policy.epochs x prompts
    epochs: int = 4
    gamma: float = 1.0
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_clip: Optional[float] = 0.2  # null: values are not held
    value_coef: float = 0.1
    # Where the value model's head starts, on the reward model's body: `reward`, at the reward
    # model's own, which was never asked about half an answer; or `zero`, so that at first the mean
    # is the baseline. In a short round the former's errors are most of the advantage. Without a
    # reward model, and with one that is no adapter of the policy's base, it is zero in any case.
    value_head: str = "reward"
    whiten_advantages: bool = True
    whiten_rewards: bool = False
    average: str = "token"  # of the losses: over all tokens, or per answer first (thesis Alg. 7)
    target_kl: Optional[float] = None  # nats per answer; null: policy.beta stays as it is
    kl_horizon: int = 10_000  # answers; how fast beta follows target_kl
    importance_cap: Optional[float] = None  # weights pi_old / pi_engine up to this; null: none
    shared_base: bool = True  # with policy.lora: one base for all four models

    def __post_init__(self) -> None:
        positive(self, "rollout_batch", "epochs", "clip", "kl_horizon")
        choice("average", self.average, ("token", "answer"))
        choice("value_head", self.value_head, ("reward", "zero"))
        for name in ("episodes", "value_clip", "target_kl", "importance_cap"):
            if getattr(self, name) is not None:
                positive(self, name)
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1]")
        not_negative(self, "value_coef")


@dataclass
class GroupSettings:
    """GRPO, RLOO and Nash-MD. `policy.batch_size` counts answers of one step, `policy.epochs`
    passes over the round's prompts, `policy.beta` is the KL coefficient."""

    answers: int = 8  # G, to each prompt
    iterations: int = 1  # steps on the same answers
    clip: float = 0.2
    scale_rewards: str = "group"  # GRPO: by the group's deviation, the batch's, or none
    loss_type: str = "grpo"  # how GRPO averages: grpo (per answer), bnpo (over tokens), dapo, ...

    def __post_init__(self) -> None:
        positive(self, "iterations", "clip")
        choice("scale_rewards", self.scale_rewards, ("group", "batch", "none"))
        choice("loss_type", self.loss_type, ("grpo", "bnpo", "dapo", "dr_grpo"))
        if self.answers < 2:
            raise ValueError(f"answers is {self.answers}; a group needs 2 or more")


@dataclass
class NashSettings:
    """Nash-MD, whose opponent is the mixture pi^(1-m) pi_ref^m; see `llm/policy/nash.py`."""

    mixture: float = 0.5  # m at the start of a round
    anneal: bool = True  # to 0 at its end; false: the policy answers to the mixture, not to itself

    def __post_init__(self) -> None:
        if not 0 <= self.mixture <= 1:
            raise ValueError(f"mixture is {self.mixture}; it must be in [0, 1]")
