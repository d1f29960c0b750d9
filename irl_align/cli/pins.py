"""Installed versions against the versions that this project was tested with.

The pins are read from pyproject.toml in a source checkout, else from the installed package's
metadata, so that they are stated in one place only.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

PROJECT = "irl-align"


@dataclass(frozen=True)
class Pin:
    """One requirement; `extra` is None for what every user needs."""

    name: str
    specifier: str
    extra: str | None
    installed: str | None
    fits: bool


@dataclass(frozen=True)
class _Raw:
    text: str
    extra: str | None


def read_pins(pyproject: Path | None = None) -> list[Pin]:
    """Every requirement that applies to this platform, with what is installed.

    An empty list when there is neither a pyproject.toml nor an installed package. Raises
    ModuleNotFoundError when `packaging` is missing, which nothing but pip's own copy replaces.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    pins = []
    for raw in _from_pyproject(pyproject or _checkout()) or _from_metadata():
        try:
            requirement = Requirement(raw.text)
        except InvalidRequirement:
            continue
        if _normal(requirement.name) == PROJECT:
            continue  # irl-align[llm] inside another extra: those are listed by themselves
        if requirement.marker is not None and not requirement.marker.evaluate(
            {"extra": raw.extra or ""}
        ):
            continue
        installed = _version(requirement.name)
        fits = installed is not None and requirement.specifier.contains(installed, prereleases=True)
        pins.append(Pin(requirement.name, str(requirement.specifier), raw.extra, installed, fits))
    return pins


def _checkout() -> Path | None:
    path = Path(__file__).resolve().parents[2] / "pyproject.toml"
    return path if path.is_file() else None


def _from_pyproject(path: Path | None) -> list[_Raw]:
    if path is None or not path.is_file():
        return []
    project: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    if _normal(str(project.get("name", ""))) != PROJECT:
        return []
    found = [_Raw(text, None) for text in project.get("dependencies", [])]
    for extra, texts in project.get("optional-dependencies", {}).items():
        found += [_Raw(text, extra) for text in texts]
    return found


def _from_metadata() -> list[_Raw]:
    try:
        texts = metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for text in texts:
        match = re.search(r"""extra\s*==\s*["']([^"']+)["']""", text)
        found.append(_Raw(text, match[1] if match else None))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
