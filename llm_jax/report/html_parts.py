"""The pieces that report.html is made of: tables, figures, bars, intervals.

Knows nothing of runs. Every text that goes in is escaped here, and control
characters are made visible, so no caller can forget it; arguments that are
markup already are named `*_html`.
"""

import dataclasses
import html
import math
from collections.abc import Iterable, Sequence

from llm_jax import visible_text
from llm_jax.report import svg

_MAX_TEXT = 600  # characters of a sample; the artifact holds all of it


@dataclasses.dataclass(frozen=True)
class Bar:
  """A cell that shows a share in 0..1 as a bar; a number stands beside it."""

  share: float


def text(value: object) -> str:
  """Escape text of any origin for use in an element or an attribute.

  >>> text('<b onclick="x">')
  '&lt;b onclick=&quot;x&quot;&gt;'

  Args:
    value: shown as `str` writes it.

  Returns:
    HTML that shows exactly this text.
  """
  return html.escape(visible_text.visible(str(value)), quote=True)


def section(anchor: str, heading: str, body_html: str, lead: str = '') -> str:
  """A section of the page with its heading.

  Args:
    anchor: id of the section.
    heading: text of the heading.
    body_html: what follows.
    lead: one or two sentences under the heading.

  Returns:
    A `<section>`.
  """
  lead_html = f'<p>{text(lead)}</p>' if lead else ''
  return (
    f'<section id="{text(anchor)}" aria-labelledby="{text(anchor)}-h">'
    f'<h2 id="{text(anchor)}-h">{text(heading)}</h2>'
    f'{lead_html}{body_html}</section>\n'
  )


def missing(what: str) -> str:
  """Say that a run has no such artifact.

  Args:
    what: the artifact and its place.

  Returns:
    A `<p>`.
  """
  return f'<p class="note">Missing from this run: {text(what)}.</p>'


def table(
  caption: str,
  header: Sequence[str],
  rows: Iterable[Sequence[object]],
  numbers: Sequence[int] = (),
  strong: Sequence[int] = (),
) -> str:
  """A table whose first column names the rows.

  Args:
    caption: what the table shows.
    header: names of the columns.
    rows: cells of each row: text, a `Bar`, or a pair of a value and its
      range, which is set lighter.
    numbers: columns that are aligned right.
    strong: rows set in bold.

  Returns:
    A `<table>` in a box that scrolls sideways on a narrow screen.
  """

  def cell(column: int, value: object) -> str:
    name = 'th' if column == 0 else 'td'
    scope = ' scope="row"' if column == 0 else ''
    style = ' class="number"' if column in numbers else ''
    if isinstance(value, Bar):
      style = ' class="plot" aria-hidden="true"'
      shown = _track(value.share, 0)
    elif isinstance(value, tuple):
      shown = f'{text(value[0])} <span class="range">{text(value[1])}</span>'
    else:
      shown = text(value)
    return f'<{name}{scope}{style}>{shown}</{name}>'

  head = ''.join(
    f'<th scope="col"{" class=number" * (column in numbers)}>{text(name)}</th>'
    for column, name in enumerate(header)
  )
  body = ''.join(
    f'<tr{" class=mean" * (index in strong)}>'
    + ''.join(cell(column, value) for column, value in enumerate(row))
    + '</tr>'
    for index, row in enumerate(rows)
  )
  # tabindex: whoever has no pointer scrolls the box with the arrow keys.
  return (
    f'<div class="scroll" role="region" aria-label="{text(caption)}" '
    f'tabindex="0"><table{" class=narrow" * (len(header) == 2)}>'
    f'<caption>{text(caption)}</caption>'
    f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
  )


