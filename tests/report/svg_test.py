"""Charts are well-formed, hold every line, and place points where they are."""

import math
import re
from xml.etree import ElementTree

import pytest

from llm_jax.report import svg


def _parse(text):
  return ElementTree.fromstring(text)


def test_ticks_are_round_and_inside():
  assert svg.ticks(0, 32000) == [0, 10000, 20000, 30000]
  assert svg.ticks(1.7, 6.3) == [2, 3, 4, 5, 6]
  assert svg.ticks(-0.06, 0.11) == [-0.05, 0, 0.05, 0.1]


def test_points_are_drawn_in_proportion():
  """The middle of the data is the middle of the path; y grows upwards."""
  chart = svg.line_chart(
    'c', [svg.Line('a', [(0, 0), (5, 5), (10, 10)], 0)], 'x', 'y',
    y_range=(0, 10),
  )  # fmt: skip
  path = re.search(r'class="line"[^>]* d="M([^"]*)"', chart)[1]
  (x0, y0), (x1, y1), (x2, y2) = (
    map(float, point.split()) for point in path.split('L')
  )
  assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
  assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
  assert x0 < x1 < x2
  assert y0 > y1 > y2
  assert 0 < y2 < y0 < svg.HEIGHT
  assert 0 < x0 < x2 < svg.WIDTH


def test_chart_is_accessible_and_escaped():
  root = _parse(
    svg.line_chart(
      'loss <&> "x"',
      [svg.Line('train </svg>', [(1, 4.0), (9, 2.5)], 0)],
      'step',
      'nats',
    )
  )
  assert root.get('role') == 'img'
  assert root.find('title').text == 'loss <&> "x"'
  description = root.find('desc').text
  assert 'train </svg>: 4 at 1, 2.5 at 9' in description
  assert 'nats over step' in description


def test_lines_differ_without_colour():
  """Every style has its own dash and its own marker."""
  marks = [svg.legend_mark(style) for style in range(6)]
  dashes = [re.search('stroke-dasharray="([^"]*)"', m)[1] for m in marks]
  shapes = [re.search(r'/>(<.*?)["\s]', m)[1] + m[-60:] for m in marks]
  assert len(set(dashes)) == 6
  assert len(set(shapes)) == 6
  for mark in marks:
    _parse(mark)


def test_values_that_are_not_finite_are_counted():
  chart = svg.line_chart(
    'c', [svg.Line('a', [(0, 1), (1, math.nan), (2, math.inf)], 0)], 'x', 'y'
  )
  assert '2 values that are not finite are left out' in chart
  assert 'nan' not in chart


def test_one_point_and_flat_lines_have_a_scale():
  for points in ([(3, 7)], [(0, 2), (5, 2)]):
    chart = svg.line_chart('c', [svg.Line('a', points, 1)], 'x', 'y')
    _parse(chart)
    assert 'nan' not in chart
    assert 'inf' not in chart


def test_reference_lines_are_inside():
  chart = svg.line_chart(
    'c', [svg.Line('a', [(0, 1), (1, 2)], 0)], 'x', 'y',
    reference=[('gzip', 5.0)],
  )  # fmt: skip
  y = float(re.search(r'class="reference" d="M\d+ ([\d.]+)', chart)[1])
  assert 0 < y < svg.HEIGHT
  assert 'gzip' in chart


def test_nothing_to_draw_is_refused():
  with pytest.raises(ValueError, match='no finite point'):
    svg.line_chart('c', [svg.Line('a', [(0, math.nan)], 0)], 'x', 'y')
