"""What the tests of configs/ share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


def value_at(config: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def opening(path: Path) -> str:
    """The comment that a file begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[: next(i for i, x in enumerate(lines) if not x.startswith("#"))])


def check_opening(path: Path) -> None:
    """An experiment opens with what a reader needs, and names programs that exist."""
    text = opening(path)
    for word in ("Paper", "Hardware", "Launch", "Expected"):
        assert re.search(rf"^# {word} +\S", text, re.MULTILINE), f"no line `# {word} ...`"
    assert str(path.relative_to(ROOT)) in text, "the launch line starts another file"
    for named in re.findall(r"(?:recipes|eval)/\w+\.py|configs/accelerate/\w+\.yaml", text):
        assert (ROOT / named).is_file(), f"{named} is named and not there"
