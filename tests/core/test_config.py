from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Optional

import pytest

from irl_align.core.config import load_config, read_yaml, save_config, to_dict
from irl_align.core.errors import UserError


@dataclass
class Lora:
    rank: int = 8
    targets: list[str] = field(default_factory=lambda: ["q_proj"])

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be positive, got {self.rank}")


@dataclass
class Reward:
    objective: Literal["contrast", "residual_logistic"] = "residual_logistic"
    learning_rate: float = 1e-4
    epochs: int = 1
    lora: Optional[Lora] = None


@dataclass
class Source:
    path: str
    weight: float = 1.0


@dataclass
class Config:
    model: str = "base"
    rounds: int = 2
    run_dir: Path = Path("runs/x")
    judge: str | None = None
    verbose: bool = False
    reward: Reward = field(default_factory=Reward)
    policy_lora: Lora | None = None
    sources: list[Source] = field(default_factory=list)
    extra: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise ValueError(f"rounds must be >= 0, got {self.rounds}")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def message(*arguments) -> str:
    with pytest.raises(UserError) as error:
        load_config(Config, *arguments)
    return str(error.value)


def test_defaults_then_file_then_overrides(tmp_path):
    file = write(tmp_path / "a.yaml", "rounds: 3\nreward:\n  learning_rate: 1e-5\n  epochs: 2\n")
    config = load_config(Config, file, ["reward.epochs=5", "run_dir=elsewhere"])
    assert isinstance(config, Config) and isinstance(config.reward, Reward)
    assert config.reward.learning_rate == 1e-5  # YAML 1.1 would read this as text
    assert (config.rounds, config.reward.epochs, config.model) == (3, 5, "base")
    assert config.run_dir == Path("elsewhere")
    assert load_config(Config, None) == Config()
    assert load_config(Config, write(tmp_path / "empty.yaml", "# nothing\n")) == Config()


def test_optional_sections(tmp_path):
    assert load_config(Config, None, ["policy_lora.rank=4"]).policy_lora == Lora(rank=4)
    assert load_config(Config, None, ["reward.lora.rank=4"]).reward.lora == Lora(rank=4)
    file = write(tmp_path / "a.yaml", "policy_lora:\n  targets: [a, b]\nreward:\n  lora: {}\n")
    config = load_config(Config, file)
    assert config.policy_lora == Lora(targets=["a", "b"])
    assert config.reward.lora == Lora()
    assert load_config(Config, file, ["policy_lora=null"]).policy_lora is None
    assert load_config(Config, None, ["judge=null"]).judge is None
    assert load_config(Config, None, ["judge=gpt"]).judge == "gpt"


def test_lists_dicts_and_interpolation():
    config = load_config(
        Config,
        None,
        ["sources=[{path: a}, {path: b, weight: 2}]", "extra={x: 1}", "judge=${model}"],
    )
    assert config.sources == [Source("a"), Source("b", 2.0)]
    assert config.extra == {"x": 1.0} and config.judge == "base"


def test_values_with_equals_signs_and_spaces():
    assert load_config(Config, None, ["model=a=b c"]).model == "a=b c"


class TestUnknownKeys:
    def test_near_miss_in_a_file(self, tmp_path):
        file = write(tmp_path / "a.yaml", "reward:\n  learning_rte: 1\n")
        text = message(file)
        assert str(file) in text and "reward.learning_rte" in text
        assert "did you mean learning_rate?" in text

    def test_near_miss_in_an_override(self):
        text = message(None, ["polcy_lora.rank=1"])
        assert "polcy_lora.rank=1" in text and "did you mean policy_lora?" in text

    def test_near_miss_in_an_optional_section_and_a_list(self):
        assert "did you mean rank?" in message(None, ["policy_lora.rnk=1"])
        assert "sources.1.wieght; did you mean weight?" in message(
            None, ["sources=[{path: a}, {path: b, wieght: 1}]"]
        )

    def test_nothing_near_lists_the_keys(self):
        assert "valid keys here: model, rounds" in message(None, ["zzzzz=1"])


