"""Puts what a speedrun measured into docs/results.md and README.md.

  python -m tools.publish_results --run_dir runs/speedrun

The report of the run goes between the two marks of docs/results.md; of README's
table each row is filled from the report's first table that has its columns and
rows. Prose is not touched: read it again.
"""

import pathlib
import re
from collections.abc import Sequence

from absl import app, flags

_RUN = flags.DEFINE_string('run_dir', 'runs/speedrun', 'with its report')
_ROOT = pathlib.Path(__file__).resolve().parent.parent
_TABLE = re.compile(r'(?:^\|.*\|\n)+', re.MULTILINE)


def with_report(page: str, report: str) -> str:
  """The page with the report between its marks, one level of headings down."""
  body = re.sub(r'\A# .*\n+', '', report)
  body = re.sub(r'^#', '##', body, flags=re.MULTILINE).strip()
  found = re.compile(r'(<!-- results -->\n).*(<!-- /results -->)', re.DOTALL)
  if not found.search(page):
    raise ValueError('docs/results.md has no marks <!-- results --> any more')
  return found.sub(lambda marks: f'{marks[1]}\n{body}\n\n{marks[2]}', page)


def with_rows(readme: str, report: str) -> str:
  """README with the cells of its first table taken from the report.

  Raises:
    ValueError: if no table of the report has all its rows and columns.
  """
  own = _TABLE.search(readme)
  if own is None:
    raise ValueError('README.md has no table')
  columns, rows = _cells(own[0])
  for match in _TABLE.finditer(report):
    names, values = _cells(match[0])
    if set(columns) <= set(names) and set(rows) <= set(values):
      wanted = [names.index(column) for column in columns]
      lines = [columns] + [[values[row][i] for i in wanted] for row in rows]
      return readme.replace(own[0], _table(lines), 1)
  raise ValueError(
    f'no table of the report has the columns {columns} and the rows '
    f'{[*rows]}; change the table of README.md'
  )


def _cells(table: str) -> tuple[list[str], dict[str, list[str]]]:
  """The column names of a table, and its rows by their first cells."""
  lines = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in table.splitlines()
  ]
  return lines[0], {line[0]: line for line in lines[2:]}


def _table(lines: Sequence[Sequence[str]]) -> str:
  """Markdown with columns of even width, numbers to the right."""
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
  text = ''
  for first, *rest in [lines[0], rule, *lines[1:]]:
    numbers = map(str.rjust, rest, widths[1:])
    text += f'| {" | ".join([first.ljust(widths[0]), *numbers])} |\n'
  return text


def main(_) -> None:
  """Rewrites both pages."""
  report = pathlib.Path(_RUN.value, 'report', 'report.md').read_text('utf-8')
  for name, change in (
    ('docs/results.md', with_report),
    ('README.md', with_rows),
  ):
    page = _ROOT / name
    page.write_text(change(page.read_text('utf-8'), report), 'utf-8')


if __name__ == '__main__':
  app.run(main)
