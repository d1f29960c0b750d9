"""The look of the report: one inline style sheet, light and dark, for screen and print.

Colours carry meaning and stay with it: blue is the policy being trained, orange is SFT, grey is
the base model. Text never carries a series colour alone; every line is also labelled by name.
"""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #14140f; --soft: #57564f; --faint: #8b8a82;
  --rule: #e2e1da; --policy: #2568c9; --sft: #c2571a; --base: #7a7972; --chance: #a5a49c;
  --good: #0f7a33; --bad: #b3261e; --wait: #8a6100; --chip: #efeee8;
  --sample: #7fb3e8; --reward: #e3a23b; --improve: #2568c9; --evaluate: #9b9a92; --setup: #b9a4d8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131312; --card: #1d1d1b; --ink: #f2f1ec; --soft: #b9b8b0; --faint: #85847c;
    --rule: #34332f; --policy: #6ca6f5; --sft: #ef8a4c; --base: #a3a29a; --chance: #77766f;
    --good: #5fc77f; --bad: #f28b82; --wait: #e0b45c; --chip: #2a2a27;
    --sample: #4f81b8; --reward: #b97f24; --improve: #6ca6f5; --evaluate: #77766f;
    --setup: #8672a8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 44px 0 4px; }
h3 { font-size: 15px; margin: 0; }
p { margin: 6px 0; max-width: 96ch; }
a { color: var(--policy); }
code, pre, .hash { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  font-size: 12.5px; }
.lead { color: var(--soft); }
.top { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 14px; }
.meta { color: var(--soft); font-size: 13.5px; }
.meta span + span::before { content: "\\00b7"; margin: 0 8px; color: var(--faint); }
.badge { font-size: 12.5px; font-weight: 600; padding: 2px 10px; border-radius: 99px;
  border: 1px solid currentColor; }
.badge.finished { color: var(--good); } .badge.running { color: var(--policy); }
.badge.interrupted, .badge.new { color: var(--wait); }
.verdict { font-size: 17px; line-height: 1.5; margin: 16px 0 0; }
nav { margin-top: 14px; font-size: 13.5px; } nav a { margin-right: 16px; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px;
  margin-top: 20px; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.tile { padding: 12px 16px; }
.tile .name { color: var(--soft); font-size: 13px; }
.tile .value { font-size: 26px; font-weight: 600; line-height: 1.25; letter-spacing: -.02em; }
.tile .detail { color: var(--soft); font-size: 12.5px; }
.good { color: var(--good); } .bad { color: var(--bad); }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr));
  gap: 14px; margin-top: 12px; }
.panel { padding: 14px 16px 10px; display: flex; flex-direction: column; }
.panel p { color: var(--soft); font-size: 13px; margin: 2px 0 8px; flex-grow: 1; }
.chart { width: 100%; height: auto; display: block; overflow: visible; }
.chart text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.chart .tick { fill: var(--faint); font-variant-numeric: tabular-nums; }
.chart .label { font-weight: 600; } .chart .label tspan { font-weight: 400; }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart .line { fill: none; stroke-width: 2.25; stroke-linejoin: round; }
.chart .baseline { stroke-width: 1.5; stroke-dasharray: 5 4; }
.chart .leader { stroke-width: 1; opacity: .55; } .chart .whisker { stroke-width: 2; }
.chart .band { stroke: none; opacity: .16; } .chart .band.sft, .chart .band.base { opacity: .09; }
.chart .dot { stroke: var(--card); stroke-width: 1.5; } .chart .target { fill: transparent; }
.chart .policy { stroke: var(--policy); } .chart .sft { stroke: var(--sft); }
.chart .base { stroke: var(--base); } .chart .chance { stroke: var(--chance); }
.chart .band.policy, .chart .dot.policy { fill: var(--policy); }
.chart .band.sft { fill: var(--sft); } .chart .band.base { fill: var(--base); }
.chart text.label { stroke: none; }
.chart text.policy { fill: var(--policy); } .chart text.sft { fill: var(--sft); }
.chart text.base { fill: var(--base); } .chart text.chance { fill: var(--faint); }
.chart .dot.policy { stroke: var(--card); } .chart .line.policy { fill: none; }
.empty { color: var(--faint); font-style: italic; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 7px 12px; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal;
  min-width: 84px; }
