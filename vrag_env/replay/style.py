"""The style sheet of a replay: light and dark, from a phone to a wide screen."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2027; --faint: #636c78; --line: #dfe3e8;
  --search: #2557c7; --crop: #b3261e; --answer: #1c7a43; --invalid: #8a5a00; --gold: #a67900; --heat: #d65a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1d2127; --ink: #e6e9ee; --faint: #9aa4b1; --line: #323842;
    --search: #8fb0ff; --crop: #ff8d84; --answer: #79d39c; --invalid: #f0bd5e; --gold: #ffd24a; --heat: #ff8a3d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 56px; overflow-wrap: anywhere; }
main:has(.columns), main:has(.run) { max-width: 1680px; }
.kicker { margin: 0; color: var(--faint); font-size: 0.875rem; }
h1 { margin: 4px 0 18px; font-size: clamp(1.3rem, 3.2vw, 1.8rem); line-height: 1.25; }
h2 { margin: 0 0 10px; font-size: 1.1rem; }
.faint { color: var(--faint); font-weight: 400; }
.number { font-variant-numeric: tabular-nums; }
.outcome {
  display: grid; grid-template-columns: 2fr 2fr 1fr 1fr; gap: 14px 20px; margin: 0 0 16px; padding: 14px 18px;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
}
.outcome dt { color: var(--faint); font-size: 0.8125rem; }
.outcome dd { margin: 2px 0 0; font-weight: 600; }
#gold { accent-color: var(--gold); width: 16px; height: 16px; margin: 0 8px 0 0; vertical-align: -2px; }
label { cursor: pointer; }
.gold-note, rect.gold { display: none; }
#gold:checked ~ .gold-note, #gold:checked ~ ol rect.gold, #gold:checked ~ .columns rect.gold { display: block; }
label + input { margin-left: 18px !important; }
#heat { width: 16px; height: 16px; margin: 0 8px 0 0; vertical-align: -2px; }
.keys { margin: 0 0 8px; font-size: 0.875rem; }
kbd { padding: 0 5px; border: 1px solid var(--line); border-radius: 4px; background: var(--card); font: inherit; }
.sampled span { border-radius: 2px; }
#heat:checked ~ * .heat1 { background: color-mix(in srgb, var(--heat) 10%, transparent); }
#heat:checked ~ * .heat2 { background: color-mix(in srgb, var(--heat) 20%, transparent); }
#heat:checked ~ * .heat3 { background: color-mix(in srgb, var(--heat) 32%, transparent); }
#heat:checked ~ * .heat4 { background: color-mix(in srgb, var(--heat) 44%, transparent); }
#heat:checked ~ * .heat5 { background: color-mix(in srgb, var(--heat) 56%, transparent); }
#heat:checked ~ * .heat6 { background: color-mix(in srgb, var(--heat) 70%, transparent); }
.cost { margin: 10px 0 0; color: var(--faint); font-size: 0.875rem; font-variant-numeric: tabular-nums; }
.columns { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 20px; margin-top: 18px; }
.columns .outcome { grid-template-columns: 1fr 1fr; }
.columns .pair { grid-template-columns: minmax(0, 1fr); }
.filters { display: flex; flex-wrap: wrap; gap: 10px 18px; align-items: center; margin: 14px 0; }
.filters select, .filters input[type=search] {
  font: inherit; padding: 3px 8px; max-width: 100%; color: var(--ink); background: var(--card);
  border: 1px solid var(--line); border-radius: 6px;
}
.run td { vertical-align: top; }
.run td:first-child { min-width: 16rem; }
.run a { color: var(--search); }
td.right { color: var(--answer); font-weight: 600; }
td.wrong { color: var(--crop); font-weight: 600; }
td.no-answer { color: var(--invalid); font-weight: 600; }
tr[hidden] { display: none; }
.gold-note {
  margin: 10px 0 0; padding: 10px 16px; border-left: 4px solid var(--gold); background: var(--card);
}
.gold-note p, .gold-note ul { margin: 0; }
ol { list-style: none; margin: 18px 0; padding: 0; display: grid; gap: 16px; }
.turn {
  --tone: var(--search); padding: 16px 18px; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; min-width: 0;
}
.crop.turn { --tone: var(--crop); }
.answer.turn { --tone: var(--answer); }
.invalid.turn { --tone: var(--invalid); }
.turn:focus { outline: 2px solid var(--tone); outline-offset: 2px; }
.turn header { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: baseline; }
.step { color: var(--faint); font-variant-numeric: tabular-nums; }
.kind { color: var(--tone); font-weight: 700; }
.body { font-weight: 600; min-width: 0; }
.thought { margin: 8px 0 0; color: var(--faint); font-style: italic; white-space: pre-wrap; }
.message { margin: 10px 0 0; white-space: pre-wrap; }
.figures { display: grid; gap: 16px; margin-top: 14px; justify-items: start; align-items: start; }
.pair { grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); }
figure { margin: 0; max-width: 100%; }
.frame {
  position: relative; width: fit-content; max-width: 100%; border: 1px solid var(--line); line-height: 0;
}
.frame img { display: block; max-width: 100%; width: auto; height: auto; max-height: 640px; background: #fff }
.frame svg { position: absolute; inset: 0; width: 100%; height: 100%; }
rect { fill: none; stroke-width: 3px; vector-effect: non-scaling-stroke; }
rect.crop { stroke: #d0251b; }
rect.gold { stroke: #c99400; stroke-dasharray: 7 4; }
figcaption { margin-top: 6px; font-size: 0.875rem; }
details { margin-top: 10px; font-size: 0.9375rem; }
summary { cursor: pointer; color: var(--faint); width: fit-content; }
pre {
  margin: 8px 0 0; padding: 10px 12px; background: var(--page);
  border: 1px solid var(--line); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24rem; overflow: auto; font-size: 0.8125rem;
}
section { padding: 16px 18px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
section p { margin: 10px 0 0; font-size: 0.875rem; }
.scroll { overflow-x: auto; margin-top: 6px; }
table { border-collapse: collapse; font-size: 0.9375rem; overflow-wrap: normal; }
th, td { padding: 5px 16px 5px 0; text-align: left; border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 500; font-size: 0.8125rem; }
tfoot td { border-bottom: 0; font-weight: 700; }
tr.shown td { font-weight: 600; }
summary:focus-visible, input:focus-visible, select:focus-visible, a:focus-visible {
  outline: 2px solid var(--search); outline-offset: 3px;
}
@media (max-width: 640px) {
  main { padding: 18px 12px 40px; }
  .outcome { grid-template-columns: 1fr 1fr; padding: 12px 14px; }
  .turn, section { padding: 14px; }
  .pair, .columns { grid-template-columns: minmax(0, 1fr); }
}
"""
