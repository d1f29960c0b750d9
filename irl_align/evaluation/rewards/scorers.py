"""What can score responses, from its settings: found and identified first, loaded last.

A wrong path, a missing template or a model of the wrong kind is told before weights are read, and
an evaluation that is finished already reads none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from irl_align.core.errors import UserError
from irl_align.evaluation.evaluators import Scorer
from irl_align.evaluation.rewards.grading import Grader, ScoreGrader
from irl_align.evaluation.store import ModelRecord, identify_model

__all__ = ["ScorerKind", "ScorerSettings", "Subject", "find_model", "prepare_scorer"]

ScorerKind = Literal["auto", "reward", "likelihood", "implicit"]
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True)
class Subject:
    """What is put to the test.

    Attributes:
        folder: where the model lies; None behind an endpoint.
        settings: everything about the scoring that decides numbers.
        load: called once there is something to grade.
    """

    model: ModelRecord
    load: Callable[[], Grader]
    settings: Mapping[str, Any]
    others: Mapping[str, ModelRecord] = field(default_factory=dict)
    judge: Mapping[str, Any] | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class ScorerSettings:
    """How responses are scored.

    Attributes:
        model, reference: a model folder, a policy's or reward's folder of a run, or a hub name
            (`org/name`, then with a `revision`); `reference` makes the reward implicit.
        kind: "reward" (sequence classifier with one label), "likelihood" (log p of the response),
            "implicit" (beta * log pi / pi_ref); "auto" tells by the model and `reference`.
        beta: of the implicit reward; a scale that moves no accuracy.
        dtype: of the weights; `bf16`: bfloat16 matmuls over them.
        template, reference_template: Jinja files for language models without a chat template.
        max_length: tokens of a conversation, whose end is kept; null: the model's positions.
        batch_size: responses per forward pass.
    """

    model: str
    kind: ScorerKind = "auto"
    reference: str | None = None
    beta: float = 0.1
    revision: str | None = None
    reference_revision: str | None = None
    dtype: str = "float32"
    bf16: bool = False
    device: str | None = None
    max_length: int | None = None
    template: str | None = None
    reference_template: str | None = None
    batch_size: int = 16

    def check(self) -> None:
        """Raises UserError for values that make no sense, before anything is read."""
        if self.batch_size < 1:
            raise UserError(f"--batch-size is {self.batch_size}; it must be at least 1")
        if self.max_length is not None and self.max_length < 2:
            raise UserError(f"--max-length is {self.max_length}; it must be at least 2")
        if self.beta <= 0:
            raise UserError(f"--beta is {self.beta}; it must be above 0")
        for flag, path in (
            ("--chat-template", self.template),
            ("--reference-chat-template", self.reference_template),
        ):
            if path is not None and not Path(path).is_file():
                raise UserError(f"{flag} {path}: no such file")
        if self.kind == "implicit" and self.reference is None:
            raise UserError("--scorer implicit needs --reference, the policy's reference model")
        if self.reference is not None and self.kind in ("reward", "likelihood"):
            raise UserError(
                f"--reference has no meaning for --scorer {self.kind}; leave one of them out"
            )


def find_model(name: str, revision: str | None = None, *, flag: str = "MODEL") -> Path:
    """The folder of a model: `name` itself, the model in a phase folder of a run, or, for a hub
    name, the snapshot in the local cache (downloaded when it is not there).

    Raises UserError naming `flag` otherwise.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        for folder in (path, path / "model"):
            if (folder / "config.json").is_file():
                return folder
        if (path / "source.json").is_file():
            from irl_align.llm.policy.artefacts import PolicyRef

            return PolicyRef.at(path).model
        if (path / "adapter_config.json").is_file():
            raise UserError(
                f"{flag} {name} holds adapters alone; merge them into their base model first "
                "(peft's merge_and_unload) and save that"
            )
        raise UserError(
            f"{flag} {name} holds no model (no config.json). A run's models are in "
            "RUN/rounds/NNNN/reward/model and RUN/rounds/NNNN/policy/model"
        )
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(
            f"{flag} {name}: no such folder, and no hub name either (those read org/name)"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_WANTED))
    except Exception as error:  # the hub package raises errors of its own and of its HTTP client
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{flag} {name}: no such folder, and the hub does not give it ({first}); check the "
            "name or the network, or give a folder"
        ) from error


