"""The style sheet of report.html.

One type scale, one column, colours by name for light and dark. Holds no
script: the page works where scripts are off.
"""

CSS = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #16191d; --soft: #5a6470; --rule: #e3e7eb;
  --tint: #f5f7f9; --s0: #0b5fa5; --s1: #b8480b; --s2: #117a54;
  --s3: #7b3fa0; --s4: #5a6470; --s5: #a3195b; --good: #117a54;
  --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0f1215; --ink: #e6e9ec; --soft: #9aa5b1; --rule: #2a3037;
    --tint: #171b20; --s0: #6ab3f5; --s1: #f59b62; --s2: #5fcf9f;
    --s3: #c79bea; --s4: #9aa5b1; --s5: #f28bbb; --good: #5fcf9f;
    --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion) { html { scroll-behavior: auto; } }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums;
}
main, header, footer { max-width: 60rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 4rem; }
footer { padding-top: 2rem; padding-bottom: 4rem; color: var(--soft);
  font-size: .875rem; }
h1 { font-size: 2.25rem; line-height: 1.15; letter-spacing: -.02em;
  margin: 0 0 .75rem; font-weight: 650; text-wrap: balance; }
h2 { font-size: 1.5rem; line-height: 1.25; letter-spacing: -.01em;
  margin: 0 0 .5rem; font-weight: 650; }
h3 { font-size: 1rem; margin: 2rem 0 .5rem; font-weight: 650; }
section { padding-top: 4rem; }
p { margin: 0 0 1rem; max-width: 42rem; }
p.lead { font-size: 1.125rem; color: var(--soft); }
p.note, figcaption, caption { color: var(--soft); font-size: .875rem; }
a { color: var(--s0); text-underline-offset: .2em; }
:focus-visible { outline: 2px solid var(--s0); outline-offset: 3px; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0;
  margin: 3rem 0 0; list-style: none; font-size: .875rem; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; }
dl.tiles { display: grid; gap: 2rem 1.5rem; margin: 3rem 0 0;
  grid-template-columns: repeat(3, 1fr); }
dl.tiles dt { font-size: .875rem; font-weight: 600; }
dl.tiles dd { margin: 0; font-size: .875rem; line-height: 1.45;
  color: var(--soft); }
dl.tiles dd.value { font-size: 2.25rem; line-height: 1.3; font-weight: 600;
  letter-spacing: -.02em; color: var(--ink); }
.scroll { overflow-x: auto; margin: 1.5rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
table.narrow { max-width: 29rem; }
caption { text-align: left; padding-bottom: .5rem; }
th, td { text-align: left; vertical-align: baseline; padding: .5rem 1.25rem
  .5rem 0; border-bottom: 1px solid var(--rule); }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--soft); font-weight: 500; }
tbody th { font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
tr.mean th, tr.mean td { font-weight: 650; }
.range { color: var(--soft); font-weight: 400; }
figure { margin: 1.5rem 0; }
.charts { display: grid; gap: 2rem 2.5rem; margin: 1.5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.charts figure { margin: 0; }
figure h3 { margin: 0 0 .25rem; }
svg.chart { display: block; width: 100%; height: auto; max-width: 29rem; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft);
  font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--rule); }
svg .reference { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .line { fill: none; stroke: currentColor; stroke-width: 1.5;
  stroke-linejoin: round; }
svg .strong .line { stroke-width: 3; }
svg g { fill: currentColor; }
svg .ring { fill: var(--page); stroke: currentColor; stroke-width: 1.5; }
svg .cross { stroke: currentColor; stroke-width: 1.5; fill: none; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); } .s2 { color: var(--s2); }
.s3 { color: var(--s3); } .s4 { color: var(--s4); } .s5 { color: var(--s5); }
.legend { display: flex; flex-wrap: wrap; gap: .125rem 1.25rem; padding: 0;
  margin: .25rem 0 0; list-style: none; font-size: .875rem; }
.legend li { display: flex; align-items: center; gap: .5rem; }
svg.mark { width: 30px; height: 14px; flex: none; }
.bars { display: grid; gap: .625rem 1rem; font-size: .875rem;
  grid-template-columns: minmax(8rem, max-content) 1fr max-content;
  align-items: center; grid-auto-flow: row dense; }
.bars .number { grid-column: 3; } .bars .track { grid-column: 2; }
.track { position: relative; display: block; height: .875rem;
  background: var(--tint); border-radius: 2px; }
