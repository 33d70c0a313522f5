"""Render the record of a run as one HTML file that needs nothing else.

A pure function of the record: no script, no network, no time of day. What the
record lacks is said to be missing in its place.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_jax.report import findings, results, style
from llm_jax.report import html_parts as parts

_MAX_REMOVED_SAMPLES = 3


def render(report: Mapping[str, Any]) -> str:
  """Make the page.

  Args:
    report: the record that `artifacts.collect` makes.

  Returns:
    An HTML document.
  """
  sections = [
    ('path', 'The path', _path),
    ('funnel', 'Cleaning', _funnel),
    ('tokenizer', 'Tokenizer', _tokenizer),
    ('training', 'Training', _training),
    ('samples', 'Samples over time', _samples),
    ('accuracy', 'Accuracy', results.accuracy),
    ('direct', 'Without thinking', results.direct),
    ('pass', 'Many attempts', results.pass_at_k),
    ('rl', 'What RL changed', results.reinforcement),
    ('rollouts', 'Rollouts', results.rollouts),
    ('bytes', 'Held-out text', results.held_out),
    ('answers', 'Answers', results.answers),
    ('provenance', 'Provenance', _provenance),
  ]
  links = ''.join(
    f'<li><a href="#{anchor}">{heading}</a></li>'
    for anchor, heading, _ in sections
  )
  body = ''.join(
    parts.section(anchor, heading, *make(report))
    for anchor, heading, make in sections
  )
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta http-equiv="Content-Security-Policy" content="default-src '
    "'none'; style-src 'unsafe-inline'\">"
    '<title>Report of a run</title>'
    f'<style>{style.CSS}</style></head><body>'
    '<a class="skip" href="#path">Skip to the report</a>'
    f'<header>{_header(report)}<nav aria-label="Sections"><ul>{links}</ul>'
    f'</nav></header><main>{body}</main><footer>{_footer(report)}</footer>'
    '</body></html>\n'
  )


def _header(report: Mapping[str, Any]) -> str:
  tiles = ''.join(
    f'<div><dt>{parts.text(what)}</dt><dd class="value">{parts.text(value)}'
    f'</dd><dd>{parts.text(explanation)}</dd></div>'
    for what, value, explanation in findings.headline(report)
  )
  seconds = [stage['seconds'] for stage in report['stages']]
  known = [value for value in seconds if value is not None]
  total = findings.duration(sum(known)) if known else 'unknown time'
  return (
    '<h1>From raw pages to a model that reasons</h1>'
    f'<p class="lead">{len(seconds)} stages in {total}, each trained and '
    'measured on this machine. Every number below comes from the files that '
    'the stages left.</p>'
    + (f'<dl class="tiles">{tiles}</dl>' if tiles else '')
  )


def _footer(report: Mapping[str, Any]) -> str:
  if not report['missing']:
    return '<p>No artifact of the run is missing.</p>'
  items = ''.join(f'<li>{parts.text(line)}</li>' for line in report['missing'])
  return f'<h2>Missing from this run</h2><ul>{items}</ul>'


def _path(report: Mapping[str, Any]) -> tuple[str, str]:
  if not report['stages']:
    return parts.missing('every stage'), ''
  sentences = dict(findings.achieved(report))
  longest = max((stage['seconds'] or 0) for stage in report['stages']) or 1
  return parts.table(
    'What each stage took and achieved',
    ('Stage', 'Time', '', 'Tokens', 'Result'),
    [
      (
        stage['name'],
        findings.duration(stage['seconds']),
        parts.Bar((stage['seconds'] or 0) / longest),
        findings.count(stage['tokens']),
        sentences[stage['name']],
      )
      for stage in report['stages']
    ],
    numbers=(1, 3),
  ), 'Working time of each stage, over all resumes.'


def _funnel(report: Mapping[str, Any]) -> tuple[str, str]:
  steps = findings.funnel_steps(report)
  if not steps:
    return parts.missing('the funnel, clean/funnel.json'), ''
  whole = steps[0]['documents_in'] or 1
  drawing = parts.bars(
    'Documents kept by each cleaning step; the table holds the numbers.',
    [
      (
        step['name'],
        step['documents_kept'] / whole,
        max(step['documents_in'] - step['documents_kept'], 0) / whole,
        findings.count(step['documents_kept']),
      )
      for step in steps
    ],
  )
  removed = [
    _removed(step['name'], reason, found)
    for step in steps
    for reason, found in step['removed'].items()
  ]
  heading = '<h3>What was removed, and why</h3>' if removed else ''
  return (
    drawing
    + parts.table(
      'Documents and text through the cleaning steps',
      findings.FUNNEL_COLUMNS,
      findings.funnel_rows(steps),
      numbers=(1, 2, 3, 4, 5),
    )
    + heading
    + ''.join(removed)
    + _counted(
      'What was replaced in documents that were kept', 'replaced', steps
    )
    + _counted('Records of the crawl that hold no document', 'others', steps)
  ), 'The full bar is every document that came in; hatched is what a step took.'


def _counted(caption: str, key: str, steps: Sequence[Mapping[str, Any]]) -> str:
  rows = [
    (f'{step["name"]}: {kind.replace("_", " ")}', findings.count(number))
    for step in steps
    for kind, number in step[key].items()
  ]
  return parts.table(caption, ('Kind', 'Times'), rows, (1,)) if rows else ''


def _removed(step: str, reason: str, found: Mapping[str, Any]) -> str:
  samples = [s for s in found.get('samples') or [] if any(s.values())]
  body = ''.join(
    f'<p class="note">{parts.text(sample.get("url", ""))}</p>'
    f'<pre>{parts.text(parts.cut(str(sample.get("text", ""))))}</pre>'
    for sample in samples[:_MAX_REMOVED_SAMPLES]
  )
  documents = found.get('documents') or 0
  return parts.folded(
    f'{step}: {reason.replace("_", " ")} — {findings.count(documents)} '
    f'document{"s" * (documents != 1)}, '
    f'{(found.get("bytes") or 0) / 1e3:,.1f} kB',
    body or '<p class="note">No sample was kept.</p>',
  )


def _tokenizer(report: Mapping[str, Any]) -> tuple[str, str]:
  found = report['tokenizer']
  if not found:
    return parts.missing('the tokenizer report, tokenizer/report.json'), ''
  compared = found.get('bytes_per_token') or {}
  plain = [
    (key.replace('_', ' '), _value(value))
    for key, value in found.items()
    if isinstance(value, str | int | float)
  ]
  return parts.table(
    'Bytes of held-out text in a token',
    ('Vocabulary', 'Bytes per token'),
    [(name, _value(value)) for name, value in compared.items()],
    numbers=(1,),
  ) + parts.table(
    'The vocabulary', ('Property', 'Value'), plain, numbers=(1,)
  ), 'More bytes in a token mean fewer steps for the same text.'


def _training(report: Mapping[str, Any]) -> tuple[str, str]:
  if not report['training']:
    return parts.missing('metrics of pretrain, sft and rl'), ''
  charts = []
  for folder, found in report['training'].items():
    metrics = found['series']
    if found['stage'] == 'rl':
      continue  # its loss is not comparable over steps; see "What RL changed"
    mixed = (
      'Training rows mix pages and task text; held-out rows are pages only.'
      if metrics.get('valid_loss')
      else ''
    )
    charts.append(
      parts.chart(
        f'Loss of {folder}',
        [
          parts.series_line('training', metrics.get('loss'), 0),
          parts.series_line(
            'held out', metrics.get('valid_loss'), 1, strong=True
          ),
        ],
        'step',
        'nats per token',
        mixed,
      )
    )
    charts.append(
      parts.chart(
        f'Bits per byte of {folder}',
        [
          parts.series_line('training', metrics.get('bits_per_byte'), 0),
          parts.series_line(
            'held out', metrics.get('valid_bits_per_byte'), 1, strong=True
          ),
        ],
        'step',
        'bits per byte',
        mixed,
        reference=_compressors(report) if folder == 'pretrain' else (),
      )
    )
  drawn = ''.join(charts)
  if not drawn:
    return parts.missing('loss in metrics.jsonl'), ''
  return f'<div class="charts">{drawn}</div>', (
    'Long curves are drawn as means of equal bins; metrics.jsonl of each '
    'stage holds every step.'
  )


def _compressors(report: Mapping[str, Any]) -> list[tuple[str, float]]:
  held_out = report['held_out'] or {}
  return list((held_out.get('compressors') or {}).items())


def _samples(report: Mapping[str, Any]) -> tuple[str, str]:
  if not report['samples']:
    return parts.missing('samples.jsonl of pretrain, sft and rl'), ''
  blocks = []
  for folder, rows in report['samples'].items():
    body = parts.timeline(
      (
        f'step {findings.count(row["step"])}'
        + (f', {row["mode"]}' if row['mode'] else ''),
        row['prompt'],
        parts.cut(row['text']),
      )
      for row in rows
    )
    blocks.append(
      parts.folded(f'{folder}: {len(rows)} samples', body, opened=not blocks)
    )
  return ''.join(blocks), (
    'The same prompts, continued at steps from first to last. The prompt is '
    'set lighter than what the model wrote.'
  )


def _provenance(report: Mapping[str, Any]) -> tuple[str, str]:
  if not report['provenance']:
    return parts.missing('run.json of every stage'), ''
  rows = [
    (
      name,
      str(run.get('git_sha', 'unknown'))[:12]
      + {True: ' + changes', False: ''}.get(
        run.get('git_dirty'), ' (changes unknown)'
      ),
      run.get('start', '–'),
      str(len(run.get('resumed') or [])),
      ', '.join(f'{k} {v}' for k, v in (run.get('seeds') or {}).items()) or '–',
      str(run.get('config_fingerprint', '–'))[:12],
    )
    for name, run in report['provenance'].items()
  ]
  table = parts.table(
    'Which code and which seeds made each stage',
    ('Stage', 'Commit', 'Started', 'Resumed', 'Seeds', 'Configuration'),
    rows,
    numbers=(3,),
  )
  folded = ''.join(
    parts.folded(
      f'{name}: versions, hardware, inputs',
      f'<pre>{parts.text(json.dumps(run, indent=1, ensure_ascii=False))}</pre>',
    )
    for name, run in report['provenance'].items()
  )
  return table + folded, ''


def _value(value: str | float | None) -> str:
  if value is None:
    return '–'
  if isinstance(value, str):
    return value if len(value) <= 60 else value[:24] + '…'
  return findings.count(value) if isinstance(value, int) else f'{value:.3f}'
