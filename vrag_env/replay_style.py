"""The style sheet of a replay: light and dark, from a phone to a wide screen, without a script."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2027; --faint: #636c78; --line: #dfe3e8;
  --search: #2557c7; --crop: #b3261e; --answer: #1c7a43; --invalid: #8a5a00; --gold: #a67900;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --card: #1d2127; --ink: #e6e9ee; --faint: #9aa4b1; --line: #323842;
    --search: #8fb0ff; --crop: #ff8d84; --answer: #79d39c; --invalid: #f0bd5e; --gold: #ffd24a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 56px; overflow-wrap: anywhere; }
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
#gold:checked ~ .gold-note, #gold:checked ~ ol rect.gold { display: block; }
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
summary:focus-visible, #gold:focus-visible { outline: 2px solid var(--search); outline-offset: 3px; }
@media (max-width: 640px) {
  main { padding: 18px 12px 40px; }
  .outcome { grid-template-columns: 1fr 1fr; padding: 12px 14px; }
  .turn, section { padding: 14px; }
  .pair { grid-template-columns: minmax(0, 1fr); }
}
"""
