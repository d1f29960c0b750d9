import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from synthetic_run import make_run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with hidden reward and results.json. Read only."""
    return make_run(tmp_path_factory.mktemp("runs") / "quickstart")