def prepare_scorer(settings: ScorerSettings) -> Subject:
    """Find, identify and check what is to score; weights are loaded by `Subject.load`."""
    settings.check()
    folder = find_model(settings.model, settings.revision)
    kind = _kind(settings, folder)
    if kind == "reward" and settings.template is not None:
        raise UserError("--chat-template has no meaning for a reward model, which has its own")
    plain: dict[str, Any] = {
        "scorer": kind,
        "dtype": settings.dtype,
        "bf16": settings.bf16,
        "device": _device(settings.device),
        "batch_size": settings.batch_size,
        "max_length": settings.max_length,
        "template_hash": _template_hash(folder, settings.template),
    }
    others: dict[str, ModelRecord] = {}
    reference: Path | None = None
    if kind == "implicit":
        assert settings.reference is not None
        reference = find_model(settings.reference, settings.reference_revision, flag="--reference")
        _must_be_language_model(settings.reference, reference, "--reference")
        template = settings.reference_template or settings.template
        plain |= {
            "beta": settings.beta,
            "reference_template_hash": _template_hash(reference, template),
        }
        others["reference"] = _identify(settings.reference, reference, settings.reference_revision)
    return Subject(
        model=_identify(settings.model, folder, settings.revision),
        load=lambda: ScoreGrader(
            _load(settings, kind, folder, reference), batch_size=settings.batch_size
        ),
        settings=plain,
        others=others,
        folder=folder,
    )


def _load(
    settings: ScorerSettings, kind: ScorerKind, folder: Path, reference: Path | None
) -> Scorer:
    common: dict[str, Any] = {
        "dtype": settings.dtype,
        "bf16": settings.bf16,
        "device": settings.device,
        "max_length": settings.max_length,
    }
    if kind == "reward":
        from irl_align.llm.reward.scorer import RewardScorer

        return RewardScorer.load(folder, **common)
    from irl_align.llm.policy.likelihood import ImplicitRewardScorer, LikelihoodScorer

    policy = LikelihoodScorer.load(folder, template=settings.template, **common)
    if reference is None:
        return policy
    template = settings.reference_template or settings.template
    other = LikelihoodScorer.load(reference, template=template, **common)
    return ImplicitRewardScorer(policy, other, settings.beta)


def _kind(settings: ScorerSettings, folder: Path) -> ScorerKind:
    classifier = _is_classifier(folder)
    if settings.kind == "auto":
        if settings.reference is not None:
            _must_be_language_model(settings.model, folder, "MODEL")
            return "implicit"
        if classifier:
            return "reward"
        raise UserError(
            f"{settings.model} is a language model, no reward model: choose --scorer likelihood "
            "(log-likelihood of the responses), or give --reference (implicit reward)"
        )
    if settings.kind == "reward" and not classifier:
        raise UserError(
            f"{settings.model} holds no reward model (a sequence classifier with one label); "
            "choose another --scorer"
        )
    if settings.kind != "reward":
        _must_be_language_model(settings.model, folder, "MODEL")
    return settings.kind


def _is_classifier(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = config.get("architectures") or []
        return any("SequenceClassification" in name for name in names)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'} cannot be read ({error})") from error


def _must_be_language_model(name: str, folder: Path, flag: str) -> None:
    if _is_classifier(folder):
        raise UserError(f"{flag} {name} is a reward model; a language model is needed here")


def _identify(name: str, folder: Path, revision: str | None) -> ModelRecord:
    """With the commit of a hub snapshot, which is its folder's name."""
    on_hub = not Path(name).expanduser().is_dir()
    return identify_model(folder, shown=name, revision=folder.name if on_hub else revision)


def _template_hash(folder: Path, template: str | None) -> str:
    from irl_align.llm.chat import template_hash
    from irl_align.llm.models.loading import load_tokenizer

    return template_hash(load_tokenizer(folder, template=template))


def _device(wanted: str | None) -> str:
    """The kind of device, which decides the last digits."""
    import torch

    place = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
    if place.type != "cuda":
        return place.type
    if not torch.cuda.is_available():
        raise UserError(f"--device {wanted}: torch sees no CUDA device; choose cpu")
    return torch.cuda.get_device_name(place)
