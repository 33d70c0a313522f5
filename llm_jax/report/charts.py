"""Charts as inline SVG that follows the page's light and dark colours.

Drawn by matplotlib; its colours become the variables of the page's style
sheet, and its text takes the page's font. Each style has its own dash and
marker too, so a chart reads without colour. The same numbers give the same
bytes.
"""

import dataclasses
import html
import io
import pathlib
import re
import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from llm_jax import visible_text
from llm_jax.report import findings

try:
  import matplotlib
  import matplotlib.backends.backend_svg
  import matplotlib.figure
  import matplotlib.style
  import matplotlib.ticker
except ModuleNotFoundError as error:
  raise ModuleNotFoundError(
    f"{error}; the report needs it: pip install '.[report]'"
  ) from error

# x and y; None leaves a gap.
Points = Sequence[Sequence[float | None]]

# In units of the SVG, which the page scales to the width of a column.
_WIDTH = 400
_ROW = 26  # of bars and intervals
_LEGEND_ROW = 20
_LETTER = 6.7  # width of one, for room beside the axes
_MAX_NAME = 26  # letters of a name; the tables hold all of it

# A drawing has the colours #000001, #000002, ... in place of these variables.
_VARIABLES = ('ink', 'soft', 'rule', 'tint', 's0', 's1', 's2', 's3', 's4', 's5')
_COLOURS = {name: f'#{1 + n:06x}' for n, name in enumerate(_VARIABLES)}
_MARKERS = 'os^DPX'
_DASHES: Any = (
  *('-', (0, (5, 3)), (0, (1.5, 2.5))),
  *((0, (6, 2, 1.5, 2)), (0, (9, 3)), (0, (3, 1.5))),
)
_MARKERS_PER_LINE = 6
_STYLE = pathlib.Path(__file__).parent / 'templates' / 'charts.mplstyle'


@dataclasses.dataclass(frozen=True)
class Chart:
  """A drawing with what the page writes around it."""

  heading: str
  unit: str  # stands over the drawing
  svg: str