.bar { position: absolute; inset: 0 auto 0 0; background: var(--s0);
  border-radius: 2px; min-width: 1px; }
.bar.b1 { background: repeating-linear-gradient(135deg, var(--s1) 0 3px,
  transparent 3px 6px); outline: 1px solid var(--s1);
  outline-offset: -1px; }
.gone { position: absolute; top: 0; bottom: 0;
  background: repeating-linear-gradient(135deg, var(--s1) 0 2px,
  transparent 2px 5px); }
.key { display: inline-block; position: relative; width: 1.5rem;
  height: .75rem; }
.forest { display: grid; gap: 0 1rem; font-size: .875rem;
  grid-template-columns: minmax(7rem, max-content) 1fr; align-items: center; }
.forest .strong { font-weight: 650; }
.scale { position: relative; height: 2.25rem; background: linear-gradient(90deg,
  var(--rule) 1px, transparent 1px) 0 0 / 25% 100%;
  border-right: 1px solid var(--rule); }
.ci { position: absolute; height: 2px; min-width: 1px;
  background: currentColor; }
.dot { position: absolute; width: 10px; height: 10px; margin: -4px 0 0 -5px;
  border: 2px solid currentColor; background: var(--page); }
.up { top: 12px; } .down { top: 23px; }
.dot.disc { border-radius: 50%; background: currentColor; }
.dot.diamond { transform: rotate(45deg) scale(.8); }
.ends { position: relative; height: 1.5rem; color: var(--soft);
  font-size: .75rem; }
.ends span { position: absolute; transform: translateX(-50%); }
td.plot { width: 30%; min-width: 5rem; }
.timeline { display: grid; grid-template-columns: max-content 1fr;
  gap: 0 1.5rem; margin: 0; }
.timeline dt { grid-column: 1; color: var(--soft); white-space: nowrap;
  padding-top: .4rem; }
.timeline dd { grid-column: 2; margin: 0; min-width: 0; }
.timeline pre { margin: 0 0 .5rem; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas,
  monospace; }
pre .prompt { color: var(--soft); }
details { border-top: 1px solid var(--rule); padding: .625rem 0;
  font-size: .875rem; }
details:last-of-type { border-bottom: 1px solid var(--rule); }
summary { cursor: pointer; }
details[open] > summary { margin-bottom: .75rem; }
details pre { background: var(--tint); padding: .625rem .75rem;
  margin: .25rem 0 1rem; border-radius: 4px; }
.answers { display: grid; gap: 1.5rem; margin: 1.5rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); }
.answers article { border-top: 2px solid currentColor; padding-top: .5rem; }
.answers article > * { color: var(--ink); }
.answers .verdict { font-size: .875rem; font-weight: 600; color: inherit;
  margin: 0 0 .25rem; }
.answers .reason { font-size: .8125rem; color: var(--soft);
  margin: .375rem 0 0; overflow-wrap: anywhere; }
.filtered fieldset { border: 0; padding: 0; margin: 0 0 .75rem;
  display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
.filtered legend { float: left; padding: 0; margin-right: 1rem;
  color: var(--soft); }
.filtered input { accent-color: var(--s0); margin: 0 .25rem 0 0; }
.filtered:has([value="right"]:checked) .bad { display: none; }
.filtered:has([value="wrong"]:checked) .good { display: none; }
.filtered details { padding-left: 1rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
code { font: .875em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  header { padding-top: 2rem; }
  h1 { font-size: 1.75rem; }
  section { padding-top: 3rem; }
  dl.tiles { grid-template-columns: 1fr 1fr; margin-top: 2rem; }
  .bars { grid-template-columns: 1fr auto; }
  .bars .number { grid-column: 2; }
  .bars .track { grid-column: 1 / -1; margin-bottom: .5rem; }
  .forest { grid-template-columns: 1fr; padding: 0 .75rem; }
  .forest > span:empty { display: none; }
  .forest > span:not(.scale):not(.ends) { padding-top: .5rem; }
  .timeline { grid-template-columns: 1fr; }
  .timeline dd { grid-column: 1; }
  td.plot { display: none; }
  td:last-child:not(.number) { min-width: 14rem; }
  thead th:empty { display: none; }
}
@media print {
  details > * { display: block; }
  section { break-inside: avoid-page; }
}
"""
