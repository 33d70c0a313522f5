"""Render the record of a run as HTML or as Markdown, by templates.

Pure functions of the record: no script, no network, no time of day. What the
record lacks is said to be missing in its place. Every text that a template
shows has its control characters made visible and is escaped, so that no
template can forget it.
"""

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
import markupsafe

from llm_jax import files, visible_text
from llm_jax.report import charts, findings, tables

# What the templates write with.
_WORDS = ('count', 'cut', 'duration', 'funnel_steps', 'headline', 'learnt')
_LEVEL = 0.01  # spread of a line that says nothing, beside its largest value


def html(report: Mapping[str, Any]) -> str:
  """Make the page, which needs nothing but itself.

  Args:
    report: the record that `artifacts.collect` makes.

  Returns:
    An HTML document.
  """
  return _rendered('report.html', report, _visible)


def markdown(report: Mapping[str, Any]) -> str:
  """Make the document of tables, without pictures and samples.

  Args:
    report: the record that `artifacts.collect` makes.

  Returns:
    Markdown.
  """
  return _rendered('report.md', report, tables.markdown)


def _rendered(template: str, report: Mapping[str, Any], finalize) -> str:
  """A template with its values; `finalize` makes the text of each of them."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('llm_jax.report'),
    autoescape=jinja2.select_autoescape(),  # of .html
    finalize=finalize,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  environment.globals |= {name: getattr(findings, name) for name in _WORDS}
  environment.globals['indented'] = functools.partial(
    json.dumps, indent=1, ensure_ascii=False
  )
  environment.globals |= {'tables': tables, 'charts_of': _charts}
  return environment.get_template(template).render(report=report)


def _visible(value: object) -> object:
  """Text with its control characters seen; markup stays as it is."""
  if isinstance(value, markupsafe.Markup):
    return value
  return visible_text.visible(str(value))


def _charts(report: Mapping[str, Any]) -> dict[str, list[Any]]:
  """The charts of each section; one that the record lacks is not there."""
  free = findings.accuracies(report, 'free')
  direct = findings.accuracies(report, 'direct')
  several = len(report['funnels']) > 1
  made = {
    'funnel': itertools.chain.from_iterable(
      _funnel(findings.funnel_steps(funnel), name if several else '')
      for name, funnel in report['funnels'].items()
    ),
    'training': _training(report),
    'free': _intervals(free, 'answers'),
    'direct': _intervals(direct, 'answers, not thinking'),
    'pass_at_k': [_pass_at_k(free)],
    'rl': _rl(report),
    'bits_per_byte': _bits_per_byte(report),
  }
  drawn: dict[str, list[Any]] = {section: [] for section in [*made, 'level']}
  for section, found in made.items():
    for chart in filter(None, found):
      drawn['level' if isinstance(chart, str) else section].append(chart)
  return drawn


def _curve(
  heading: str,
  unit: str,
  series: Sequence[tuple[str, charts.Points]],
  **more: Any,
) -> charts.Chart | str | None:
  """A chart of lines; where all of them are level, a text that says so."""
  ys = [y for _, points in series for _, y in points if y is not None]
  if len(ys) > 1 and max(ys) - min(ys) <= _LEVEL * max(map(abs, ys)):
    return f'{heading} ({ys[-1]:.3g})'
  return charts.lines(heading, unit, series, **more)


def _funnel(
  steps: Sequence[Mapping[str, Any]], folder: str
) -> Iterator[charts.Chart]:
  for key, heading, unit, size in (
    ('documents', 'Documents kept', 'documents', 1),
    ('bytes', 'Text kept', 'MB', 1e6),
  ):
    rows = []
    for step in steps:
      whole = steps[0][f'{key}_in'] or 1
      came, kept = step[f'{key}_in'], step[f'{key}_kept']
      shown = findings.count(kept) if size == 1 else f'{kept / size:.2f}'
      rows.append(
        (step['name'], kept / whole, max(came - kept, 0) / whole, shown)
      )
    if rows:
      of = f' in {folder}' if folder else ''
      yield charts.bars(heading + of, unit, rows)


def _training(report: Mapping[str, Any]) -> Iterator[charts.Chart | str | None]:
  for folder, found in report['training'].items():
    metrics = found['series']
    if found['stage'] == 'rl':
      continue  # its loss is not comparable over steps; see "What RL changed"
    for key, heading, unit in files.tables_of(__file__)['training']:
      held_out = metrics.get(f'valid_{key}', ())
      series = [('training', metrics.get(key, ())), ('held out', held_out)]
      name = f'{heading} of {folder}'
      yield _curve(name, unit, series, strong={'held out'})
    yield _curve(
      f'Mixture of {folder}',
      'times that each source was read',
      [
        (key.removeprefix('epochs_').replace('_', ' '), points)
        for key, points in metrics.items()
        if key.startswith('epochs_')
      ],
    )


def _intervals(
  lines: Sequence[findings.Accuracy], what: str
) -> Iterator[charts.Chart]:
  for style, kind in enumerate(('sampled', 'greedy') if lines else ()):
    rows = [
      (line.name, line.n_seeds > 1, *getattr(line, kind)) for line in lines
    ]
    yield charts.intervals(f'{kind.capitalize()} {what}', rows, style)


def _pass_at_k(lines: Sequence[findings.Accuracy]) -> charts.Chart | None:
  return charts.lines(
    'pass@k',
    'percent of problems solved by at least one of k attempts',
    [
      (line.name, [(k, v) for k, (v, _) in sorted(line.pass_at_k.items())])
      for line in lines
    ],
    strong={line.name for line in lines if line.n_seeds > 1},
    x_label='attempts k',
  )


def _rl(report: Mapping[str, Any]) -> Iterator[charts.Chart | str | None]:
  runs = {
    folder: found['series']
    for folder, found in report['training'].items()
    if found['stage'] == 'rl'
  }
  for key, heading, unit in files.tables_of(__file__)['rl']:
    series = [(name, found.get(key, ())) for name, found in runs.items()]
    yield _curve(heading, unit, series)


def _bits_per_byte(report: Mapping[str, Any]) -> Iterator[charts.Chart]:
  held_out = report['held_out'] or {}
  if models := held_out.get('models'):
    found = models | (held_out.get('compressors') or {})
    most = max(found.values()) or 1
    rows = [(name, x / most, 0, f'{x:.3f}') for name, x in found.items()]
    unit = 'bits per byte; smaller is better'
    yield charts.bars('Bits per byte on held-out text', unit, rows)