def lines(
  heading: str,
  unit: str,
  series: Iterable[tuple[str, Points]],
  strong: Collection[str] = (),
  x_label: str = 'step',
) -> Chart | None:
  """Draw lines over a common x axis.

  Args:
    heading: what the chart shows; unlike all others on the page.
    unit: of y; where it is percent, y is a share of 1.
    series: name and points of each line; one without a number is left out.
    strong: names of lines that are drawn thicker: a mean among its parts.
    x_label: under the x axis, with the unit.

  Returns:
    The chart, or None if no line has a number.
  """
  scale = 100 if unit.startswith('percent') else 1
  drawn, said, n_left_out = [], [], 0
  for name, points in series:
    finite = [
      (x, y * scale) for x, y in points if x is not None and y is not None
    ]
    if finite:
      drawn.append((name, finite))
      ends = [f'{number(y)} at {number(x)}' for x, y in (finite[0], finite[-1])]
      said.append(f'{name}: {", ".join(ends)}')
      n_left_out += len(points) - len(finite)
  if not drawn:
    return None
  if n_left_out:
    said.append(f'{n_left_out} values that are not finite are left out')
  names = [_short(name) for name, _ in drawn]
  n_columns = int(_WIDTH / (43 + _LETTER * max(map(len, names)))) or 1
  n_rows = -(-len(names) // n_columns)
  bottom = 48 + _LEGEND_ROW * n_rows
  with _style():
    axes = _axes(left=40, right=12, top=6, inner=174, bottom=bottom)
    for index, (name, points) in enumerate(drawn):
      style = index % len(_MARKERS)
      every = max(1, len(points) // _MARKERS_PER_LINE)
      axes.plot(
        *zip(*points, strict=True),
        color=_COLOURS[f's{style}'],
        # Beyond six lines a dash meets another colour and marker.
        linestyle=_DASHES[(index + index // len(_MARKERS)) % len(_DASHES)],
        linewidth=2.6 if name in strong else 1.4,
        marker=_MARKERS[style],
        # Markers of lines that coincide do not hide each other.
        markevery=(style * (every - 1) // len(_MARKERS), every),
        clip_on=False,
      )
    axes.figure.legend(
      axes.lines, names, loc='lower left', ncols=-(-len(names) // n_rows)
    )
    ys = [y for _, points in drawn for _, y in points]
    axes.set_ylim(*_padded(ys + [0, 95] if scale == 100 else ys))
    xs = [x for _, points in drawn for x, _ in points]
    axes.set_xlim(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1)
    ticker = matplotlib.ticker
    for axis in (axes.xaxis, axes.yaxis):
      whole = axis is axes.xaxis  # steps and attempts
      locator = ticker.MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole)
      axis.set_major_locator(locator)
      axis.set_major_formatter(lambda value, place: number(value))
    axes.grid(axis='y')
    axes.set_xlabel(x_label, loc='right')
    said = f'over {x_label}. {"; ".join(said)}'
    return _chart(axes, heading, unit, said=said)


def intervals(
  heading: str,
  rows: Sequence[tuple[str, bool, float, tuple[float, float]]],
  style: int,
) -> Chart:
  """Draw shares with their 95% intervals on a scale from 0 to 100%.

  Args:
    heading: what the chart shows; unlike all others on the page.
    rows: at least one: name, bold, share, limits; in 0..1.
    style: 0..5.

  Returns:
    The chart; the numbers should stand in a table too.
  """
  unit = 'percent right, with 95% interval'
  with _style():
    axes = _rows([name for name, *_ in rows], right=14, bottom=24)
    for place, (_, strong, share, (low, high)) in enumerate(rows):
      axes.errorbar(
        100 * share,
        place,
        xerr=[[100 * max(share - low, 0)], [100 * max(high - share, 0)]],
        color=_COLOURS[f's{style}'],
        elinewidth=2.6 if strong else 1.6,
        fmt=_MARKERS[style],
        markersize=8 if strong else 6,
        clip_on=False,
      )
      if strong:
        axes.get_yticklabels()[place].set_fontweight('bold')
    axes.set_xlim(0, 100)
    axes.set_xticks(range(0, 101, 25))
    axes.grid(axis='x')
    return _chart(axes, heading, unit)


def bars(
  heading: str, unit: str, rows: Sequence[tuple[str, float, float, str]]
) -> Chart:
  """Draw bars; a hatched end stands for what was taken away.

  Args:
    heading: what the chart shows; unlike all others on the page.
    unit: of the numbers.
    rows: at least one: name, share kept, share removed, number shown; shares
      in 0..1 of the full width.

  Returns:
    The chart; the numbers should stand in a table too.
  """
  with _style():
    names, kept, removed, shown = zip(*rows, strict=True)
    right = 12 + _LETTER * max(map(len, shown))
    axes = _rows(names, right=right, bottom=4)
    places, ink = range(len(rows)), _COLOURS['ink']
    axes.barh(places, 1, height=0.5, color=_COLOURS['tint'])
    axes.barh(places, kept, height=0.5, color=_COLOURS['s0'])
    taken = {'facecolor': 'none', 'linewidth': 0, 'hatch': '//////'}
    axes.barh(places, removed, left=kept, height=0.5, **taken)
    for place, text in zip(places, shown, strict=True):
      axes.annotate(
        _short(text),
        (1, place),
        (right, 0),
        xycoords=('axes fraction', 'data'),
        textcoords='offset points',
        ha='right',
        va='center_baseline',
        color=ink,
      )
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    return _chart(axes, heading, unit)


def number(value: float) -> str:
  """Write a tick: thousands as k, and no digits that say nothing.

  >>> number(32000), number(0.25), number(4.0), number(1.5e6)
  ('32k', '0.25', '4', '1.5M')

  Args:
    value: a finite number.

  Returns:
    A short text.
  """
  for size, suffix in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= size:
      return f'{value / size:.4g}{suffix}'
  return f'{value:.4g}'


def _style():
  """Our look and nobody's: a user's own matplotlibrc changes nothing."""
  return matplotlib.style.context(['default', _STYLE])


def _axes(
  left: float, right: float, top: float, inner: float, bottom: float
) -> Any:
  """Axes of an inner height in a figure of our width, with these margins."""
  height = top + inner + bottom
  figure = matplotlib.figure.Figure(figsize=(_WIDTH / 72, height / 72))
  width = (_WIDTH - left - right) / _WIDTH
  return figure.add_axes(
    (left / _WIDTH, bottom / height, width, inner / height)
  )


def _rows(names: Sequence[str], right: float, bottom: float) -> Any:
  """Axes with a row for each name, from above."""
  names = [_short(name) for name in names]
  left = 14 + _LETTER * max(map(len, names))
  axes = _axes(left, right, top=2, inner=_ROW * len(names), bottom=bottom)
  axes.set_ylim(len(names) - 0.5, -0.5)
  axes.set_yticks(range(len(names)), names, color=_COLOURS['ink'], ha='left')
  axes.tick_params(axis='y', pad=left)
  return axes


def _chart(
  axes: Any,
  heading: str,
  unit: str,
  said: str = 'the table holds the numbers',
) -> Chart:
  """What was drawn, as an element that stands in the page."""
  stream = io.StringIO()
  # It measures text in a font that lacks some letters; the page has others.
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', 'Glyph .* missing from font')
    # Salted, because ids must differ between the charts of a page.
    with matplotlib.rc_context({'svg.hashsalt': heading}):
      axes.figure.savefig(stream, format='svg', metadata={'Date': None})
  text = stream.getvalue()
  size = re.search(r'viewBox="([^"]*)"', text)
  assert size
  # The page has a frame and a style of its own.
  text = text[text.index('</defs>', text.index('</metadata>')) + 7 :]
  text = re.sub(r'<[^>]+>', _cleaned, re.sub(r'>\s+<', '>\n<', text))
  label = html.escape(visible_text.visible(f'{heading}: {unit}, {said}.'))
  start = f'<svg class="chart" role="img" viewBox="{size[1]}"'
  svg = f'{start} aria-label="{label}">{text}'
  return Chart(heading, unit, svg=svg)


def _cleaned(tag: re.Match[str]) -> str:
  """A tag of the drawing, in the colours and the font of the page."""
  cleaned = tag[0]
  for pattern, new in (
    (r' id="[\w.]+_\d+"', ''),  # of a group, the same in each chart
    (r' transform="rotate\(-?0 [^"]*"', ''),
    (r'font-family: [^;"]*;? ?', ''),
    (r'xlink:href', 'href'),
    (r'\s*\n\s*', ' '),
  ):
    cleaned = re.sub(pattern, new, cleaned)
  for name, colour in _COLOURS.items():
    cleaned = cleaned.replace(colour, f'var(--{name})')
  return cleaned


def _short(name: str) -> str:
  """A name that fits beside the axes."""
  shown = ' '.join(visible_text.visible(name).split())
  return findings.cut(shown, _MAX_NAME, '…')


def _padded(values: Sequence[float]) -> tuple[float, float]:
  """Their range with a little air, so that no line runs on the frame."""
  low, high = min(values), max(values)
  air = 0.1 * (high - low) or 0.5
  return (0.0 if 0 <= low < air else low - air), high + air
