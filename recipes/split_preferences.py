"""Turn a file of human preferences into an honest trial of learning from demonstrations.

    python recipes/split_preferences.py PREFERENCES.jsonl.gz OUT --demonstrations 300 --pairs 200

Writes OUT/demonstrations.jsonl (prompts with the chosen answer only), OUT/preferences.jsonl (a few
whole pairs for AIHF) and OUT/heldout.jsonl (the rest, for accuracy). The split is by prompt, so no
prompt, and no pair, is on two sides; rows that cannot be used are counted and left out.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path

from irl_align.core.errors import UserError, exit_with_clear_errors
from irl_align.core.files import atomic_write_text
from irl_align.llm.data.preferences import load_preferences
from irl_align.llm.data.schema import Preference


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="human preferences, any accepted shape")
    parser.add_argument("out", type=Path, help="folder for the three files")
    parser.add_argument("--demonstrations", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=200, help="real pairs for AIHF")
    parser.add_argument("--heldout", type=int, default=None, help="at most so many held-out pairs")
    parser.add_argument("--max-chars", type=int, default=None, help="leave longer rows out")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    preferences, report = load_preferences(arguments.file, on_bad_rows="drop")
    print(report.render())
    if arguments.max_chars is not None:
        preferences = [p for p in preferences if _size(p) <= arguments.max_chars]
    by_prompt: dict[str, list[Preference]] = defaultdict(list)
    for pair in preferences:
        by_prompt[json.dumps(pair.prompt)].append(pair)
    prompts = sorted(by_prompt)
    random.Random(arguments.seed).shuffle(prompts)
    parts: dict[str, list[Preference]] = {"demonstrations": [], "preferences": [], "heldout": []}
    wanted = {"demonstrations": arguments.demonstrations, "preferences": arguments.pairs}
    for prompt in prompts:
        side = next((s for s, n in wanted.items() if len(parts[s]) < n), "heldout")
        # One demonstration a prompt; a prompt's other pairs stay on its side and are not used.
        parts[side] += by_prompt[prompt][:1] if side == "demonstrations" else by_prompt[prompt]
    if not parts["heldout"]:
        raise UserError(
            f"{arguments.file}: {len(prompts)} usable prompts leave none held out; "
            "lower --demonstrations or --pairs"
        )
    parts["heldout"] = parts["heldout"][: arguments.heldout]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for side, pairs in parts.items():
        rows = [_row(pair, side) for pair in pairs]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        atomic_write_text(arguments.out / f"{side}.jsonl", lines)
        print(f"{arguments.out / side}.jsonl: {len(rows)} rows")
    return 0


def _size(pair: Preference) -> int:
    return sum(len(m["content"]) for m in pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def _row(pair: Preference, side: str) -> dict[str, object]:
    prompt = [dict(m) for m in pair.prompt]
    if side == "demonstrations":
        answer = {"role": "assistant", "content": pair.chosen}
        return {"id": pair.id, "messages": [*prompt, answer]}
    return {"id": pair.id, "prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected}


if __name__ == "__main__":
    exit_with_clear_errors(main)