tbody tr:last-child td { border-bottom: 0; }
td .range { display: block; color: var(--faint); font-size: 12px; }
td.none { color: var(--faint); }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 8px;
  background: var(--policy); } .swatch.sft { background: var(--sft); }
.swatch.base { background: var(--base); }

details { margin-top: 10px; } summary { cursor: pointer; }
details.card > summary { padding: 11px 16px; font-weight: 600; }
details.card > summary small { color: var(--soft); font-weight: 400; margin-left: 8px; }
details.card > .inside { padding: 0 16px 14px; }
pre { margin: 0; overflow-x: auto; line-height: 1.45; white-space: pre; }
.turn { white-space: pre-wrap; overflow-wrap: anywhere; margin: 2px 0; max-width: none; }
.turn b { color: var(--faint); font-weight: 600; font-size: 12px; margin-right: 8px; }
.answers { display: grid; grid-auto-flow: column; gap: 10px; overflow-x: auto; margin-top: 8px;
  grid-auto-columns: minmax(196px, 1fr); }
.answer { border: 1px solid var(--rule); border-top: 3px solid var(--policy); border-radius: 8px;
  padding: 8px 12px 10px; } .answer.sft { border-top-color: var(--sft); }
.answer.base { border-top-color: var(--base); }
.answer .head { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: baseline;
  font-size: 12.5px; color: var(--soft); }
.answer .head b { color: var(--ink); font-size: 13.5px; margin-right: auto; }
.answer .text { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 22em;
  overflow-y: auto; margin: 6px 0 0; font-size: 14px; }
.answer .rest { font-size: 12.5px; color: var(--soft); margin-top: 8px; }
.chip { background: var(--chip); border-radius: 5px; padding: 0 6px; font-size: 12px;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
.chip.cut { color: var(--wait); }

.chain { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(158px, 1fr); gap: 24px;
  overflow-x: auto; padding: 2px 16px 14px; }
.link { position: relative; border: 1px solid var(--rule); border-left: 4px solid var(--rule);
  border-radius: 8px; padding: 8px 10px; font-size: 12.5px; color: var(--soft); }
.link + .link::before { content: "\\2192"; position: absolute; left: -24px; top: 30%;
  width: 20px; text-align: center; color: var(--faint); font-size: 16px; }
.link b { display: block; color: var(--ink); font-size: 13.5px; }
.link .path { overflow-wrap: anywhere; } .link div { margin-top: 2px; }
.setup .chain { grid-auto-columns: minmax(158px, 300px); gap: 12px; }
.setup .link::before { display: none; }
details.facts { margin-top: 0; }
.link.phase-sample { border-left-color: var(--sample); }
.link.phase-reward { border-left-color: var(--reward); }
.link.phase-policy { border-left-color: var(--improve); }
.link.phase-evaluate { border-left-color: var(--evaluate); }
.link.missing { border-style: dashed; opacity: .7; }
.round-head { padding: 12px 16px 8px; display: flex; gap: 6px 14px; align-items: baseline;
  flex-wrap: wrap; } .lineage { margin-top: 12px; }
.facts { padding: 0 16px 12px; font-size: 12.5px; color: var(--soft); }
.facts span { margin-right: 16px; overflow-wrap: anywhere; }

.bars { padding: 12px 16px; } .bar-row { display: flex; align-items: center; gap: 10px;
  margin: 5px 0; font-size: 13px; }
.bar-name { width: 70px; flex: none; } .bar { flex: 1; display: flex; gap: 2px; height: 14px; }
.bar-total { width: 96px; flex: none; text-align: right; color: var(--soft);
  font-variant-numeric: tabular-nums; }
.segment { display: block; height: 100%; border-radius: 3px; background: var(--setup);
  min-width: 2px; }
.segment.phase-sample, .key.phase-sample { background: var(--sample); }
.segment.phase-reward, .key.phase-reward { background: var(--reward); }
.segment.phase-policy, .key.phase-policy { background: var(--improve); }
.segment.phase-evaluate, .key.phase-evaluate { background: var(--evaluate); }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin: 0 6px 0 14px;
  background: var(--setup); }
.legend { color: var(--soft); font-size: 12.5px; margin-left: -14px; }
footer { margin-top: 44px; color: var(--faint); font-size: 12.5px; }
@media print { body { background: #fff; } .card { break-inside: avoid; } nav { display: none; } }
"""
