"""A run goes on with the data that it started with."""

from __future__ import annotations

import pytest

from irl_align.core.errors import UserError
from irl_align.core.run import RunDirectory
from irl_align.llm.alignment import _check_same_data


def test_changed_data_are_refused_and_named(tmp_path):
    with RunDirectory(tmp_path / "run").open({"seed": 0}) as run:
        _check_same_data(run, {"demonstrations": "a", "heldout_prompts": "b"})
        _check_same_data(run, {"demonstrations": "a", "heldout_prompts": "b"})
        with pytest.raises(UserError, match="content of demonstrations changed"):
            _check_same_data(run, {"demonstrations": "c", "heldout_prompts": "b"})
        _check_same_data(run, {"demonstrations": "a", "heldout_prompts": "b"})
