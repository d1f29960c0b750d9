"""Charts as inline SVG: one measure per round with its interval band and baselines.

No plotting library: a page must open from disk years later, in light and dark, without scripts.
Colours are CSS classes of the page (`style.py`), so that one drawing serves both themes, and
every point carries a `<title>`, which browsers show as a tooltip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from irl_align.evaluation.report.collect import Estimate

WIDTH, HEIGHT = 360, 215
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 106, 12, 34
# Beyond this many rounds single dots would merge into a thick line.
_MOST_DOTS = 40
_LABEL_GAP = 14.0


@dataclass(frozen=True)
class Baseline:
    """A horizontal reference (`base`, `SFT`, `chance`); `style` names its CSS class."""

    name: str
    value: Estimate
    style: str


def number(value: float) -> str:
    """Three or four significant digits, without exponents for everyday sizes."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e6 or size < 1e-4:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}"


def estimate_text(estimate: Estimate) -> str:
    """`0.412 [0.380, 0.444]`, or the mean alone where no interval is known."""
    if estimate.low is None or estimate.high is None:
        return number(estimate.mean)
    return f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"


def nice_ticks(low: float, high: float, count: int = 3) -> list[float]:
    """About `count` round values (1, 2, 2.5 or 5 times a power of ten) covering [low, high]."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move label heights apart until neighbours are `gap` away, staying within [low, high]."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [0.0] * len(wanted)
    previous = low - gap
    for index in order:
        previous = placed[index] = max(wanted[index], previous + gap)
    limit = high
    for index in reversed(order):
        limit = placed[index] = min(placed[index], limit)
        limit -= gap
    return placed


def round_chart(
    points: Sequence[tuple[int, Estimate]],
    baselines: Sequence[Baseline] = (),
    *,
    title: str,
    series: str = "policy",
) -> str:
    """One measure over rounds. `points`: (round, estimate), in order of rounds; may be empty."""
    drawn = [(index, value) for index, value in points if math.isfinite(value.mean)]
    rows = [baseline for baseline in baselines if math.isfinite(baseline.value.mean)]
    if not drawn:
        return '<p class="empty">No round has reported this yet.</p>'
    bottom, top = _domain([value for _, value in drawn], [row.value for row in rows])
    first, last = drawn[0][0], drawn[-1][0]
    plot_right, plot_bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def x_of(index: int) -> float:
        # Half a step of air on both sides keeps the first dot off the axis.
        return _LEFT + (index - first + 0.5) / (last - first + 1) * (plot_right - _LEFT)

    def y_of(value: float) -> float:
        return plot_bottom - (value - bottom) / (top - bottom) * (plot_bottom - _TOP)

    spoken = escape(_spoken(title, drawn, rows))
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{spoken}">']
    for tick in nice_ticks(bottom, top):
        y = y_of(tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{plot_right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_tick_text(tick)}</text>"
        )
    for index in _round_ticks(first, last):
        parts.append(
            f'<text class="tick" x="{x_of(index):.1f}" y="{plot_bottom + 16}" '
            f'text-anchor="middle">{index}</text>'
        )
    middle = (_LEFT + plot_right) / 2
    parts.append(
        f'<text class="tick" x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">round</text>'
    )

    for row in rows:
        if row.value.low is not None and row.value.high is not None:
            upper, lower = y_of(row.value.high), y_of(row.value.low)
            parts.append(
                f'<rect class="band {row.style}" x="{_LEFT}" y="{upper:.1f}" '
                f'width="{plot_right - _LEFT}" height="{max(lower - upper, 0):.1f}"/>'
            )
        y = y_of(row.value.mean)
        parts.append(
            f'<line class="baseline {row.style}" x1="{_LEFT}" x2="{plot_right}" '
            f'y1="{y:.1f}" y2="{y:.1f}"><title>{escape(row.name)}: '
            f"{escape(estimate_text(row.value))}</title></line>"
        )

    parts += _series(drawn, x_of, y_of)
    parts += _labels(drawn, rows, series, y_of, plot_right, plot_bottom)
    parts.append("</svg>")
    return "".join(parts)


def time_bars(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    """Stacked horizontal bars: one row per stage, one segment per phase, widths in seconds."""
    longest = max((sum(seconds for _, seconds in parts) for _, parts in rows), default=0.0)
    if longest <= 0:
        return ""
    lines = []
    for name, parts in rows:
        total = sum(seconds for _, seconds in parts)
        segments = "".join(
            f'<span class="segment phase-{escape(phase)}" '
            f'style="width:{100 * value / longest:.2f}%" '
            f'title="{escape(phase)}: {escape(duration(value))}"></span>'
            for phase, value in parts
            if value > 0
        )
        lines.append(
            f'<div class="bar-row"><span class="bar-name">{escape(name)}</span>'
            f'<span class="bar">{segments}</span>'
            f'<span class="bar-total">{escape(duration(total))}</span></div>'
        )
    return "".join(lines)


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _series(
    drawn: Sequence[tuple[int, Estimate]],
    x_of: Callable[[int], float],
    y_of: Callable[[float], float],
) -> list[str]:
    parts: list[str] = []
    banded = [(i, v.low, v.high) for i, v in drawn if v.low is not None and v.high is not None]
    if len(banded) > 1:
        edge = [f"{x_of(i):.1f},{y_of(high):.1f}" for i, _, high in banded]
        edge += [f"{x_of(i):.1f},{y_of(low):.1f}" for i, low, _ in reversed(banded)]
        parts.append(f'<polygon class="band policy" points="{" ".join(edge)}"/>')
    elif banded:
        # One round has no area: show its interval as a whisker.
        index, low, high = banded[0]
        x = x_of(index)
        parts.append(
            f'<line class="whisker policy" x1="{x:.1f}" x2="{x:.1f}" '
            f'y1="{y_of(low):.1f}" y2="{y_of(high):.1f}"/>'
        )
    if len(drawn) > 1:
        path = " ".join(f"{x_of(i):.1f},{y_of(v.mean):.1f}" for i, v in drawn)
        parts.append(f'<polyline class="line policy" points="{path}"/>')
    for index, value in drawn:
        x, y = x_of(index), y_of(value.mean)
        tip = f"<title>round {index}: {escape(estimate_text(value))}</title>"
        if len(drawn) <= _MOST_DOTS:
            parts.append(f'<circle class="dot policy" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        # The transparent disc is the target of the pointer: a dot of 4 px is hard to hit.
        parts.append(f'<circle class="target" cx="{x:.1f}" cy="{y:.1f}" r="12">{tip}</circle>')
    return parts


def _labels(
    drawn: Sequence[tuple[int, Estimate]],
    rows: Sequence[Baseline],
    series: str,
    y_of: Callable[[float], float],
    plot_right: float,
    plot_bottom: float,
) -> list[str]:
    last = drawn[-1][1]
    entries = [(y_of(last.mean), series, last.mean, "policy")]
    entries += [(y_of(row.value.mean), row.name, row.value.mean, row.style) for row in rows]
    heights = spread([entry[0] for entry in entries], _LABEL_GAP, _TOP, plot_bottom)
    parts = []
    for (y, name, value, style), height in zip(entries, heights, strict=True):
        # A thin leader ties a label that had to move to the line that it names.
        parts.append(
            f'<line class="leader {style}" x1="{plot_right}" x2="{plot_right + 8}" '
            f'y1="{y:.1f}" y2="{height:.1f}"/>'
            f'<text class="label {style}" x="{plot_right + 11}" y="{height + 4:.1f}">'
            f"{escape(name)} <tspan>{escape(number(value))}</tspan></text>"
        )
    return parts


def _domain(points: Sequence[Estimate], baselines: Sequence[Estimate]) -> tuple[float, float]:
    ends = [
        end
        for value in (*points, *baselines)
        for end in (value.mean, value.low, value.high)
        if end is not None and math.isfinite(end)
    ]
    low, high = min(ends), max(ends)
    pad = 0.08 * (high - low) or max(abs(high) * 0.1, 0.05)
    # Padding must not invent an impossible range: a rate of 1.0 or a length of 0 stays an end.
    floor = 0.0 if low >= 0 and low - pad < 0 else low - pad
    ceiling = 1.0 if high <= 1.0 < high + pad and low >= 0 else high + pad
    return floor, ceiling


def _round_ticks(first: int, last: int) -> list[int]:
    step = max(1, math.ceil((last - first + 1) / 10))
    return list(range(first, last + 1, step))


def _tick_text(value: float) -> str:
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.0e}"
    return f"{value:,.10g}" if abs(value) >= 1000 else f"{value:.10g}"


def _spoken(title: str, drawn: Sequence[tuple[int, Estimate]], rows: Sequence[Baseline]) -> str:
    ends = [f"round {index}: {number(value.mean)}" for index, value in (drawn[0], drawn[-1])]
    if len(drawn) == 1:
        ends = ends[:1]
    ends += [f"{row.name}: {number(row.value.mean)}" for row in rows]
    return f"{title}. " + ", ".join(ends)