def chart(
  heading: str,
  lines: Sequence[svg.Line],
  x_label: str,
  y_label: str,
  caption: str = '',
  y_range: tuple[float, float] | None = None,
  reference: Sequence[tuple[str, float]] = (),
) -> str:
  """A line chart with heading, legend and caption.

  Args:
    heading: what the chart shows.
    lines: as in `svg.line_chart`; lines without a point are left out.
    x_label: as there.
    y_label: as there; stands over the chart.
    caption: under the chart.
    y_range: as in `svg.line_chart`.
    reference: as there.

  Returns:
    A `<figure>`; nothing if no line has a point.
  """
  lines = [line for line in lines if line.points]
  if not lines:
    return ''
  drawing = svg.line_chart(heading, lines, x_label, y_label, y_range, reference)
  items = ''.join(
    f'<li>{svg.legend_mark(line.style, line.strong)}{text(line.name)}</li>'
    for line in lines
  )
  legend = f'<ul class="legend">{items}</ul>'
  caption_html = f' {text(caption)}' if caption else ''
  return (
    f'<figure><h3>{text(heading)}</h3>'
    f'<p class="note">{text(y_label)}</p>{drawing}{legend}'
    f'<figcaption>{caption_html}</figcaption></figure>'
  )


def bars(
  description: str,
  rows: Sequence[tuple[str, float, float, str]],
) -> str:
  """Horizontal bars; a hatched end stands for what was taken away.

  Args:
    description: read in place of the picture by screen readers.
    rows: (name, share kept, share removed, number shown), shares in 0..1 of
      the full width.

  Returns:
    A `<figure>`; the numbers should stand in a table too.
  """
  parts = []
  for name, kept, removed, shown in rows:
    parts.append(
      f'<span>{text(name)}</span><span class="number">{text(shown)}</span>'
      f'{_track(kept, removed)}'
    )
  return (
    f'<figure role="img" aria-label="{text(description)}">'
    f'<div class="bars" aria-hidden="true">{"".join(parts)}</div></figure>'
  )


def forest(
  description: str,
  rows: Sequence[
    tuple[
      str,
      bool,
      tuple[float, tuple[float, float]],
      tuple[float, tuple[float, float]],
    ]
  ],
) -> str:
  """Two shares a row, with their intervals, on a scale from 0 to 100%.

  Args:
    description: read in place of the picture by screen readers.
    rows: (name, bold, (sampled, interval), (greedy, interval)) in 0..1.

  Returns:
    A `<figure>`; the numbers should stand in a table too.
  """

  def mark(value, limits, place, shape, style):
    low, high = (min(max(limit, 0.0), 1.0) for limit in limits)
    return (
      f'<span class="ci {place} s{style}" style="left:{100 * low:.2f}%;'
      f'width:{100 * (high - low):.2f}%"></span>'
      f'<span class="dot {shape} {place} s{style}" '
      f'style="left:{100 * value:.2f}%"></span>'
    )

  parts = ''.join(
    f'<span class="{"strong" if strong else ""}">{text(name)}</span>'
    f'<span class="scale">{mark(*sampled, "up", "disc", 0)}'
    f'{mark(*greedy, "down", "diamond", 1)}</span>'
    for name, strong, sampled, greedy in rows
  )
  ends = ''.join(
    f'<span style="left:{tick}%">{tick}</span>' for tick in (0, 25, 50, 75, 100)
  )
  key = (
    '<ul class="legend" aria-hidden="true">'
    '<li><span class="key"><span class="ci s0" style="top:5px;width:100%">'
    '</span><span class="dot disc s0" style="left:50%;top:5px"></span></span>'
    'sampled, percent right with 95% interval</li>'
    '<li><span class="key"><span class="ci s1" style="top:5px;width:100%">'
    '</span><span class="dot diamond s1" style="left:50%;top:5px"></span>'
    '</span>greedy, the same</li></ul>'
  )
  return (
    f'<figure role="img" aria-label="{text(description)}">'
    f'<div class="forest" aria-hidden="true">{parts}'
    f'<span></span><span class="ends">{ends}</span></div>{key}</figure>'
  )


def folded(summary: str, body_html: str, opened: bool = False) -> str:
  """A part that opens on a click, without a script.

  Args:
    summary: the line that is always seen.
    body_html: what opens.
    opened: whether it starts open.

  Returns:
    A `<details>`.
  """
  return (
    f'<details{" open" * opened}><summary>{text(summary)}</summary>'
    f'{body_html}</details>'
  )


