"""The policy phase: pi_{t+1}, by the learner that `policy.method` names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_text, to_json
from irl_align.llm.config import IMPLICIT, ON_POLICY, AlignConfig
from irl_align.llm.distributed import all_gather_objects, world
from irl_align.llm.generation.samples import SAMPLES_NAME, PromptSamples, read_samples
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.run_data import load_training_data, training_prompts
from irl_align.llm.training import join_for

if TYPE_CHECKING:
    from irl_align.llm.data.schema import Demonstration
    from irl_align.llm.policy.pairs import PolicyPair

__all__ = ["improve_policy"]


def improve_policy(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    """pi_t, its answers and r_{t+1} -> a policy folder in `job.out`; `policy/*` of the training.

    Inputs: `policy`, `initial` (where rounds start), `samples`, and `reward` where one pays.
    """
    join_for(config.policy)
    method = config.policy.method
    if method in ON_POLICY:
        return _on_policy(config, job, scratch)
    if method in IMPLICIT:
        return _direct(config, job, scratch)
    return (_raft if method == "raft" else _online_dpo)(config, job, scratch)


def _online_dpo(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    from irl_align.llm.policy.pairs import best_against_worst, bradley_terry_pairs

    samples = read_samples(Path(job.inputs["samples"]) / SAMPLES_NAME)
    scale, scored = _score(samples, _reward_folder(job), config)
    wanted = config.policy.pairs_per_prompt
    if config.policy.pairing == "bradley_terry":
        for completion in (c for s in samples for c in s.completions):
            completion.scores["paid"] = completion.scores["reward"] / scale
        pairs, dropped = bradley_terry_pairs(samples, job.seed, pairs_per_prompt=wanted, key="paid")
    else:
        pairs, dropped = best_against_worst(
            samples, truncated=config.policy.truncated, pairs_per_prompt=wanted
        )
    margins = [p.margin for p in pairs]
    metrics = _fit_pairs(config, job, scratch, pairs, dropped) | scored
    return metrics | {"policy/margin": sum(margins) / max(len(margins), 1)}


def _direct(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    from irl_align.llm.policy.direct import direct_pairs

    samples = read_samples(Path(job.inputs["samples"]) / SAMPLES_NAME)
    demonstrations, preferences = load_training_data(config)
    pairs, dropped = direct_pairs(config, demonstrations, preferences, samples, job.seed)
    anchors = demonstrations if config.policy.method == "rpo" else []
    return _fit_pairs(config, job, scratch, pairs, dropped, anchors)


def _fit_pairs(
    config: AlignConfig,
    job: PhaseJob,
    scratch: Path,
    pairs: Sequence[PolicyPair],
    dropped: Counter[str],
    anchors: Sequence[Demonstration] = (),
) -> dict[str, float]:
    """DPO's loss on `pairs`, which are left in pairs.jsonl, and with `anchors` their likelihood."""
    from irl_align.llm.models.loading import load_tokenizer
    from irl_align.llm.policy.kl import answer_tokens
    from irl_align.llm.policy.online_dpo import fit_dpo, split_over_long

    out = Path(job.out)
    policy = PolicyRef.at(Path(job.inputs["policy"]))
    tokenizer = load_tokenizer(policy.model, config.model)
    pairs, dropped["over_max_length"] = split_over_long(pairs, tokenizer, config.policy.max_length)
    whole = [
        d
        for d in anchors
        if len(answer_tokens(tokenizer, d.prompt, d.response)[0]) <= config.policy.max_length
    ]
    if anchors:
        dropped["demonstrations_over_max_length"] = len(anchors) - len(whole)
        if not whole:
            raise UserError(
                f"all demonstrations are over policy.max_length={config.policy.max_length} tokens; "
                "raise it"
            )
    if world().is_main:
        rows = "".join(to_json(p.__dict__, indent=None) + "\n" for p in pairs)
        atomic_write_text(out / "pairs.jsonl", rows)
    if not pairs:
        raise UserError(
            f"no prompt gave a pair of completions ({dict(dropped)}): raise "
            "sampling.max_new_tokens, samples_per_prompt, temperature or policy.max_length"
        )
    metrics = fit_dpo(
        policy,
        PolicyRef.at(Path(job.inputs["initial"])),
        pairs,
        out,
        load_training_data(config)[0][0],
        config.policy,
        config.model,
        seed=job.seed,
        scratch=scratch,
        save_dtype=config.sampling.dtype,
        anchors=whole,
        weights=(config.reward.alpha_pref, config.reward.gamma_demo),
    )
    return metrics | {f"policy/dropped_{k}": float(v) for k, v in dropped.items()}


def _raft(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    from irl_align.llm.policy.raft import fit_raft

    samples = read_samples(Path(job.inputs["samples"]) / SAMPLES_NAME)
    _, scored = _score(samples, _reward_folder(job), config)
    metrics = fit_raft(
        PolicyRef.at(Path(job.inputs["policy"])),
        PolicyRef.at(Path(job.inputs["initial"])),
        samples,
        Path(job.out),
        config,
        seed=job.seed,
        scratch=scratch,
    )
    return metrics | scored


def _reward_folder(job: PhaseJob) -> Path:
    """Of the round's reward model; where a rule alone pays there may be none, and nobody looks."""
    return Path(job.inputs.get("reward", job.out))


def _on_policy(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    from irl_align.llm.policy.group import fit_group
    from irl_align.llm.policy.nash import fit_nash
    from irl_align.llm.ppo.phase import fit_ppo

    fit = {"ppo": fit_ppo, "nash_md": fit_nash}.get(config.policy.method, fit_group)
    return fit(
        PolicyRef.at(Path(job.inputs["policy"])),
        PolicyRef.at(Path(job.inputs["initial"])),
        _reward_folder(job),
        training_prompts(config, job.round),
        Path(job.out),
        load_training_data(config)[0][0],
        config,
        seed=job.seed,
        scratch=scratch,
    )


def _score(
    samples: list[PromptSamples], reward: Path, config: AlignConfig
) -> tuple[float, dict[str, float]]:
    """Set `completion.scores["reward"]` everywhere, the work shared out over the processes.

    Returns the scores' scale (that of demonstrations, or 1) and what a rule says of them.
    """
    from irl_align.llm.policy.scores import load_scorer, rule_metrics

    scorer, _, scale = load_scorer(reward, config)
    place = world()
    mine = range(place.rank, len(samples), place.size)
    cells = [(i, k) for i in mine for k in range(len(samples[i].completions))]
    scores = scorer.score(
        [samples[i].prompt for i, _ in cells],
        [samples[i].completions[k].text for i, k in cells],
        finished=[samples[i].completions[k].finished for i, k in cells],
        batch_size=36,
    )
    for part in all_gather_objects(list(zip(cells, scores, strict=True))):
        for (i, k), score in part:
            samples[i].completions[k].scores["reward"] = score
    return scale, rule_metrics(scorer)
