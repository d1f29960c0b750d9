"""The lineage of a round as a chain: policy in -> samples -> reward -> policy out -> evaluation.

A manifest names its artefacts by path (relative to the run or the working folder, or absolute) or
by `{"folder", "sha256"}`. Where no hash is stated, the hash of the folder is taken from the
phase.json that was committed with it, so equal hashes always mean equal files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from irl_align.evaluation.report.collect import CommittedPhase, RunView, Stage, relative_path
from irl_align.evaluation.report.svg import duration, number

_SHORT = 12
MOST_ROUNDS = 30
# Shown inside the boxes of the chain; the rest of a manifest is listed below it.
_IN_CHAIN = (
    "round",
    "policy_in",
    "policy_in_folder",
    "policy_out",
    "reward_in",
    "reward_out",
    "reference",
    "samples",
    "seeds",
    "versions",
)
_FEW_METRICS = {
    "sample": ("samples/length", "samples/eos_rate", "samples/duplicates"),
    "reward": ("reward/loss", "reward/accuracy", "reward/margin"),
    "policy": ("policy/loss", "policy/kl", "policy/pairs"),
    "evaluate": ("eval/hidden_reward", "eval/reward_accuracy", "eval/kl"),
}
_TITLES = {
    "sample": "Samples",
    "reward": "Reward model",
    "policy": "Policy out",
    "evaluate": "Evaluation",
}


@dataclass(frozen=True)
class Artefact:
    """What a manifest says of one artefact. `origin` names the stage that made it."""

    path: str
    digest: str | None = None
    origin: str | None = None


def lineage_html(view: RunView) -> str:
    """One card per round, in order; the setup stages come first when they were committed."""
    cards = [_setup_card(view)] if any(stage.phases for stage in view.setup.values()) else []
    kept = [stage for stage in view.rounds if stage.phases or stage.manifest]
    if len(kept) > MOST_ROUNDS:
        cards.append(f'<p class="meta">The last {MOST_ROUNDS} of {len(kept)} rounds on disk.</p>')
    cards += [_round_card(view, stage) for stage in kept[-MOST_ROUNDS:]]
    return "".join(cards) or '<p class="empty">Nothing has been committed yet.</p>'


def artefact(view: RunView, value: Any) -> Artefact | None:
    """Read a manifest entry; None when it names nothing."""
    digest = None
    if isinstance(value, Mapping):
        digest = next((value[k] for k in ("sha256", "hash", "digest") if value.get(k)), None)
        value = next((value[k] for k in ("folder", "path") if value.get(k)), "")
    if not isinstance(value, str) or not (value or digest):
        return None
    owner = _owner(view, value)
    if owner is not None:
        stage, phase = owner
        return Artefact(
            relative_path(_absolute(view, value), view.path), digest or phase.digest, stage.title
        )
    return Artefact(value, digest)


def _owner(view: RunView, path: str) -> tuple[Stage, CommittedPhase] | None:
    """The committed phase whose folder is `path` or holds it."""
    if not path:
        return None
    target = _absolute(view, path)
    for stage in (*view.setup.values(), *view.rounds):
        for phase in stage.phases.values():
            if target.is_relative_to(phase.folder.resolve()):
                return stage, phase
    return None


def _absolute(view: RunView, path: str) -> Path:
    inside = view.path / path
    return (inside if inside.exists() else Path(path)).resolve()


def _round_card(view: RunView, stage: Stage) -> str:
    manifest = stage.manifest
    # The loop itself only knows the first policy as "initial"; a domain may name its folder.
    start = artefact(view, manifest.get("policy_in"))
    if start is None or start.path == "initial":
        start = artefact(view, manifest.get("policy_in_folder")) or start
    boxes = [_artefact_box("Policy in", start)]
    for name, title in _TITLES.items():
        boxes.append(_phase_box(view, stage, name, title))
    seconds = sum(phase.seconds or 0.0 for phase in stage.phases.values())
    state = "" if stage.done else '<span class="badge interrupted">not committed</span>'
    facts = _facts(view, manifest)
    raw = ""
    if manifest:
        text = json.dumps(manifest, indent=2, ensure_ascii=False, default=str)
        raw = (
            '<details class="inside facts"><summary>whole manifest</summary>'
            f"<pre>{escape(text)}</pre></details>"
        )
    return (
        f'<section class="card lineage"><div class="round-head"><h3>Round {stage.round}</h3>{state}'
        f'<span class="meta"><span>rounds/{escape(stage.name)}</span>'
        f"<span>{escape(duration(seconds))}</span></span></div>"
        f'<div class="chain">{"".join(boxes)}</div>{facts}{raw}</section>'
    )


def _setup_card(view: RunView) -> str:
    boxes = []
    for stage in view.setup.values():
        for phase in stage.phases.values():
            rows = [_path_row(relative_path(phase.folder, view.path)), *_phase_rows(phase)]
            boxes.append(_box(f"phase-{phase.name}", stage.title, rows))
    return (
        '<section class="card lineage setup"><div class="round-head"><h3>Before round 0</h3></div>'
        f'<div class="chain">{"".join(boxes)}</div></section>'
    )


def _phase_box(view: RunView, stage: Stage, name: str, title: str) -> str:
    phase = stage.phases.get(name)
    if phase is None:
        return _box(f"phase-{name} missing", title, ["<div>not there yet</div>"])
    rows = [_path_row(relative_path(phase.folder, view.path)), *_phase_rows(phase)]
    if name == "reward":
        start = artefact(view, stage.manifest.get("reward_in"))
        if start is not None and start.path != "initial":
            rows.append(f"<div>starts from {escape(start.origin or start.path)}</div>")
    if name == "policy":
        reference = artefact(view, stage.manifest.get("reference"))
        if reference is not None:
            rows.append(f"<div>reference: {escape(reference.origin or reference.path)}</div>")
    for key in _FEW_METRICS[name]:
        value = phase.metrics.get(key)
        if isinstance(value, int | float):
            rows.append(
                f"<div>{escape(key.split('/')[-1].replace('_', ' '))} {number(value)}</div>"
            )
    return _box(f"phase-{name}", title, rows)


def _phase_rows(phase: CommittedPhase) -> list[str]:
    facts = []
    if phase.seconds is not None:
        facts.append(escape(duration(phase.seconds)))
    if phase.seed is not None:
        facts.append(f"seed {phase.seed}")
    rows = [_hash_row(phase.digest)] if phase.digest else []
    return rows + ([f"<div>{', '.join(facts)}</div>"] if facts else [])


def _artefact_box(title: str, found: Artefact | None) -> str:
    if found is None:
        return _box("missing", title, ["<div>not recorded</div>"])
    rows = [_path_row(found.path)]
    if found.digest:
        rows.append(_hash_row(found.digest))
    if found.origin:
        rows.append(f"<div>made by {escape(found.origin)}</div>")
    return _box("", title, rows)


def _box(kind: str, title: str, rows: list[str]) -> str:
    return f'<div class="link {kind}"><b>{escape(title)}</b>{"".join(rows)}</div>'


def _path_row(path: str) -> str:
    return f'<div class="path"><code>{escape(path)}</code></div>'


def _hash_row(digest: str) -> str:
    short = digest.removeprefix("sha256:")[:_SHORT]
    return f'<div class="hash" title="sha256 {escape(digest)}">#{escape(short)}</div>'


def _facts(view: RunView, manifest: Mapping[str, Any]) -> str:
    """The rest of the manifest, flat: data hashes, config hash, versions."""
    facts = []
    for key, value in manifest.items():
        if key in _IN_CHAIN or value in (None, {}, []):
            continue
        if isinstance(value, Mapping):
            inner = ", ".join(f"{name} {_brief(item)}" for name, item in value.items())
            facts.append(f"<span>{escape(key)}: {escape(inner)}</span>")
        else:
            facts.append(f"<span>{escape(key)}: {escape(_brief(value))}</span>")
    return f'<div class="facts">{"".join(facts)}</div>' if facts else ""


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        value = value.get("sha256", json.dumps(value, default=str))
    text = str(value)
    is_hash = len(text) >= 32 and all(letter in "0123456789abcdef" for letter in text)
    return "#" + text[:_SHORT] if is_hash else text