class TestWrongValues:
    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("rounds=three", "rounds = 'three': expected int"),
            ("rounds=1.5", "rounds = 1.5: expected int"),
            ("rounds=null", "rounds = None: expected int"),
            ("reward.learning_rate=fast", "reward.learning_rate = 'fast': expected float"),
            ("verbose=maybe", "verbose = 'maybe': expected bool"),
            ("policy_lora.rank=x", "policy_lora.rank = 'x': expected int"),
            ("policy_lora=8", "policy_lora = 8: expected a section with the keys rank, targets"),
            ("reward=residual", "reward = 'residual': expected a section"),
            ("sources=a", "sources = 'a': expected list"),
            ("reward.objective=dpo", "reward.objective = 'dpo': expected one of 'contrast'"),
            ("extra={x: y}", "extra.x = 'y': expected float"),
        ],
    )
    def test_key_value_and_expected_type(self, override, expected):
        text = message(None, [override])
        assert f"override {override!r}" in text and expected in text

    def test_the_file_is_named(self, tmp_path):
        file = write(tmp_path / "a.yaml", "reward:\n  epochs: many\n")
        assert message(file).startswith(f"{file}: reward.epochs = 'many': expected int")

    def test_post_init_errors_name_the_section(self):
        assert "policy_lora: rank must be positive, got 0" in message(None, ["policy_lora.rank=0"])
        assert "reward.lora: rank must be" in message(None, ["reward.lora.rank=0"])
        assert "rounds must be >= 0" in message(None, ["rounds=-1"])

    def test_a_missing_value_is_named(self):
        assert "no value for sources[0].path" in message(None, ["sources=[{weight: 1}]"])

    def test_an_interpolation_to_nowhere(self):
        assert "nowhere" in message(None, ["judge=${nowhere}"])

    @pytest.mark.parametrize("override", ["rounds", "=3", "a..b=1", "--rounds=3"])
    def test_malformed_overrides(self, override):
        assert override in message(None, [override])

    def test_a_value_that_is_no_yaml(self):
        assert "not valid YAML" in message(None, ["model=[a"])


class TestFiles:
    def test_missing_and_wrong_files(self, tmp_path):
        assert "no such file" in message(tmp_path / "absent.yaml")
        assert "is a folder" in message(tmp_path)
        assert "a mapping of keys" in message(write(tmp_path / "list.yaml", "- a\n- b\n"))
        assert "unknown key word" in message(write(tmp_path / "s.yaml", "word\n"))
        assert "not valid YAML" in message(write(tmp_path / "broken.yaml", "a: [1\nb: 2\n"))
        assert "not valid YAML" in message(write(tmp_path / "twice.yaml", "rounds: 1\nrounds: 2\n"))
        (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9\n")
        assert "not UTF-8" in message(tmp_path / "latin.yaml")

    def test_extends(self, tmp_path):
        (tmp_path / "base").mkdir()
        write(tmp_path / "base/root.yaml", "rounds: 9\nmodel: root\nreward:\n  epochs: 4\n")
        write(tmp_path / "base/middle.yaml", "extends: root.yaml\nmodel: middle\n")
        leaf = write(
            tmp_path / "leaf.yaml", "extends: base/middle.yaml\nreward:\n  learning_rate: 2\n"
        )
        config = load_config(Config, leaf, ["rounds=1"])
        assert (config.rounds, config.model) == (1, "middle")
        assert config.reward == Reward(learning_rate=2.0, epochs=4)
        several = write(tmp_path / "two.yaml", "extends: [base/middle.yaml, base/root.yaml]\n")
        assert load_config(Config, several).model == "root"

    def test_extends_gone_wrong(self, tmp_path):
        a = write(tmp_path / "a.yaml", "extends: b.yaml\n")
        assert str(a) in message(a) and "does not exist" in message(a)
        write(tmp_path / "b.yaml", "extends: a.yaml\n")
        assert "circle" in message(a)
        assert "takes a file name" in message(write(tmp_path / "c.yaml", "extends: 3\n"))
        write(tmp_path / "d.yaml", "rewad: 1\n")
        child = write(tmp_path / "e.yaml", "extends: d.yaml\n")
        assert "d.yaml: unknown key rewad" in message(child)

    def test_save_and_load(self, tmp_path):
        config = load_config(
            Config,
            None,
            ["reward.lora.rank=2", "run_dir=a/b", "judge='1e-5'", "sources=[{path: x}]"],
        )
        save_config(config, tmp_path / "saved.yaml")
        assert load_config(Config, tmp_path / "saved.yaml") == config
        assert read_yaml(tmp_path / "saved.yaml") == to_dict(config)
        assert to_dict(config)["run_dir"] == "a/b"
