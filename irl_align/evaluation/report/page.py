"""The report of a run as one self-contained page: no network, no scripts, light and dark.

A stranger should be able to answer from it: did it work (verdict, tiles), how did it go (curves),
what does the model say now (samples), what made what (lineage), with which settings (config).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeVar

from irl_align.core.files import atomic_write_text
from irl_align.evaluation.report.collect import Estimate, RunView, Stage, collect_run
from irl_align.evaluation.report.evaluations import (
    evaluation_rows,
    evaluations_html,
    evaluations_of,
)
from irl_align.evaluation.report.lineage import lineage_html
from irl_align.evaluation.report.measures import MEASURE, MEASURES, Curve, measured
from irl_align.evaluation.report.samples import samples_html
from irl_align.evaluation.report.style import CSS
from irl_align.evaluation.report.svg import (
    Baseline,
    duration,
    estimate_text,
    number,
    round_chart,
    time_bars,
)

FILE_NAME = "report.html"
# The headline numbers, in this order, where there are any.
_TILES = (
    "hidden_reward",
    "return",
    "gain_over_sft",
    "win_rate_vs_sft",
    "reward_accuracy",
    "preference_accuracy",
    "kl",
)
_MOST_ROWS = 30

T = TypeVar("T")
Measured = dict[str, dict[str, Estimate]]


def write_report(run_dir: Path | str, elsewhere: Sequence[Path] = ()) -> Path:
    """Write `run_dir/report.html` from what the run has committed so far; returns its path.

    `elsewhere`: folders of stored evaluations beside the run's own, see `evaluations_of`.
    Works on an unfinished run and on one without hidden reward or completions. Raises UserError
    when `run_dir` is not a run or cannot be read.
    """
    path = Path(run_dir)
    page = render_page(collect_run(path), elsewhere)
    target = path / FILE_NAME
    atomic_write_text(target, page)
    return target


def render_page(view: RunView, elsewhere: Sequence[Path] = ()) -> str:
    """The whole page as HTML."""
    evaluations, problems = evaluations_of(view, elsewhere)
    curves = {measure.key: measured(view, measure.key) for measure in MEASURES}
    if curves["hidden_reward"].values:
        # The own reward model's score is a stand-in for runs without a hidden reward.
        del curves["held_out_score"]
    found: Measured = {key: curve.values for key, curve in curves.items()}
    name = view.path.resolve().name
    sections = [
        _header(view, name, found),
        _tiles(view, found),
        _section("curves", "Round by round", _charts(view, curves), _curves_lead(found)),
        _section("table", "All numbers", _table(view, found)),
        _section(
            "evaluations",
            "Evaluations",
            evaluations_html(evaluation_rows(view, evaluations), problems),
            "Measured on this run's models after or beside the rounds, with 95% intervals.",
        ),
        _section("samples", "What the models say", samples_html(view), ""),
        _section(
            "lineage",
            "Lineage",
            lineage_html(view),
            "What made what. A hash stands for every byte of a folder: equal hashes, equal files.",
        ),
        _section("time", "Time", _times(view)),
        _section("details", "Settings and environment", _details(view)),
    ]
    written = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)} \u00b7 irl_align run</title><style>{CSS}</style></head>"
        f"<body><main>{''.join(sections)}"
        f"<footer>Written by <code>irl-align report</code> on {escape(written)} from the files in "
        f"the run directory; nothing is loaded from the network.</footer></main></body></html>\n"
    )


def _section(anchor: str, title: str, body: str, lead: str = "") -> str:
    if not body:
        return ""
    text = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{text}{body}</section>'


def _header(view: RunView, name: str, found: Measured) -> str:
    status = view.status
    starts = view.info.get("starts")
    starts = (
        [item for item in starts if isinstance(item, Mapping)] if isinstance(starts, list) else []
    )
    facts = []
    if starts:
        facts.append(f"started {starts[0].get('time', '')}")
        if len(starts) > 1:
            facts.append(f"resumed {len(starts) - 1} times")
    objective = _dig(view.config, "reward", "objective")
    method = _dig(view.config, "policy", "method")
    model = _dig(view.config, "model", "path")
    facts += [str(item) for item in (model, objective, method) if item]
    if (seed := view.config.get("seed")) is not None:
        facts.append(f"seed {seed}")
    meta = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    links = "".join(
        f'<a href="#{anchor}">{escape(text)}</a>'
        for anchor, text in (
            ("curves", "Curves"),
            ("table", "Numbers"),
            ("samples", "Samples"),
            ("lineage", "Lineage"),
            ("details", "Settings"),
        )
    )
    return (
        f'<header><div class="top"><h1>{escape(name)}</h1>'
        f'<span class="badge {escape(status.state)}">{escape(status.sentence())}</span></div>'
        f'<div class="meta">{meta}</div>'
        f'<p class="verdict">{_verdict(view, found)}</p><nav>{links}</nav></header>'
    )


def _verdict(view: RunView, found: Measured) -> str:
    """One or two plain sentences: what came out, and whether it is more than noise."""
    last = _last_round(view, found["hidden_reward"]) or _last_round(view, found["reward_accuracy"])
    if last is None:
        return "No round has been evaluated yet: this page shows what there is."
    parts = []
    hidden = found["hidden_reward"].get(last.name)
    if hidden is not None:
        rivals = [
            f"{stage.title} {number(found['hidden_reward'][stage.name].mean)}"
            for stage in view.setup.values()
            if stage.name in found["hidden_reward"]
        ]
        against = f" (against {', '.join(rivals)})" if rivals else ""
        parts.append(
            f"After {last.title} the policy reaches a hidden reward of "
            f"<b>{escape(number(hidden.mean))}</b>{escape(against)} on held-out prompts."
        )
        if "note" in view.results:
            parts.append(escape(str(view.results["note"])))
    gain = found["gain_over_sft"].get(last.name)
    if gain is not None:
        parts.append(_gain_sentence(gain))
    accuracy = found["reward_accuracy"].get(last.name)
    if accuracy is not None:
        parts.append(
            "The learned reward model orders "
            f"<b>{100 * accuracy.mean:.1f}%</b> of the pairs correctly."
        )
    return " ".join(parts)


def _gain_sentence(gain: Estimate) -> str:
    size = f"<b>{escape(_signed(gain.mean))}</b>"
    if gain.low is None or gain.high is None:
        return f"The gain over SFT is {size}; no interval was computed."
    ends = escape(f"[{_signed(gain.low)}, {_signed(gain.high)}]")
    if gain.low > 0:
        return f"The gain over SFT is {size} {ends}: its 95% interval is clear of 0."
    if gain.high < 0:
        return f"It lost to SFT by {size} {ends}: the 95% interval is below 0."
    return f"The gain over SFT is {size} {ends}: the 95% interval contains 0, so it may be noise."


def _tiles(view: RunView, found: Measured) -> str:
    tiles = []
    for key in _TILES:
        stage = _last_round(view, found[key])
        if stage is None:
            continue
        value = found[key][stage.name]
        text = _signed(value.mean) if key == "gain_over_sft" else _display(key, value.mean)
        detail = [stage.title]
        if value.low is not None and value.high is not None:
            detail.append(f"95% {_display(key, value.low)} to {_display(key, value.high)}")
        pairs = stage.results.get(MEASURE[key].pairs_key)
        if isinstance(pairs, int | float):
            detail.append(f"{pairs:,.0f} pairs")
        tiles.append(_tile(MEASURE[key].title, text, " \u00b7 ".join(detail), _colour(key, value)))
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _tile(name: str, value: str, detail: str, colour: str) -> str:
    return (
        f'<div class="card tile"><div class="name">{escape(name)}</div>'
        f'<div class="value {colour}">{escape(value)}</div>'
        f'<div class="detail">{escape(detail)}</div></div>'
    )


def _colour(key: str, value: Estimate) -> str:
    """Green or red only for a difference whose interval leaves no doubt about its sign."""
    line = {"gain_over_sft": 0.0, "win_rate_vs_sft": 0.5}.get(key)
    if line is None or value.low is None or value.high is None:
        return ""
    return "good" if value.low > line else "bad" if value.high < line else ""


def _charts(view: RunView, curves: Mapping[str, Curve]) -> str:
    panels = []
    for key, curve in curves.items():
        measure, values = MEASURE[key], curve.values
        points = [
            (stage.round, values[stage.name])
            for stage in view.rounds
            if stage.name in values and stage.round is not None
        ]
        if not points:
            continue
        lines = [
            Baseline(stage.title, values[stage.name], "sft" if stage.name == "sft" else "base")
            for stage in view.setup.values()
            if stage.name in values
        ]
        if measure.line is not None:
            name, height = measure.line
            lines.append(Baseline(name, Estimate(height), "chance"))
        series = "model" if measure.of_reward else "policy"
        chart = round_chart(points, lines, title=measure.title, series=series)
        panels.append(
            f'<div class="card panel"><h3>{escape(measure.title)}</h3>'
            f"<p>{escape(curve.explanation)}</p>{chart}</div>"
        )
    if not panels:
        return '<p class="empty">No round has been evaluated yet.</p>'
    return f'<div class="charts">{"".join(panels)}</div>'


def _curves_lead(found: Measured) -> str:
    banded = any(value.low is not None for values in found.values() for value in values.values())
    text = "Dashed lines are the models before the first round. Point at a dot for its value."
    return text + (" Shaded bands are 95% bootstrap intervals over prompts." if banded else "")


def _table(view: RunView, found: Measured) -> str:
    keys = [key for key, values in found.items() if values]
    if not keys:
        return ""
    head = "".join(f"<th>{escape(MEASURE[key].title)}</th>" for key in keys)
    rows = []
    for stage in _table_stages(view):
        cells = "".join(_cell(key, found[key].get(stage.name)) for key in keys)
        style = stage.name if stage.name in ("base", "sft") else ""
        rows.append(
            f'<tr><td><span class="swatch {style}"></span>{escape(stage.title)}</td>{cells}</tr>'
        )
    note = ""
    if len(view.rounds) > _MOST_ROWS:
        note = f'<p class="meta">{_MOST_ROWS} of {len(view.rounds)} rounds, evenly spaced.</p>'
    return (
        f'{note}<div class="card scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{_other_metrics(view)}"
    )


def _cell(key: str, value: Estimate | None) -> str:
    if value is None:
        return '<td class="none">\u2013</td>'
    text = _signed(value.mean) if key == "gain_over_sft" else _display(key, value.mean)
    extent = ""
    if value.low is not None and value.high is not None:
        extent = f'<span class="range">{number(value.low)} to {number(value.high)}</span>'
    return f"<td>{escape(text)}{extent}</td>"


def _other_metrics(view: RunView) -> str:
    """Every metric that any round recorded, one row a key."""
    rounds = [stage for stage in thin(view.rounds, 12) if stage.metrics]
    keys = sorted({key for stage in rounds for key in stage.metrics})
    if not keys:
        return ""
    head = "".join(f"<th>{escape(stage.title)}</th>" for stage in rounds)
    rows = []
    for key in keys:
        cells = []
        for stage in rounds:
            value = Estimate.parse(stage.metrics.get(key))
            cells.append(
                f"<td>{escape(estimate_text(value))}</td>"
                if value
                else '<td class="none">\u2013</td>'
            )
        rows.append(f"<tr><td><code>{escape(key)}</code></td>{''.join(cells)}</tr>")
    return (
        f'<details class="card"><summary>Every metric<small>{len(keys)} keys</small></summary>'
        f'<div class="inside scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _times(view: RunView) -> str:
    rows = []
    for stage in (*view.setup.values(), *thin(view.rounds, _MOST_ROWS)):
        parts = [(name, phase.seconds or 0.0) for name, phase in stage.phases.items()]
        if parts:
            rows.append((stage.title, parts))
    bars = time_bars(rows)
    if not bars:
        return ""
    names = (
        ("", "set-up"),
        ("phase-sample", "samples"),
        ("phase-reward", "reward model"),
        ("phase-policy", "policy"),
        ("phase-evaluate", "evaluation"),
    )
    legend = "".join(f'<i class="key {style}"></i>{name}' for style, name in names)
    total = sum(
        phase.seconds or 0.0
        for stage in (*view.setup.values(), *view.rounds)
        for phase in stage.phases.values()
    )
    return (
        f'<p class="lead">{escape(duration(total))} in committed phases.</p>'
        f'<div class="card bars"><div class="legend">{legend}</div>{bars}</div>'
    )


def _details(view: RunView) -> str:
    blocks = [("Configuration", "config.yaml, as resolved", view.config_text)]
    if view.info:
        blocks.append(("Environment", "versions and starts", _json(view.info)))
    if view.results:
        blocks.append(("Results", "results.json", _json(view.results)))
    return "".join(
        f'<details class="card"><summary>{escape(title)}<small>{escape(hint)}</small></summary>'
        f'<div class="inside"><pre>{escape(text)}</pre></div></details>'
        for title, hint, text in blocks
        if text
    )


def _table_stages(view: RunView) -> list[Stage]:
    early = [stage for stage in view.stages if stage.round is None]
    return early + thin(view.rounds, _MOST_ROWS)


def thin(stages: Sequence[T], most: int) -> list[T]:
    """At most `most` items, evenly spaced, the first and the last among them."""
    if len(stages) <= most:
        return list(stages)
    step = (len(stages) - 1) / (most - 1)
    return [stages[round(index * step)] for index in range(most)]


def _last_round(view: RunView, values: Mapping[str, Estimate]) -> Stage | None:
    return next((stage for stage in reversed(view.rounds) if stage.name in values), None)


def _display(key: str, value: float) -> str:
    if MEASURE[key].share:
        return f"{100 * value:.1f}%"
    return number(value)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def _dig(config: Mapping[str, Any], *keys: str) -> Any:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
