"""Before round 0: the base model as a folder that loads, and SFT."""

from __future__ import annotations

from pathlib import Path

from irl_align.llm.config import AlignConfig
from irl_align.llm.distributed import barrier, join, world
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.run_data import load_training_data
from irl_align.llm.training import join_for

__all__ = ["fine_tune", "prepare"]


def prepare(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
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


def fine_tune(config: AlignConfig, job: PhaseJob, scratch: Path) -> dict[str, float]:
    """SFT of the model in input `base` on the demonstrations: a policy folder in `job.out`."""
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
