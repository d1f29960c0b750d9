from __future__ import annotations

import sys
from pathlib import Path

# `eval` is no installed package; `python -m eval.bench` runs in the project's folder, too.
sys.path.insert(0, str(Path(__file__).parents[2]))
