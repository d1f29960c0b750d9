"""A tiny random chat model and tiny data: everything real but the size."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = "red blue green small large old new quick slow warm cold good bad bird fish tree house".split()


def tiny_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Byte-level BPE with ChatML tokens; pad differs from EOS."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([f"user assistant say {a} {b}" for a in WORDS for b in WORDS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        chat_template=template,
    )


def write_tiny_model(
    folder: Path, *, seed: int = 0, layers: int = 2, hidden: int = 32, template: str | None = TEMPLATE
) -> Path:
    """A random Llama with tied embeddings and its tokenizer, as a plain folder."""
    tokenizer = tiny_tokenizer(template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_demonstrations(path: Path, rows: int = 8, start: int = 0) -> Path:
    lines = []
    for i in range(start, start + rows):
        word, other = WORDS[i % len(WORDS)], WORDS[(3 * i + 1) % len(WORDS)]
        lines.append(
            json.dumps({"id": f"d{i}", "prompt": f"say {word} {i}", "response": f"good {other} {word}"})
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_prompts(path: Path, rows: int = 4, start: int = 1000) -> Path:
    lines = [json.dumps({"id": f"h{i}", "prompt": f"say {WORDS[i % 7]} {i}"}) for i in range(start, start + rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_preferences(path: Path, rows: int = 6) -> Path:
    lines = [
        json.dumps({"prompt": f"say {WORDS[i]} p{i}", "chosen": f"good {WORDS[i]}", "rejected": f"bad {WORDS[i]}"})
        for i in range(rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
