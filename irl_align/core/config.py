"""Strict configuration: nested dataclasses <- YAML <- ``key.sub=value`` on the command line.

The dataclass is the schema. An unknown key is an error that names the nearest valid one, a wrong
type is an error that names key, value and expected type: nothing is dropped in silence.
Defaults live in the dataclass; checks across fields live in its ``__post_init__`` as ValueError.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from irl_align.core.errors import UserError
from irl_align.core.files import atomic_write_text

T = TypeVar("T")
EXTENDS = "extends"


def load_config(schema: type[T], path: Path | str | None, overrides: Sequence[str] = ()) -> T:
    """An instance of ``schema``: its defaults, then the YAML at ``path``, then ``overrides``.

    A YAML may open with ``extends: other.yaml`` (or a list), relative to itself; its own keys win.
    An override is ``key.sub=value`` with the value read as YAML (``lr=1e-5``, ``lora=null``,
    ``targets=[q_proj,v_proj]``). ``${other.key}`` interpolates. A field without a default, or with
    ``???``, must be given. Raises UserError naming file or override, key and mend.
    """
    from omegaconf import OmegaConf

    config = OmegaConf.structured(schema)
    if path is not None:
        for file, content in _read_with_parents(Path(path), ()):
            config = _merge(schema, config, content, str(file))
    for override in overrides:
        content = _parse_override(override)
        config = _merge(schema, config, content, f"override {override!r}")
    return _instantiate(schema, config, str(path) if path is not None else "the configuration")


def build_config(schema: type[T], layers: Sequence[tuple[str, Mapping[str, Any]]]) -> T:
    """An instance of ``schema``: its defaults, then each layer (name, plain containers) in turn.

    For configurations that are put together by a program. The names stand in errors, which are
    those of :func:`load_config`.
    """
    from omegaconf import OmegaConf

    config = OmegaConf.structured(schema)
    for name, content in layers:
        config = _merge(schema, config, dict(content), name)
    return _instantiate(schema, config, layers[-1][0] if layers else "the configuration")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain containers of a configuration dataclass: what YAML and JSON can hold."""
    return typing.cast(dict[str, Any], _plain(dataclasses.asdict(config)))


