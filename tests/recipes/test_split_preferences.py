"""recipes/split_preferences.py: no prompt on two sides, nothing but the chosen answer leaks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "split_preferences.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RECIPE), *arguments], capture_output=True, text=True, check=False
    )


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_pairs(path: Path) -> Path:
    lines = [
        {"prompt": f"question {i // 2}", "chosen": f"good {i}", "rejected": f"bad {i}"}
        for i in range(40)
    ]
    lines.append({"prompt": "same", "chosen": "x", "rejected": "x"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_split_is_by_prompt_and_demonstrations_hold_no_rejected_answer(tmp_path):
    source, out = write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "out"
    done = run(str(source), str(out), "--demonstrations", "6", "--pairs", "8")
    assert done.returncode == 0, done.stderr
    demonstrations = rows(out / "demonstrations.jsonl")
    assert len(demonstrations) == 6
    assert len(rows(out / "preferences.jsonl")) == 8
    assert not any("bad" in json.dumps(row) for row in demonstrations)
    sides = [
        {row["messages"][0]["content"] for row in demonstrations},
        {row["prompt"][0]["content"] for row in rows(out / "preferences.jsonl")},
        {row["prompt"][0]["content"] for row in rows(out / "heldout.jsonl")},
    ]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert "dropped" in done.stdout


def test_nothing_held_out_is_a_clear_error(tmp_path):
    source = write_pairs(tmp_path / "pairs.jsonl")
    done = run(str(source), str(tmp_path / "out"), "--demonstrations", "100", "--pairs", "8")
    assert done.returncode == 2
    assert "held out" in done.stderr
    assert "Traceback" not in done.stderr
