"""The tables of the report, which the page and the Markdown share.

Pure functions of the record that `artifacts.collect` makes.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from llm_jax import visible_text
from llm_jax.report import findings

# Text, or text with a range that is set lighter.
Cell = str | tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Table:
  """Cells under a header; the first column names the rows."""

  caption: str
  header: Sequence[str]
  rows: Sequence[Sequence[Cell]]
  left: Collection[int] = (0,)  # columns of words; others are aligned right
  strong: Collection[int] = ()  # rows set in bold
  shares: Sequence[float] = ()  # of each row in 0..1, drawn behind column 1


def of_sections(report: Mapping[str, Any]) -> dict[str, Any]:
  """The tables of each section."""
  free = findings.accuracies(report, 'free')
  direct = findings.accuracies(report, 'direct')
  steps = findings.funnel_steps(report)
  return {
    'stages': stages(report),
    'free': accuracy(free, 'Accuracy on held-out problems'),
    'direct': accuracy(direct, 'Accuracy without thinking tokens'),
    'pass_at_k': pass_at_k(free),
    'funnel': funnel(steps),
    'counted': [
      counted(
        steps, 'replaced', 'What was replaced in documents that were kept'
      ),
      counted(steps, 'others', 'Records of the crawl that hold no document'),
    ],
    'tokenizer': tokenizer(report),
    'bits_per_byte': bits_per_byte(report),
    'provenance': provenance(report),
  }


def stages(report: Mapping[str, Any]) -> Table:
  """What each stage took and achieved, in the order of the path."""
  seconds = [stage['seconds'] or 0 for stage in report['stages']]
  sentences = findings.achieved(report)
  return Table(
    'What each stage took and achieved',
    ('Stage', 'Time', 'Tokens', 'Result'),
    [
      (
        stage['name'],
        findings.duration(stage['seconds']),
        findings.count(stage['tokens']),
        sentence,
      )
      for stage, (_, sentence) in zip(report['stages'], sentences, strict=True)
    ],
    left=(0, 3),
    shares=[value / (max(seconds) or 1) for value in seconds],
  )


def accuracy(lines: Sequence[findings.Accuracy], caption: str) -> Table:
  """Checkpoints with the shares of right answers, as `accuracies` gives them.

  Args:
    lines: at least one.
    caption: what was asked.
  """

  def limited(share, limits):
    return f'{100 * share:.1f}', f'({findings.interval(limits)})'

  return Table(
    f'{caption}, in percent with 95% intervals',
    ('Checkpoint', 'Problems', 'Sampled', 'Greedy', 'Thinks', 'Tokens'),
    [
      (
        line.name,
        findings.count(line.n),
        limited(line.sampled, line.sampled_interval),
        limited(line.greedy, line.greedy_interval),
        '–' if line.think_share is None else f'{100 * line.think_share:.0f}%',
        '–' if line.mean_tokens is None else f'{line.mean_tokens:.1f}',
      )
      for line in lines
    ],
    strong=[index for index, line in enumerate(lines) if line.n_seeds > 1],
  )


def pass_at_k(lines: Sequence[findings.Accuracy]) -> Table:
  """Chance that at least one of k answers is right; no rows without it."""
  ks = sorted({k for line in lines for k in line.pass_at_k})

  def cell(line, k):
    value, limits = line.pass_at_k.get(k, (None, None))
    if value is None:
      return '–'
    shown = f'{100 * value:.1f}'
    return (shown, f'({findings.interval(limits)})') if limits else shown

  return Table(
    'pass@k in percent with 95% intervals',
    ('Checkpoint', *(f'k = {k}' for k in ks)),
    [(line.name, *(cell(line, k) for k in ks)) for line in lines if ks],
    strong=[index for index, line in enumerate(lines) if line.n_seeds > 1],
  )


def funnel(steps: Sequence[Mapping[str, Any]]) -> Table:
  """Documents and text through the steps that `funnel_steps` gives.

  Tokens are an estimate, and a dash before there is text.
  """
  return Table(
    'Documents and text through the cleaning steps',
    ('Step', 'In', 'Removed', 'Kept', 'MB kept', 'Tokens kept'),
    [
      (
        step['name'],
        findings.count(step['documents_in']),
        findings.count(step['documents_in'] - step['documents_kept']),
        findings.count(step['documents_kept']),
        f'{step["bytes_kept"] / 1e6:.2f}',
        findings.count(step['tokens_kept']),
      )
      for step in steps
    ],
  )


def counted(
  steps: Sequence[Mapping[str, Any]], key: str, caption: str
) -> Table:
  """What the steps count beside documents: 'replaced' or 'others'."""
  return Table(
    caption,
    ('Kind', 'Times'),
    [
      (f'{step["name"]}: {kind.replace("_", " ")}', findings.count(times))
      for step in steps
      for kind, times in step[key].items()
    ],
  )


def tokenizer(report: Mapping[str, Any]) -> list[Table]:
  """Bytes in a token of each vocabulary, and what else was written of it."""
  found = report['tokenizer'] or {}

  def shown(value):
    if isinstance(value, str):
      return findings.cut(value, 25, '…')
    return findings.count(value) if isinstance(value, int) else f'{value:.3f}'

  return [
    Table(
      'Bytes of held-out text in a token',
      ('Vocabulary', 'Bytes per token'),
      [
        (name, '–' if value is None else f'{value:.3f}')
        for name, value in (found.get('bytes_per_token') or {}).items()
      ],
    ),
    Table(
      'The vocabulary',
      ('Property', 'Value'),
      [
        (key.replace('_', ' '), shown(value))
        for key, value in found.items()
        if isinstance(value, str | int | float)
      ],
    ),
  ]


def bits_per_byte(report: Mapping[str, Any]) -> Table:
  """Of the models and then the compressors, on the same held-out text."""
  held_out = report['held_out'] or {}
  found = (held_out.get('models') or {}) | (held_out.get('compressors') or {})
  return Table(
    'Bits per byte on held-out documents',
    ('Model or compressor', 'Bits per byte'),
    [(name, f'{value:.3f}') for name, value in found.items()],
  )


def provenance(report: Mapping[str, Any]) -> Table:
  """Which code, seeds and configuration made each stage."""
  changes = {True: ' + changes', False: '', None: ' (changes unknown)'}
  return Table(
    'Which code and which seeds made each stage',
    ('Stage', 'Commit', 'Started', 'Resumed', 'Seeds', 'Configuration'),
    [
      (
        name,
        (run.get('git_sha') or 'unknown')[:12] + changes[run.get('git_dirty')],
        run.get('start') or '–',
        str(len(run.get('resumed') or [])),
        ', '.join(f'{k} {v}' for k, v in (run.get('seeds') or {}).items())
        or '–',
        (run['config_fingerprint'] or '–')[:12],
      )
      for name, run in report['provenance'].items()
    ],
    left=(0, 1, 2, 4, 5),
  )


def markdown(table: Table | str | int) -> str:
  """A table whose columns also line up where Markdown is read as text.

  Args:
    table: or a text, which becomes what a cell of it would hold.

  Returns:
    Markdown.
  """
  if not isinstance(table, Table):
    return _cell(str(table))
  cells = [
    [_cell(value) for value in row] for row in (table.header, *table.rows)
  ]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    '| '
    + ' | '.join(
      value.ljust(width) if column in table.left else value.rjust(width)
      for column, (value, width) in enumerate(zip(row, widths, strict=True))
    )
    + ' |'
    for row in cells
  ]
  rule = ' | '.join(
    '-' * (width - 1) + ('-' if column in table.left else ':')
    for column, width in enumerate(widths)
  )
  return '\n'.join([lines[0], f'| {rule} |', *lines[1:]])


def _cell(value: Cell) -> str:
  """Text that can break neither the table nor, shown as HTML, the page."""
  text = value if isinstance(value, str) else ' '.join(value)
  shown = visible_text.visible(text).replace('\n', ' ')
  for char, escaped in (('&', '&amp;'), ('<', '&lt;'), ('|', '\\|')):
    shown = shown.replace(char, escaped)
  return shown
