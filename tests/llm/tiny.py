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
WORDS = ["red", "blue", "green", "small", "large", "old", "new", "quick", "slow", "warm", "cold"]
WORDS += ["good", "bad", "bird", "fish", "tree", "house"]


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
    folder: Path,
    *,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 32,
    heads: int = 4,
    template: str | None = TEMPLATE,
) -> Path:
    """A random Llama with tied embeddings and its tokenizer, as a plain folder."""
    tokenizer = tiny_tokenizer(template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
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
            json.dumps(
                {"id": f"d{i}", "prompt": f"say {word} {i}", "response": f"good {other} {word}"}
            )
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_prompts(path: Path, rows: int = 4, start: int = 1000) -> Path:
    lines = [
        json.dumps({"id": f"h{i}", "prompt": f"say {WORDS[i % 7]} {i}"})
        for i in range(start, start + rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_preferences(path: Path, rows: int = 6) -> Path:
    lines = [
        json.dumps(
            {
                "prompt": f"say {WORDS[i]} p{i}",
                "chosen": f"good {WORDS[i]}",
                "rejected": f"bad {WORDS[i]}",
            }
        )
        for i in range(rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_trained_model(
    folder: Path,
    *,
    seed: int = 0,
    steps: int = 120,
    hidden: int = 32,
    heads: int = 4,
    **kwargs: int,
) -> Path:
    """As :func:`write_tiny_model`, taught in a second or two to answer "good|bad WORD WORD" and to
    end, so that samples are words, some are finished and none is certain."""
    from transformers import AutoTokenizer

    write_tiny_model(folder, seed=seed, hidden=hidden, heads=heads, **kwargs)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokenizer.padding_side = "right"

    def word() -> str:
        return WORDS[int(torch.randint(len(WORDS), (1,), generator=generator))]

    for step in range(steps):
        texts = []
        for _ in range(16):
            answer = ("good", "bad")[int(torch.randint(2, (1,), generator=generator))]
            number = int(torch.randint(2000, (1,), generator=generator))
            texts.append(
                tokenizer.apply_chat_template(
                    [
                        {"role": "user", "content": f"say {word()} {number}"},
                        {"role": "assistant", "content": f"{answer} {word()} {word()}"},
                    ],
                    tokenize=False,
                )
            )
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps)
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels)[
            "loss"
        ].backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    return folder