def save_config(config: Any, path: Path) -> None:
    """Write a configuration (dataclass or plain dict) as YAML, atomically."""
    from omegaconf import OmegaConf

    plain = _plain(config) if isinstance(config, Mapping) else to_dict(config)
    atomic_write_text(path, OmegaConf.to_yaml(OmegaConf.create(plain)))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, as plain containers; interpolations are left as text."""
    import yaml  # type: ignore[import-untyped, unused-ignore]
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        content = OmegaConf.load(path)
        plain = OmegaConf.to_container(content, resolve=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a YAML config") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give the path of a YAML config") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_one_line(error)}") from None
    except (OmegaConfBaseException, OSError) as error:
        # An OSError here is either no permission or a file that holds a bare scalar.
        raise UserError(f"{path}: cannot be read as a config: {_one_line(error)}") from None
    if not isinstance(plain, dict):
        raise UserError(f"{path}: a config is a mapping of keys, this file holds a list")
    return typing.cast(dict[str, Any], plain)


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """The files that ``path`` extends, most general first, then itself."""
    resolved = path.resolve()
    if resolved in children:
        chain = " -> ".join(str(p) for p in (*children, resolved))
        raise UserError(f"{path}: `extends` runs in a circle: {chain}")
    if children and not path.exists():
        raise UserError(f"{children[-1]}: extends {path}, which does not exist")
    content = read_yaml(path)
    parents = content.pop(EXTENDS, [])
    if isinstance(parents, str):
        parents = [parents]
    if not isinstance(parents, list) or not all(isinstance(p, str) for p in parents):
        raise UserError(f"{path}: `extends` takes a file name or a list of them, got {parents!r}")
    files: list[tuple[Path, dict[str, Any]]] = []
    for parent in parents:
        files += _read_with_parents(path.parent / parent, (*children, resolved))
    return [*files, (path, content)]


def _parse_override(text: str) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped, unused-ignore]
    from omegaconf import OmegaConf

    key, separator, value = text.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise UserError(f"override {text!r}: write it as key.sub=value, for example rounds=3")
    try:
        holder = OmegaConf.from_dotlist([f"value={value}"])
        parsed = OmegaConf.to_container(holder, resolve=False)
    except yaml.YAMLError:
        raise UserError(
            f"override {text!r}: the value is not valid YAML; quote it, as in '{key}=\"...\"'"
        ) from None
    nested: Any = typing.cast(dict[str, Any], parsed)["value"]
    for part in reversed(parts):
        nested = {part: nested}
    return typing.cast(dict[str, Any], nested)


def _merge(schema: type, config: Any, content: dict[str, Any], where: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _check_keys(schema, content, "", where)
    try:
        return OmegaConf.merge(config, content)
    except OmegaConfBaseException as error:
        # The library names the key of a nested error only in part: find the entry by trying each.
        for key, value in _leaves(content):
            nested: Any = value
            for part in reversed(key.split(".")):
                nested = {part: nested}
            try:
                OmegaConf.merge(config, nested)
            except OmegaConfBaseException as leaf_error:
                raise _wrong_value(schema, key, value, where, leaf_error) from None
        raise UserError(f"{where}: {_one_line(error)}") from None


def _wrong_value(schema: type, key: str, value: Any, where: str, error: BaseException) -> UserError:
    hint = _hint_of(schema, key.split("."))
    expected = f"expected {_type_name(hint)}" if hint is not None else _one_line(error)
    return UserError(f"{where}: {key} = {value!r}: {expected}")


def _instantiate(schema: type[T], config: Any, where: str) -> T:
    from omegaconf import MissingMandatoryValue, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return typing.cast(T, OmegaConf.to_object(config))
    except MissingMandatoryValue as error:
        missing = sorted(OmegaConf.missing_keys(config)) or [str(error.full_key)]
        raise UserError(
            f"{where}: no value for {', '.join(missing)}; set it in the file or as "
            f"{missing[0]}=... on the command line"
        ) from None
    except OmegaConfBaseException as error:
        raise UserError(f"{where}: {_one_line(error)}") from None
    except ValueError as error:
        key = _failing_node(config, "")
        prefix = f"{key}: " if key else ""
        raise UserError(f"{where}: {prefix}{error}") from None


def _failing_node(config: Any, prefix: str) -> str:
    """Dotted key of the innermost section whose ``__post_init__`` raises."""
    from omegaconf import DictConfig, ListConfig, OmegaConf

    if isinstance(config, DictConfig):
        names: list[Any] = [] if config._is_none() else list(config.keys())
    elif isinstance(config, ListConfig):
        names = [] if config._is_none() else list(range(len(config)))
    else:
        return ""
    for name in names:
        child = config._get_node(name)
        if isinstance(child, DictConfig | ListConfig):
            try:
                OmegaConf.to_object(child)
            except ValueError:
                key = f"{prefix}{name}"
                return _failing_node(child, f"{key}.") or key
    return ""


def _strip_optional(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [a for a in typing.get_args(hint) if a is not type(None)]
        if len(inner) == 1:
            return inner[0]
    return hint


def _section(hint: Any) -> type | None:
    """The dataclass behind a type hint (or behind its Optional), if it is one."""
    hint = _strip_optional(hint)
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def _hint_of(schema: type, parts: Sequence[str]) -> Any:
    hint: Any = schema
    for part in parts:
        section = _section(hint)
        if section is not None:
            hint = typing.get_type_hints(section).get(part)
        else:  # dict[str, V]
            arguments = typing.get_args(_strip_optional(hint))
            hint = arguments[1] if len(arguments) == 2 else None
    return hint


def _type_name(hint: Any) -> str:
    inner = _strip_optional(hint)
    if inner is not hint:
        return f"{_type_name(inner)} or null"
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(repr(a) for a in typing.get_args(hint))
    if (section := _section(hint)) is not None:
        return "a section with the keys " + ", ".join(f.name for f in dataclasses.fields(section))
    return str(hint) if typing.get_origin(hint) else getattr(hint, "__name__", str(hint))


def _check_keys(schema: type, content: Mapping[Any, Any], prefix: str, where: str) -> None:
    """Reject keys that the schema does not know, naming the nearest that it does."""
    hints = typing.get_type_hints(schema)
    known = [field.name for field in dataclasses.fields(schema) if field.init]
    for key, value in content.items():
        if key not in known:
            raise UserError(f"{where}: unknown key {prefix}{key}; {_nearest(str(key), known)}")
        section = _section(hints[key])
        if section is not None and value is not None:
            if isinstance(value, str) and value.startswith("${"):
                continue
            if not isinstance(value, Mapping):
                raise UserError(
                    f"{where}: {prefix}{key} = {value!r}: expected {_type_name(hints[key])}"
                )
            _check_keys(section, value, f"{prefix}{key}.", where)
        elif isinstance(value, list):
            arguments = typing.get_args(_strip_optional(hints[key]))
            item_section = _section(arguments[0]) if arguments else None
            for number, item in enumerate(value):
                if item_section is not None and isinstance(item, Mapping):
                    _check_keys(item_section, item, f"{prefix}{key}.{number}.", where)


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"valid keys here: {', '.join(known)}"


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    return value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split("full_key:")[0].split())