def sample(prompt: str, answer: str) -> str:
  """A prompt, set lighter, and what a model made of it.

  Args:
    prompt: what the model read.
    answer: what it wrote.

  Returns:
    A `<pre>`.
  """
  return f'<pre><span class="prompt">{text(prompt)}</span>{text(answer)}</pre>'


def verdict(
  prompt: str, answer: str, correct: bool, reason: str, note: str = ''
) -> str:
  """An answer, whether it is right, and why.

  Args:
    prompt: what the model read.
    answer: what it wrote; a long one is cut.
    correct: the verdict.
    reason: the verifier's.
    note: what else stands beside the verdict.

  Returns:
    An `<article>` of class good or bad.
  """
  mark = '✓ right' if correct else '✗ wrong'
  note_html = f' <span class="range">{text(note)}</span>' if note else ''
  return (
    f'<article class="{"good" if correct else "bad"}">'
    f'<p class="verdict">{mark}{note_html}</p>'
    f'{sample(prompt, cut(answer))}'
    f'<p class="reason">{text(reason)}</p></article>'
  )


def filtered(name: str, body_html: str) -> str:
  """Answers of which only the right or the wrong ones can be shown.

  By style alone: the page has no script.

  Args:
    name: of the choice, unlike all others on the page.
    body_html: holds what `verdict` makes.

  Returns:
    A `<div>` with three radio buttons before the body.
  """
  choices = ''.join(
    f'<label><input type="radio" name="{text(name)}" value="{value}"'
    f'{" checked" * (value == "all")}> {value}</label>'
    for value in ('all', 'right', 'wrong')
  )
  return (
    '<div class="filtered"><fieldset><legend>Show answers:</legend>'
    f'{choices}</fieldset>{body_html}</div>'
  )


def timeline(rows: Iterable[tuple[str, str, str]]) -> str:
  """Samples in order, the moment on the left; a repeated moment stands once.

  Args:
    rows: (moment, prompt, answer).

  Returns:
    A `<dl>`.
  """
  parts, last = [], None
  for moment, prompt, answer in rows:
    if moment != last:
      parts.append(f'<dt>{text(moment)}</dt>')
    parts.append(f'<dd>{sample(prompt, answer)}</dd>')
    last = moment
  return f'<dl class="timeline">{"".join(parts)}</dl>'


def series_line(
  name: str,
  points: Sequence[Sequence[float | None]] | None,
  style: int,
  scale: float = 1,
  strong: bool = False,
) -> svg.Line:
  """A line of a chart from a series whose gaps are None.

  Args:
    name: of the line.
    points: [x, y] each, or None if the run has no such series.
    style: as in `svg.Line`.
    scale: factor of y, as 100 for percent.
    strong: as in `svg.Line`.

  Returns:
    The line; without points if none is finite.
  """
  drawn = [
    (float(x or 0), math.nan if y is None else y * scale)
    for x, y in points or ()
  ]
  if not any(math.isfinite(y) for _, y in drawn):
    drawn = []
  return svg.Line(name, drawn, style, strong)


def cut(long_text: str) -> str:
  """The beginning of a long text, with the number of characters left out.

  Args:
    long_text: of any origin; not escaped here.

  Returns:
    The text itself if it is short.
  """
  n_more = len(long_text) - _MAX_TEXT
  if n_more <= 0:
    return long_text
  return f'{long_text[:_MAX_TEXT]}… ({n_more:,} more characters)'


def _track(kept: float, removed: float) -> str:
  """A bar on its track, with a hatched end for what was taken away."""
  gone = (
    f'<span class="gone" style="left:{100 * kept:.2f}%;'
    f'width:{100 * removed:.2f}%"></span>'
    if removed > 0
    else ''
  )
  return (
    '<span class="track">'
    f'<span class="bar" style="width:{100 * kept:.2f}%"></span>{gone}</span>'
  )
