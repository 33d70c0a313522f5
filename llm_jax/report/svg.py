"""Line charts as inline SVG that follows the page's light and dark colours.

Draws lines and nothing else. Colours come from the page's style sheet through
the classes `s0`..`s5`; each style has its own dash and marker too, so a chart
reads without colour. Numbers that are not finite are left out and counted in
the description.
"""

import dataclasses
import html
import math
from collections.abc import Sequence

WIDTH = 440
HEIGHT = 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 42
_DASHES = ('', '7 4', '2 4', '9 3 2 3', '12 4', '4 2')
_MARKERS_PER_LINE = 6


@dataclasses.dataclass(frozen=True)
class Line:
  """One named line of a chart."""

  name: str
  points: Sequence[tuple[float, float]]
  style: int  # 0..5: colour, dash and marker
  strong: bool = False  # drawn thicker: a mean among its parts


def ticks(low: float, high: float, count: int = 5) -> list[float]:
  """Round numbers (1, 2 or 5 times a power of ten) from low to high.

  >>> ticks(0, 0.93)
  [0.0, 0.2, 0.4, 0.6, 0.8]

  Args:
    low: start of the axis.
    high: end of the axis, above low.
    count: about how many intervals are wanted.

  Returns:
    The ticks inside the axis, ascending.
  """
  rough = (high - low) / count
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(
    power * factor
    for factor in (1, 2, 5, 10)
    if power * factor >= rough * 0.999
  )
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [round(index * step, 12) for index in range(first, last + 1)]


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


def line_chart(
  title: str,
  lines: Sequence[Line],
  x_label: str,
  y_label: str,
  y_range: tuple[float, float] | None = None,
  reference: Sequence[tuple[str, float]] = (),
) -> str:
  """Draw lines over a common x axis.

  Args:
    title: read by screen readers, in place of the picture.
    lines: at least one, with at least one finite point among them.
    x_label: text under the x axis, with the unit.
    y_label: text over the y axis, with the unit.
    y_range: limits of the y axis; by default those of the values.
    reference: named horizontal lines, for what a value is compared with.

  Returns:
    An `<svg>` element.

  Raises:
    ValueError: no line has a finite point.
  """
  finite = [
    [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)]
    for line in lines
  ]
  n_left_out = sum(len(line.points) for line in lines) - sum(map(len, finite))
  xs = [x for points in finite for x, _ in points]
  ys = [y for points in finite for _, y in points]
  if not xs:
    raise ValueError(
      f'chart {title!r} has no finite point in '
      f'{[line.name for line in lines]}; leave the chart out'
    )
  ys += [value for _, value in reference]
  x_low, x_high = _widened(min(xs), max(xs))
  y_low, y_high = y_range or _padded(min(ys), max(ys))

  def x_of(x: float) -> float:
    return _LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - _LEFT - _RIGHT)

  def y_of(y: float) -> float:
    span = HEIGHT - _TOP - _BOTTOM
    return HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * span

  parts = []
  for value in ticks(y_low, y_high):
    y = y_of(value)
    parts.append(
      f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
      f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
      f'{number(value)}</text>'
    )
  for value in ticks(x_low, x_high):
    parts.append(
      f'<text x="{x_of(value):.1f}" y="{HEIGHT - _BOTTOM + 18}" '
      f'text-anchor="middle">{number(value)}</text>'
    )
  parts.append(
    f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" '
    f'text-anchor="end">{html.escape(x_label)}</text>'
  )
  for name, value in reference:
    y = y_of(value)
    # The highest is named above its line, others below: no two names meet.
    is_highest = value == max(other for _, other in reference)
    parts.append(
      f'<path class="reference" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>'
      f'<text x="{WIDTH - _RIGHT}" y="{y + (-6 if is_highest else 15):.1f}" '
      f'text-anchor="end">{html.escape(name)}</text>'
    )
  for line, points in zip(lines, finite, strict=True):
    parts.append(_drawn(line, [(x_of(x), y_of(y)) for x, y in points]))
  description = '; '.join(
    f'{line.name}: {_ends(points)}'
    for line, points in zip(lines, finite, strict=True)
  )
  if n_left_out:
    description += f'; {n_left_out} values that are not finite are left out'
  return (
    f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart">'
    f'<title>{html.escape(title)}</title>'
    f'<desc>{html.escape(f"{y_label} over {x_label}. {description}")}.</desc>'
    + ''.join(parts)
    + '</svg>'
  )


def legend_mark(style: int, strong: bool = False) -> str:
  """Draw the sample of a line that stands beside its name in a legend.

  Args:
    style: as in `Line`.
    strong: as in `Line`.

  Returns:
    An `<svg>` element hidden from screen readers.
  """
  line = Line('', (), style, strong)
  drawn = _drawn(line, [(2, 7), (15, 7), (28, 7)], marked=[(15, 7)])
  return (
    '<svg class="mark" viewBox="0 0 30 14" aria-hidden="true">' + drawn
  ) + '</svg>'


def _drawn(
  line: Line,
  points: Sequence[tuple[float, float]],
  marked: Sequence[tuple[float, float]] | None = None,
) -> str:
  """The path of a line in picture coordinates, with a few markers on it."""
  if not points:
    return ''
  path = 'M' + 'L'.join(f'{x:.1f} {y:.1f}' for x, y in points)
  if marked is None:
    # The offset keeps markers of lines that coincide from covering each other.
    every = max(1, len(points) // _MARKERS_PER_LINE)
    offset = 0 if every == 1 else (line.style * every) // 6
    marked = points[offset::every]
  shapes = ''.join(_marker(line.style, x, y) for x, y in marked)
  strong = ' strong' if line.strong else ''
  return (
    f'<g class="s{line.style}{strong}"><path class="line" '
    f'stroke-dasharray="{_DASHES[line.style]}" d="{path}"/>{shapes}</g>'
  )


def _marker(style: int, x: float, y: float) -> str:
  """Disc, square, triangle, diamond, ring or cross, by style."""
  if style == 0:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
  if style == 1:
    x, y = x - 2.7, y - 2.7
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="5.4" height="5.4"/>'
  if style == 2:
    return f'<path d="M{x:.1f} {y - 3.8:.1f}l3.6 6.4h-7.2z"/>'
  if style == 3:
    return f'<path d="M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z"/>'
  if style == 4:
    return f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
  return f'<path class="cross" d="M{x - 3:.1f} {y - 3:.1f}l6 6m-6 0l6 -6"/>'


def _ends(points: Sequence[tuple[float, float]]) -> str:
  """First and last value of a line in words."""
  if not points:
    return 'no values'
  (x_first, first), (x_last, last) = points[0], points[-1]
  return (
    f'{number(first)} at {number(x_first)}, {number(last)} at {number(x_last)}'
  )


def _widened(low: float, high: float) -> tuple[float, float]:
  """The range itself, or one around its only value."""
  return (low, high) if high > low else (low - 0.5, high + 0.5)


def _padded(low: float, high: float) -> tuple[float, float]:
  """The range with a little air, so that no line runs on the frame."""
  low, high = _widened(low, high)
  air = 0.06 * (high - low)
  return (0.0 if 0 <= low < air else low - air), high + air
