"""Render the record of a run as Markdown: the tables, without the pictures.

A pure function of the record, like the page; holds no samples.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm_jax import visible_text
from llm_jax.report import findings


def render(report: Mapping[str, Any]) -> str:
  """Make the document.

  Args:
    report: the record that `artifacts.collect` makes.

  Returns:
    Markdown with one table a subject.
  """
  blocks = ['# Report of a run', stages(report)]
  for mode, heading in (
    ('free', 'Accuracy on held-out problems'),
    ('direct', 'Accuracy without thinking tokens'),
  ):
    lines = findings.accuracies(report, mode)
    if lines:
      blocks += [f'## {heading}', accuracy(lines)]
  if passes := findings.pass_at_k(report):
    numbers = range(1, len(passes[0]))
    blocks += ['## pass@k', table(passes[0], passes[1:], numbers)]
  blocks += _funnel(report) + _held_out(report) + _provenance(report)
  if report['missing']:
    items = '\n'.join(f'- {_cell(line)}' for line in report['missing'])
    blocks += ['## Missing from this run', items]
  return '\n\n'.join(blocks) + '\n'


def stages(report: Mapping[str, Any]) -> str:
  """The table of stages, which also ends a whole run in the terminal.

  Args:
    report: the record of a run.

  Returns:
    A Markdown table.
  """
  sentences = dict(findings.achieved(report))
  return table(
    ('Stage', 'Time', 'Tokens', 'Result'),
    [
      (
        stage['name'],
        findings.duration(stage['seconds']),
        findings.count(stage['tokens']),
        sentences[stage['name']],
      )
      for stage in report['stages']
    ],
    numbers=(1, 2),
  )


def accuracy(lines: Sequence[findings.Accuracy]) -> str:
  """The table of checkpoints.

  Args:
    lines: as `findings.accuracies` gives them.

  Returns:
    A Markdown table.
  """
  return table(
    ('Checkpoint', 'Problems', 'Sampled', 'Greedy', 'Thinks', 'Tokens'),
    [
      (
        line.name,
        findings.count(line.n),
        f'{100 * line.sampled:.1f} '
        f'({findings.interval(line.sampled_interval)})',
        f'{100 * line.greedy:.1f} ({findings.interval(line.greedy_interval)})',
        '–' if line.think_share is None else f'{100 * line.think_share:.0f}%',
        '–' if line.mean_tokens is None else f'{line.mean_tokens:.1f}',
      )
      for line in lines
    ],
    numbers=(1, 2, 3, 4, 5),
  )


def table(
  header: Sequence[str],
  rows: Iterable[Sequence[object]],
  numbers: Sequence[int] = (),
) -> str:
  """A table whose columns also line up where Markdown is read as text.

  Args:
    header: names of the columns.
    rows: cells.
    numbers: columns aligned right.

  Returns:
    Markdown.
  """
  cells = [[_cell(value) for value in row] for row in (header, *rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    '| '
    + ' | '.join(
      value.rjust(width) if column in numbers else value.ljust(width)
      for column, (value, width) in enumerate(zip(row, widths, strict=True))
    )
    + ' |'
    for row in cells
  ]
  rule = ' | '.join(
    '-' * (width - 1) + (':' if column in numbers else '-')
    for column, width in enumerate(widths)
  )
  return '\n'.join([lines[0], f'| {rule} |', *lines[1:]])


def _funnel(report: Mapping[str, Any]) -> list[str]:
  steps = findings.funnel_steps(report)
  if not steps:
    return []
  return [
    '## Cleaning',
    table(
      findings.FUNNEL_COLUMNS,
      findings.funnel_rows(steps),
      numbers=(1, 2, 3, 4, 5),
    ),
  ]


def _held_out(report: Mapping[str, Any]) -> list[str]:
  held_out = report['held_out']
  if not held_out:
    return []
  rows = [
    *(held_out.get('models') or {}).items(),
    *(held_out.get('compressors') or {}).items(),
  ]
  return [
    '## Held-out text',
    f'{findings.count(held_out["documents"])} documents, '
    f'{findings.count(held_out["bytes"])} bytes.',
    table(
      ('Model or compressor', 'Bits per byte'),
      [(name, f'{value:.3f}') for name, value in rows],
      numbers=(1,),
    ),
  ]


def _provenance(report: Mapping[str, Any]) -> list[str]:
  if not report['provenance']:
    return []
  return [
    '## Provenance',
    table(
      ('Stage', 'Commit', 'Uncommitted changes', 'Started', 'Resumed'),
      [
        (
          name,
          str(run.get('git_sha', 'unknown'))[:12],
          {True: 'yes', False: 'no'}.get(run.get('git_dirty'), 'unknown'),
          run.get('start', '–'),
          len(run.get('resumed') or []),
        )
        for name, run in report['provenance'].items()
      ],
    ),
  ]


def _cell(value: object) -> str:
  """Text that can break neither the table nor, shown as HTML, the page."""
  shown = visible_text.visible(str(value)).replace('\n', ' ')
  for char, escaped in (('&', '&amp;'), ('<', '&lt;'), ('|', '\\|')):
    shown = shown.replace(char, escaped)
  return shown
