"""The phases that run in processes of their own, by name. Files in, files out."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from irl_align.core.errors import naming
from irl_align.core.files import atomic_write_text, to_json
from irl_align.core.seeding import seed_everything
from irl_align.llm.config import IMPLICIT, ON_POLICY, AlignConfig
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.data.preferences import load_preferences
from irl_align.llm.distributed import all_gather_objects, barrier, join, world
from irl_align.llm.generation.samples import PromptSamples, read_samples
from irl_align.llm.jobs import PhaseJob
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.training import join_for

if TYPE_CHECKING:
    from irl_align.llm.data.schema import Demonstration, Preference
    from irl_align.llm.policy.pairs import PolicyPair

__all__ = ["PHASES", "SAMPLES_NAME", "load_training_data", "run_phase"]

SAMPLES_NAME = "samples.jsonl.gz"


def load_training_data(config: AlignConfig) -> tuple[list[Demonstration], list[Preference]]:
    """Demonstrations (outer white space off, as completions have it) and human pairs, if any."""
    data = config.demonstrations
    assert data.path is not None, "checked when the run starts"
    demonstrations, _ = load_demonstrations(
        data.path,
        split=data.split,
        limit=data.limit,
        on_bad_rows=data.on_bad_rows,  # type: ignore[arg-type]
    )
    demonstrations = [replace(d, response=d.response.strip()) for d in demonstrations]
    preferences: list[Preference] = []
    if config.preferences.path is not None and config.reward.alpha_pref > 0:
        pairs = config.preferences
        preferences, _ = load_preferences(
            str(pairs.path),
            split=pairs.split,
            limit=pairs.limit,
            on_bad_rows=pairs.on_bad_rows,  # type: ignore[arg-type]
        )
    return demonstrations, preferences


def _prepare(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    """Make the base model a folder that loads, and leave its logprob probe."""
    from irl_align.llm.generation.probe import write_probe
    from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
    from irl_align.llm.models.package import PACKAGE_PREFIX, import_package_model
    from irl_align.llm.models.saving import save_model

    join()
    out = Path(job.out)
    if world().is_main:
        if config.model.path.startswith(PACKAGE_PREFIX):
            import_package_model(
                config.model.path, out / "model", template=config.model.chat_template
            )
            ref = PolicyRef.at(out)
        elif config.model.chat_template is not None:
            # Whoever loads the base or its children must find the template beside the weights.
            tokenizer = load_tokenizer(
                config.model.path, config.model, template=config.model.chat_template
            )
            model = load_causal_lm(config.model.path, config.model, dtype=config.sampling.dtype)
            save_model(model, tokenizer, out / "model")
            ref = PolicyRef.at(out)
        else:
            load_tokenizer(config.model.path, config.model)
            ref = PolicyRef.point_to(_local_folder(config), out)
        demo = load_training_data(config)[0][0]
        write_probe(ref.model, ref.probe, demo.prompt, demo.response, dtype=config.sampling.dtype)
    barrier()
    return {}


def _local_folder(config: AlignConfig) -> Path:
    """The model's folder: as given, or where the hub's files were stored."""
    if Path(config.model.path).is_dir():
        return Path(config.model.path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(config.model.path, revision=config.model.revision))


def _sft(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    from irl_align.llm.policy.sft import fit_sft

    join_for(config.sft)
    return fit_sft(
        PolicyRef.at(Path(job.inputs["base"])),
        load_training_data(config)[0],
        Path(job.out),
        config.sft,
        config.model,
        seed=job.seed,
        scratch=scratch,
        save_dtype=config.sampling.dtype,
    )


def _reward(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    from irl_align.llm.reward.phase import fit_reward_phase

    join_for(config.reward)
    demonstrations, preferences = load_training_data(config)
    previous = job.inputs.get("reward")
    if config.policy.method == "nash_md":
        return _preferences(config, job, scratch, demonstrations, preferences)
    names = [job.inputs["samples"], *job.extra.get("earlier_samples", [])]
    return fit_reward_phase(
        Path(previous) if previous else None,
        PolicyRef.at(Path(job.inputs["body"])).model,
        demonstrations,
        [read_samples(Path(name) / SAMPLES_NAME) for name in names],
        preferences,
        Path(job.out),
        config.reward,
        config.model,
        seed=job.seed,
        scratch=scratch,
        round_number=job.round,
        earlier=[Path(r) if r else None for r in job.extra.get("earlier_rewards", [])],
    )


def _preferences(
    config: AlignConfig,
    job: PhaseJob,
    scratch: Path,
    demonstrations: list[Demonstration],
    preferences: list[Preference],
) -> dict[str, float]:
    """The model of human preferences, which knows nothing of rounds: fitted in the first, and the
    same in all."""
    import shutil

    from irl_align.llm.reward.pairwise import as_ordered_pairs, mark_pairwise
    from irl_align.llm.reward.phase import fit_reward_phase

    folder = Path(job.out) / "model"
    previous = job.inputs.get("reward")
    if previous is not None:
        if world().is_main:
            shutil.copytree(previous, folder)
        barrier()
        return {}
    metrics = fit_reward_phase(
        None,
        PolicyRef.at(Path(job.inputs["body"])).model,
        demonstrations,
        [],
        as_ordered_pairs(preferences),
        Path(job.out),
        # Demonstrations are compared with nothing, and what s says of one answer means nothing.
        replace(
            config.reward, gamma_demo=0.0, objective="pairwise_logistic", beta=1.0, centre=False
        ),
        config.model,
        seed=job.seed,
        scratch=scratch,
        round_number=job.round,
    )
    if world().is_main:
        mark_pairwise(folder)
    barrier()
    return metrics


def _policy(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
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
    scale, scored = score_samples(samples, _reward_folder(job), config)
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
    from irl_align.core.errors import UserError
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
    _, scored = score_samples(samples, _reward_folder(job), config)
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
    from irl_align.llm.generate import training_prompts
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


def score_samples(
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


def _measure(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    from irl_align.llm.measure import measure

    join()
    metrics = measure(config, job) if world().is_main else {}
    barrier()
    return metrics


Run = Callable[[AlignConfig, PhaseJob, Path], dict[str, float]]

PHASES: dict[str, Run] = {
    "prepare": _prepare,
    "sft": _sft,
    "reward": _reward,
    "policy": _policy,
    "measure": _measure,
}


def run_phase(job: PhaseJob) -> dict[str, float]:
    """Run one phase in this process; seeds it, gives it a scratch folder, returns its metrics."""
    config = AlignConfig.from_dict(job.config)
    seed_everything(job.seed)
    with naming(job.out), tempfile.TemporaryDirectory(prefix="irl-align-") as scratch:
        return PHASES[job.name](config, job, Path(scratch))
