"""What holds of every method by name; one that is not written yet is skipped."""

from __future__ import annotations

import importlib.util
import inspect

import pytest

from irl_align.control.baselines.methods import METHODS, method
from irl_align.control.config import DemonstratedConfig
from irl_align.core.config import load_config
from irl_align.core.errors import UserError

OURS = {"ml_irl", "bc", "sqil", "iq_learn"}


def there(name: str) -> bool:
    return importlib.util.find_spec(METHODS[name][0]) is not None


PRESENT = [name for name in METHODS if there(name)]


def test_the_methods_of_this_project():
    assert set(METHODS) == OURS | {"gail", "dac", "airl", "f_irl"}
    assert set(PRESENT) >= OURS


@pytest.mark.parametrize("name", PRESENT)
def test_every_method_has_one_shape(name):
    found = method(name)
    assert issubclass(found.config, DemonstratedConfig)
    assert load_config(found.config, None, ["demonstrations.path=x"]).run_dir == f"runs/{name}"
    parameters = inspect.signature(found.run).parameters
    assert list(parameters) == ["config", "loggers", "keep", "trainer"]
    assert found.run.__name__ == name and found.run.__doc__


@pytest.mark.parametrize("name", PRESENT)
def test_every_method_has_the_keys_that_a_comparison_reads(name, tiny, demonstrations):
    found = method(name)
    result = found.run(tiny(found.config, demonstrations, environment_steps=30), keep=False)
    for row in result.history:
        assert {"steps/environment", "steps/evaluation", "time/policy"} <= row.keys()
    assert "eval/return" in result.history[-1]
    assert result.policy.agent.acting.deterministic() is not None


def test_an_unknown_method_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown method 'iqlearn'; did you mean iq_learn\?"):
        method("iqlearn")


def test_a_method_that_is_not_there_is_no_import_error(monkeypatch):
    monkeypatch.setitem(METHODS, "later", ("irl_align.control.baselines.later", "LaterConfig"))
    with pytest.raises(UserError, match="later is not part of this version"):
        method("later")
