"""Charts are well-formed, hold every line, and place points where they are."""

import re
from xml.etree import ElementTree

import pytest

from llm_jax.report import charts


def _parse(chart):
  return ElementTree.fromstring(chart.svg)


def _lines(*series, **more):
  """A chart of series given by their points, called a, b, ..."""
  named = zip('abcdefghijklmnop', series, strict=False)
  chart = charts.lines('heading', 'nats', named, **more)
  assert chart
  return chart


def _paths(chart):
  """Points of the lines that are drawn, with the style of each."""
  found = re.findall(
    r'<path d="([^"]*)"[^>]*style="(fill: none; [^"]*var\(--s[^"]*)"', chart.svg
  )
  return [
    (
      [tuple(map(float, point.split())) for point in re.split('[ML]', d)[1:]],
      style,
    )
    for d, style in found
  ]


def test_points_are_drawn_in_proportion():
  """The middle of the data is the middle of the path; y grows upwards."""
  chart = _lines([(0, 0), (5, 5), (10, 10)])
  (x0, y0), (x1, y1), (x2, y2) = _paths(chart)[0][0]
  assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
  assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
  width, height = map(float, _parse(chart).get('viewBox').split()[2:])
  assert 0 < x0 < x1 < x2 < width
  assert height > y0 > y1 > y2 > 0


def test_percent_is_a_share_of_one():
  chart = charts.lines('h', 'percent', [('a', [(0, 0.0), (1, 1.0)])])
  assert chart
  assert 'a: 0 at 0, 100 at 1' in chart.svg
  ticks = [text.text for text in _parse(chart).iter('text')]
  assert {'0', '20', '100'} <= set(ticks)


def test_what_is_read_aloud():
  chart = charts.lines(
    'loss <&> "x"', 'nats', [('train </svg>\x1b', [(1, 4.0), (9, 2.5)])]
  )
  assert chart
  root = _parse(chart)
  assert root.get('role') == 'img'
  assert root.get('aria-label') == (
    r'loss <&> "x": nats, over step. train </svg>\x1b: 4 at 1, 2.5 at 9.'
  )


def test_lines_differ_without_colour():
  """Of twelve lines none has the dash and the marker of another."""
  svg = _lines(*[[(0, n), (1, n)] for n in range(12)]).svg
  shapes = dict(re.findall(r'<path id="(\w+)" d="([^"]*)"', svg))
  drawn = re.findall(
    r'style="fill: none; (stroke-dasharray: [^;]*)?[^"]*var\(--s\d\)'
    r'.*?href="#(\w+)"',
    svg,
    re.DOTALL,
  )
  looks = {(dash, shapes[marker]) for dash, marker in drawn}
  assert len(drawn) == 24  # of the lines and of the legend
  assert len(looks) == 12
  assert [len(set(kind)) for kind in zip(*looks, strict=True)] == [6, 6]


@pytest.mark.parametrize(
  ('points', 'said'),
  [
    ([(0, 1), (1, None), (2, None)], '2 values that are not finite are left'),
    ([(3, 7)], 'a: 7 at 3, 7 at 3.'),
    ([(0, 2), (5, 2)], 'a: 2 at 0, 2 at 5.'),
    ([(0, -1e99), (5e99, 1e99)], 'a: -1e+90G at 0'),
  ],
)
def test_gaps_single_points_and_flat_lines_have_a_scale(points, said):
  chart = _lines(points)
  _parse(chart)
  assert said in chart.svg
  assert not re.search(r'\b(nan|inf)\b', chart.svg.split('>', 1)[1])


def test_nothing_to_draw_gives_no_chart():
  assert charts.lines('h', 'nats', [('a', [(0, None)]), ('b', [])]) is None


HOSTILE = [
  '_under', '$x$', '#000005', 'font-family: x;', 'xlink:href', '你好', '<b>&"',
  'red \x1b[31m', '\u202eback', '\ud800', 'two\nlines', '</svg>',
]  # fmt: skip


@pytest.mark.parametrize('name', HOSTILE)
def test_names_are_only_text(name):
  shown = ' '.join(name.encode('utf-8', 'replace').decode().split())
  shown = {
    'red \x1b[31m': r'red \x1b[31m',
    '\u202eback': r'\u202eback',
    '\ud800': r'\ud800',
  }.get(name, shown)
  drawn = [
    charts.lines('h', 'nats', [(name, [(0, 1)])]),
    charts.bars('h', 'MB', [(name, 0.5, 0.25, name)]),
    charts.intervals('h', [(name, True, 0.5, (0.4, 0.7))], style=0),
  ]
  for chart in drawn:
    assert chart
    assert shown in [text.text for text in _parse(chart).iter('text')]


def test_long_names_leave_room():
  for chart in (
    charts.bars('h', 'MB', [('long ' * 99, 1, 0, '1')]),
    charts.intervals('h', [('long ' * 99, False, 1, (1, 1))], style=1),
  ):
    name = max((text.text for text in _parse(chart).iter('text')), key=len)
    assert len(name) == 26
    assert name.endswith('…')


def test_intervals_and_bars_are_in_proportion():
  svg = charts.intervals('h', [('a', False, 0.5, (0.25, 1.0))], style=0).svg
  low, high = map(
    float,
    re.search(
      r'd="M ([\d.]+) \S+ L ([\d.]+) \S+ ?" style="fill: none; [^"]*--s0', svg
    ).groups(),
  )
  marker = float(re.findall(r'<use [^>]*x="([\d.]+)"[^>]*--s0', svg)[-1])
  assert marker - low == pytest.approx((high - low) / 3, abs=0.1)
  svg = charts.bars('h', 'MB', [('a', 0.5, 0.25, '1')]).svg
  edges = [
    sorted(set(map(float, re.findall(r'[ML] ([\d.]+) ', d))))
    for d in re.findall(r'<path d="([^"]*z ?)"', svg)
  ]
  (left, right), kept, taken = edges[-3:]
  assert kept == pytest.approx([left, (left + right) / 2], abs=0.1)
  assert taken == pytest.approx(
    [(left + right) / 2, left + (right - left) * 0.75], abs=0.1
  )


def test_colours_and_fonts_are_the_page_s():
  for chart in (
    _lines([(0, 1), (1, 2)]),
    charts.bars('h', 'MB', [('a', 0.5, 0.25, '1')]),
    charts.intervals('h', [('a', True, 0.5, (0.25, 1.0))], style=1),
  ):
    # The hatch is a pattern of the drawing.
    colours = re.findall(r'(?:fill|stroke): (?!url\(#h)([^;"]+)', chart.svg)
    assert set(colours) <= {
      'none', *(f'var(--{name})' for name in ('ink', 'soft', 'rule', 'tint',
                                             's0', 's1')),
    }  # fmt: skip
    assert 'font-family' not in chart.svg
