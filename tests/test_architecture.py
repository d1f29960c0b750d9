"""The house's import rules, read from the source: who may import whom, and what is heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "irl_align"
DOMAINS = ("llm", "control", "tabular")
# What a room may import of the package besides itself.
MAY_IMPORT = {
    "core": set(),
    "llm": {"core"},
    "control": {"core"},
    "tabular": {"core"},
    "evaluation": {"core", *DOMAINS},
    "cli": {"core", "evaluation", *DOMAINS},
}
# The statistics, hidden rewards, rules, results store and report of evaluation know core only, so
# that domains may use them inside a run; everything else there (benchmarks, judges) stands above
# the domains.
GROUND_MODULES = (
    *("accuracy", "answer_keys", "bootstrap", "evaluators"),
    *("gold", "hidden_reward", "rules", "store"),
)
GROUND_FLOOR = tuple(f"irl_align.evaluation.{name}" for name in (*GROUND_MODULES, "report"))
# yaml is omegaconf's own parser: its errors have to be caught.
CORE_THIRD_PARTY = {"numpy", "torch", "omegaconf", "yaml", "irl_align"}
# Imported where they are used, never at the top of a module: each belongs to an extra.
ONLY_WHERE_USED = {
    *("vllm", "deepspeed", "lm_eval", "tensorboard"),
    *("gymnasium", "minari", "mujoco", "h5py", "stable_baselines3"),
}
# An environment cannot be a subclass of gymnasium.Env without it: `making` imports this module
# where it is used, and nothing else may.
ENVIRONMENTS = ("irl_align.control.environments.ants", "irl_align.control.environments.falling")
ARE_ENVIRONMENTS = [ROOT / f"{name.replace('.', '/')}.py" for name in ENVIRONMENTS]


def modules(folder: Path = PACKAGE) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imports(tree: ast.AST, module: Path) -> Iterator[tuple[str, int]]:
    """Absolute names of everything imported under a node, with line numbers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = module.relative_to(ROOT).with_suffix("").parts[: -node.level]
                base = ".".join((*parts, node.module) if node.module else parts)
            else:
                base = node.module or ""
            yield base, node.lineno
            for alias in node.names:  # `from irl_align import llm`
                yield f"{base}.{alias.name}", node.lineno


def top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run at import: not functions, not `if TYPE_CHECKING`."""
    stack: list[ast.stmt] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        nested = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        for handler in getattr(node, "handlers", []):
            nested += handler.body
        if nested:
            stack += nested
        else:
            yield node


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "irl_align" and len(parts) > 1 else None


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_rooms_import_only_what_they_may(name):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for path in modules(PACKAGE / name)
        for imported, line in imports(parse(path), path)
        if room(imported) in MAY_IMPORT
        and room(imported) not in MAY_IMPORT[name] | {name}
        and not (name in DOMAINS and imported.startswith(GROUND_FLOOR))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_ground_floor_of_evaluation_knows_core_only():
    folder = PACKAGE / "evaluation"
    files = [folder / f"{name}.py" for name in GROUND_MODULES]
    files += modules(folder / "report")
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for path in files
        for imported, line in imports(parse(path), path)
        if room(imported) in MAY_IMPORT
        and room(imported) != "core"
        and not imported.startswith(GROUND_FLOOR)
        and imported != "irl_align.evaluation"
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_a_rule():
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert rooms <= MAY_IMPORT.keys()


def test_core_needs_little():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(PACKAGE / "core")
        for name, line in imports(parse(path), path)
        if name.split(".")[0] not in CORE_THIRD_PARTY | set(sys.stdlib_module_names)
    ]
    assert not wrong, "\n".join(wrong)


def test_extras_are_imported_where_used():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name} at import time"
        for path in modules()
        for statement in top_level(parse(path))
        for name, line in imports(statement, path)
        if (name.split(".")[0] in ONLY_WHERE_USED and path not in ARE_ENVIRONMENTS)
        or name in ENVIRONMENTS
    ]
    assert not wrong, "\n".join(wrong)


def test_trl_experimental_is_not_used():
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules()
        for name, line in imports(parse(path), path)
        if name.startswith("trl.experimental")
    ]
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_the_programs():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules()
        for name, line in imports(parse(path), path)
        if name.split(".")[0] in {"recipes", "eval", "tests"}
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_utils():
    assert not [p for p in modules() if p.stem in {"utils", "util", "helpers", "misc", "common"}]


@pytest.mark.parametrize(
    "imported",
    ["irl_align", "irl_align.core.errors", "irl_align.core.config", "irl_align.core.run"],
)
def test_light_imports_stay_light(imported):
    heavy = ("torch", "transformers", "vllm", "trl", "datasets", "deepspeed", "omegaconf", "numpy")
    program = f"import sys, {imported}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_lazy_names_resolve():
    import irl_align

    assert irl_align.__version__ == "0.1.0"
    for name in irl_align.__all__:
        assert getattr(irl_align, name) is not None
    with pytest.raises(AttributeError):
        irl_align.nothing  # noqa: B018
