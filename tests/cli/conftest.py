import sys
from pathlib import Path

import pytest

# The synthetic run lives beside the report's tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from synthetic_run import make_run


@pytest.fixture(scope="session")
def runs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a finished run, an interrupted one and a folder that is no run. Read only."""
    root = tmp_path_factory.mktemp("root") / "runs"
    make_run(root / "finished")
    make_run(root / "killed", stop=(1, "policy"))
    (root / "notes").mkdir()
    return root
