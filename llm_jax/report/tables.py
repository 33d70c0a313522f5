"""The tables of the report, which the page and the Markdown share.

Pure functions of the record that `artifacts.collect` makes.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from llm_jax import visible_text
from llm_jax.report import findings

# Text, or text with a range that is set lighter.
Cell = str | tuple[str, str]

_ASKED = {
  'free': 'Accuracy on held-out problems',
  'direct': 'Accuracy without thinking tokens',
}
_COUNTED = {
  'replaced': 'What was replaced in documents that were kept',
  'others': 'Records of the crawl that hold no document',
}


@dataclasses.dataclass(frozen=True)
class Table:
  """Cells under a header; the first column names the rows."""

  caption: str
  header: Sequence[str]
  rows: Sequence[Sequence[Cell]]
  left: Collection[int] = (0,)  # columns of words; others are aligned right
  strong: Collection[int] = ()  # rows set in bold
  shares: Sequence[float] = ()  # of each row in 0..1, drawn behind column 1


def _table(
  caption: str,
  rows: Iterable[Any],
  columns: Mapping[str, Callable[[Any], Cell]],
  **more: Any,
) -> Table:
  """A table of what each column says of a row."""
  cells = [[cell(row) for cell in columns.values()] for row in rows]
  return Table(caption, tuple(columns), rows=cells, **more)


def stages(report: Mapping[str, Any]) -> Table:
  """What each stage took and achieved, in the order of the path."""
  seconds = [stage['seconds'] or 0 for stage in report['stages']]
  longest = max(seconds, default=0) or 1
  sentences = findings.achieved(report)
  return _table(
    'What each stage took and achieved',
    report['stages'],
    {
      'Stage': lambda stage: stage['name'],
      'Time': lambda stage: findings.duration(stage['seconds']),
      'Tokens': lambda stage: findings.count(stage['tokens']),
      'Result': lambda stage: sentences[stage['name']],
    },
    left=(0, 3),
    shares=[value / longest for value in seconds],
  )


def _limited(estimate: findings.Estimate | None) -> Cell:
  if estimate is None:
    return '–'
  shown = f'{100 * estimate.share:.1f}'
  if estimate.limits is None:
    return shown
  low, high = estimate.limits
  return shown, f'({100 * low:.1f}–{100 * high:.1f})'


def _means(lines: Sequence[findings.Accuracy]) -> list[int]:
  return [index for index, line in enumerate(lines) if line.n_seeds > 1]


def accuracy(report: Mapping[str, Any], mode: str) -> Table:
  """Checkpoints with the shares of right answers, as `accuracies` gives them.

  Args:
    report: the record of a run.
    mode: 'free' or 'direct'.

  Returns:
    The table.
  """
  lines = findings.accuracies(report, mode)

  def shown(value, form):
    return '–' if value is None else format(value, form)

  return _table(
    f'{_ASKED[mode]}, in percent with 95% intervals',
    lines,
    {
      'Checkpoint': lambda line: line.name,
      'Problems': lambda line: findings.count(line.n),
      'Sampled': lambda line: _limited(line.sampled),
      'Greedy': lambda line: _limited(line.greedy),
      'Thinks': lambda line: shown(line.think_share, '.0%'),
      'Calls': lambda line: shown(line.call_share, '.0%'),
      'Tokens': lambda line: shown(line.mean_tokens, '.1f'),
    },
    strong=_means(lines),
  )


def kinds(report: Mapping[str, Any], task: str = '') -> Table:
  """Greedy accuracy on each kind of problem; no rows without kinds.

  Args:
    report: the record of a run.
    task: name of the task; '': the first that was evaluated.

  Returns:
    The table, with a column a recipe: the mean over seeds where there are some.
  """
  lines = findings.one_a_recipe(findings.accuracies(report, 'free', task))
  names = dict.fromkeys(kind for line in lines for kind in line.kinds)
  return Table(
    'Greedy answers that are right, in percent with 95% intervals',
    ('Asked', *(line.name for line in lines)),
    rows=[
      (name, *(_limited(line.kinds.get(name)) for line in lines))
      for name in names
    ],
  )


def choices(report: Mapping[str, Any]) -> Table:
  """Multiple choice by likelihood; see evals/choices.py."""

  def by(name):
    def cell(row):
      limits = row['interval'].get(name)
      return _limited(findings.Estimate(row['accuracy'][name], limits))

    return cell

  rows = report['choices']
  names = dict.fromkeys(name for row in rows for name in row['accuracy'])
  return _table(
    'Likeliest choices that are right, in percent with 95% intervals',
    rows,
    {
      'Checkpoint': lambda row: row['checkpoint'],
      'Problems': lambda row: findings.count(row['n']),
      'Chance': lambda row: f'{100 * row["chance"]:.1f}',
      **{f'By {name.replace("_", " ")}': by(name) for name in names},
    },
  )


def probes(report: Mapping[str, Any]) -> Table:
  """How well refusals meet what is not known, by every way to refuse."""
  rows = [
    (f'{folder}: {way}', judged)
    for folder, found in report['probes'].items()
    for way, judged in found['held_out'].items()
  ]

  def share(name):
    def cell(row):
      found = row[1][name]
      return _limited(found and findings.Estimate(found[0], found[1:]))

    return cell

  return _table(
    'Refusals of held-out questions, in percent with 95% intervals',
    rows,
    {
      'Probe': lambda row: row[0],
      'Unknown': lambda row: findings.count(row[1]['n_unknown']),
      'Known': lambda row: findings.count(row[1]['n_known']),
      'Refused are unknown': share('precision'),
      'Unknown are refused': share('recall'),
      'Known are refused': share('known_refused'),
      'Known are right': share('known_right'),
    },
  )


def pass_at_k(report: Mapping[str, Any]) -> Table:
  """Chance that at least one of k answers is right; no rows without it."""
  lines = findings.accuracies(report, 'free')
  ks = sorted({k for line in lines for k in line.pass_at_k})
  return Table(
    'pass@k in percent with 95% intervals',
    ('Checkpoint', *(f'k = {k}' for k in ks)),
    rows=[
      (line.name, *(_limited(line.pass_at_k.get(k)) for k in ks))
      for line in lines
      if ks
    ],
    strong=_means(lines),
  )


def funnel(steps: Sequence[Mapping[str, Any]]) -> Table:
  """Documents and text through the steps of cleaning.

  Tokens are an estimate, and a dash before there is text.

  Args:
    steps: as `findings.funnel_steps` gives them.
  """
  count = findings.count
  return _table(
    'Documents and text through the cleaning steps',
    steps,
    {
      'Step': lambda step: step['name'],
      'In': lambda step: count(step['documents_in']),
      'Removed': lambda x: count(x['documents_in'] - x['documents_kept']),
      'Kept': lambda step: count(step['documents_kept']),
      'MB kept': lambda step: f'{step["bytes_kept"] / 1e6:.2f}',
      'Tokens kept': lambda step: count(step['tokens_kept']),
    },
  )


def counted(steps: Sequence[Mapping[str, Any]]) -> list[Table]:
  """What the steps of cleaning count beside documents."""
  return [
    Table(
      caption,
      ('Kind', 'Times'),
      [
        (f'{step["name"]}: {kind.replace("_", " ")}', findings.count(times))
        for step in steps
        for kind, times in step[key].items()
      ],
    )
    for key, caption in _COUNTED.items()
  ]


def tokenizer(found: Mapping[str, Any]) -> list[Table]:
  """Bytes in a token of each vocabulary, and what else was written of it."""
  rows = [
    (name, '–' if value is None else f'{value:.3f}')
    for name, value in (found.get('bytes_per_token') or {}).items()
  ]
  caption = 'Bytes of held-out text in a token'
  properties = list(findings.plain_values(found, 25, '.3f').items())
  return [
    Table(caption, ('Vocabulary', 'Bytes per token'), rows),
    Table('The vocabulary', ('Property', 'Value'), properties),
  ]


def bits_per_byte(report: Mapping[str, Any]) -> Table:
  """Of the models and then the compressors, on the same held-out text."""
  held_out = report['held_out'] or {}
  found = (held_out.get('models') or {}) | (held_out.get('compressors') or {})
  return Table(
    'Bits per byte on held-out documents',
    ('Model or compressor', 'Bits per byte'),
    rows=[(name, f'{value:.3f}') for name, value in found.items()],
  )


def provenance(report: Mapping[str, Any]) -> Table:
  """Which code, seeds and configuration made each stage."""
  changes = {True: ' + changes', False: '', None: ' (changes unknown)'}

  def commit(run):
    sha = (run.get('git_sha') or 'unknown')[:12]
    return sha + changes[run.get('git_dirty')]

  def seeds(run):
    return ', '.join(f'{k} {v}' for k, v in (run.get('seeds') or {}).items())

  return _table(
    'Which code and which seeds made each stage',
    [run | {'name': name} for name, run in report['provenance'].items()],
    {
      'Stage': lambda run: run['name'],
      'Commit': commit,
      'Started': lambda run: run.get('start') or '–',
      'Resumed': lambda run: str(len(run.get('resumed') or [])),
      'Seeds': lambda run: seeds(run) or '–',
      'Configuration': lambda run: (run['config_fingerprint'] or '–')[:12],
    },
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
  cells = [[_cell(value) for value in row] for row in table.rows]
  cells.insert(0, [_cell(name) for name in table.header])
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  ends = ['-' if i in table.left else ':' for i in range(len(widths))]
  rule = ['-' * (w - 1) + end for w, end in zip(widths, ends, strict=True)]
  cells.insert(1, rule)
  lines = [
    ' | '.join(
      value.ljust(width) if column in table.left else value.rjust(width)
      for column, (value, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in cells
  ]
  return '\n'.join(f'| {line} |' for line in lines)


def _cell(value: Cell) -> str:
  """Text that can break neither the table nor, shown as HTML, the page."""
  text = value if isinstance(value, str) else ' '.join(value)
  shown = visible_text.visible(text).replace('\n', ' ')
  for char, escaped in (('&', '&amp;'), ('<', '&lt;'), ('|', '\\|')):
    shown = shown.replace(char, escaped)
  return shown
