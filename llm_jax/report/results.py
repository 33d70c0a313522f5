"""The sections of report.html that say how good the models are.

Pure functions of the record, like the page that holds them (report_html.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_jax.report import findings, html_parts, svg

_MAX_ANSWERS = 4


def accuracy(report: Mapping[str, Any]) -> tuple[str, str]:
  """Accuracy of each checkpoint, thinking as it likes.

  Args:
    report: the record of a run.

  Returns:
    HTML of the section and the sentence that leads it.
  """
  lines = findings.accuracies(report, 'free')
  if not lines:
    return html_parts.missing('the evaluation, evaluate/evaluation.json'), ''
  return _forest_and_table(lines, 'Accuracy on held-out problems'), (
    'The same held-out problems for every checkpoint. The interval of a '
    'checkpoint is over problems, that of a mean over seeds.'
  )


def direct(report: Mapping[str, Any]) -> tuple[str, str]:
  """Accuracy of the same checkpoints when thinking is forbidden.

  Args:
    report: the record of a run.

  Returns:
    HTML of the section and the sentence that leads it.
  """
  lines = findings.accuracies(report, 'direct')
  if not lines:
    return html_parts.missing('direct answers in evaluate/evaluation.json'), ''
  return _forest_and_table(lines, 'Accuracy without thinking tokens'), (
    'The same checkpoints and problems, but the answer must come at once. '
    'What is lost here is what the thinking tokens are worth.'
  )


def _forest_and_table(lines: Sequence[findings.Accuracy], caption: str) -> str:
  drawing = html_parts.forest(
    f'{caption} by checkpoint; the table holds the numbers.',
    [
      (
        line.name,
        line.n_seeds > 1,
        (line.sampled, line.sampled_interval),
        (line.greedy, line.greedy_interval),
      )
      for line in lines
    ],
  )
  strong = [index for index, line in enumerate(lines) if line.n_seeds > 1]
  table = html_parts.table(
    f'{caption}, in percent with 95% intervals',
    ('Checkpoint', 'Problems', 'Sampled', 'Greedy', 'Thinks', 'Tokens'),
    [
      (
        line.name,
        findings.count(line.n),
        (
          f'{100 * line.sampled:.1f}',
          findings.interval(line.sampled_interval),
        ),
        (f'{100 * line.greedy:.1f}', findings.interval(line.greedy_interval)),
        '–' if line.think_share is None else f'{100 * line.think_share:.0f}%',
        '–' if line.mean_tokens is None else f'{line.mean_tokens:.1f}',
      )
      for line in lines
    ],
    numbers=(1, 2, 3, 4, 5),
    strong=strong,
  )
  return drawing + table


def pass_at_k(report: Mapping[str, Any]) -> tuple[str, str]:
  """Chance that at least one of k answers is right.

  Args:
    report: the record of a run.

  Returns:
    HTML of the section and the sentence that leads it.
  """
  lines = findings.accuracies(report, 'free')
  table = findings.pass_at_k(report)
  if not table:
    return html_parts.missing('pass@k in evaluate/evaluation.json'), ''
  chart = html_parts.chart(
    'pass@k',
    [
      svg.Line(
        line.name,
        [(k, 100 * value) for k, (value, _) in line.pass_at_k.items()],
        index % 6,
        strong=line.n_seeds > 1,
      )
      for index, line in enumerate(lines)
    ],
    'attempts k',
    'percent of problems solved by at least one of k attempts',
    y_range=(0.0, 104.0),
  )
  return f'<div class="charts">{chart}</div>' + html_parts.table(
    'pass@k in percent with 95% intervals',
    table[0],
    table[1:],
    numbers=range(1, len(table[0])),
  ), (
    'Whether at least one of k sampled answers is right. A gain at k = 1 that '
    'is gone at large k is sharpening of what the model could do before.'
  )


def reinforcement(report: Mapping[str, Any]) -> tuple[str, str]:
  """Accuracy, thinking, length and entropy over the steps of RL.

  Args:
    report: the record of a run.

  Returns:
    HTML of the section and the sentence that leads it.
  """
  runs = {
    folder: found['series']
    for folder, found in report['training'].items()
    if found['stage'] == 'rl'
  }
  if not runs:
    return html_parts.missing('metrics of rl'), ''
  charts = [
    html_parts.chart(
      heading,
      [
        html_parts.series_line(folder, metrics.get(key), index % 6, scale)
        for index, (folder, metrics) in enumerate(runs.items())
      ],
      'step',
      label,
      y_range=(0.0, 104.0) if scale == 100 else None,
    )
    for key, heading, label, scale in (
      ('accuracy', 'Accuracy of rollouts', 'percent', 100),
      ('eval_greedy', 'Greedy accuracy, held out', 'percent', 100),
      ('eval_sampled', 'Sampled accuracy, held out', 'percent', 100),
      ('think_share', 'Share of answers that think', 'percent', 100),
      ('reflection_share', 'Share of answers that look back', 'percent', 100),
      ('truncated_share', 'Share of answers cut off', 'percent', 100),
      ('mean_length', 'Length of answers', 'tokens', 1),
      ('entropy', 'Entropy of rollouts', 'nats per token', 1),
      ('dead_group_share', 'Groups without signal', 'percent', 100),
    )
  ]
  drawn = ''.join(charts)
  if not drawn:
    return html_parts.missing('accuracy and length in metrics.jsonl of rl'), ''
  return f'<div class="charts">{drawn}</div>', (
    'Answers sampled for training, step by step. A group whose answers are '
    'all right or all wrong teaches nothing.'
  )


def rollouts(report: Mapping[str, Any]) -> tuple[str, str]:
  """Answers that were sampled for training, step by step.

  Args:
    report: the record of a run.

  Returns:
    HTML of the section and the sentence that leads it.
  """
  if not report['rollouts']:
    return html_parts.missing('rollouts.jsonl of rl'), ''
  blocks = []
  for folder, steps in report['rollouts'].items():
    body = ''.join(
      html_parts.folded(
        f'step {findings.count(step["step"])}: {len(step["answers"])} of '
        f'{findings.count(step["of"])} answers, '
        f'{sum(a["correct"] for a in step["answers"])} of these right',
        '<div class="answers">'
        + ''.join(map(_rollout, step['answers']))
        + '</div>',
      )
      for step in steps
    )
    blocks.append(
      html_parts.folded(
        f'{folder}: {len(steps)} steps',
        html_parts.filtered(f'show-{folder}', body),
        opened=not blocks,
      )
    )
  return ''.join(blocks), (
    'A step opens on a click. The first answers of each step, in the order in '
    'which they were asked, with the verdict, the reward and the reason that '
    'the verifier gave. rollouts.jsonl holds more.'
  )


def _rollout(answer: Mapping[str, Any]) -> str:
  notes = [f'reward {answer["reward"]:g}', f'{answer["tokens"]} tokens']
  if not answer['finished']:
    notes.append('cut off')
  if not answer['trained']:
    notes.append('not trained on')
  return html_parts.verdict(
    answer['prompt'],
    answer['text'],
    answer['correct'],
    answer['reason'],
    ', '.join(notes),
  )


def held_out(report: Mapping[str, Any]) -> tuple[str, str]:
  """Bits per byte of models and compressors.

  Args:
    report: the record of a run.

  Returns:
    HTML of the section and the sentence that leads it.
  """
  held_out = report['held_out']
  if not held_out or not held_out.get('models'):
    return html_parts.missing(
      'held-out bits per byte, evaluate/evaluation.json'
    ), ''
  rows = [*held_out['models'].items(), *held_out['compressors'].items()]
  most = max(value for _, value in rows) or 1
  drawing = html_parts.bars(
    'Bits per byte of models and compressors; smaller is better.',
    [(name, value / most, 0, f'{value:.3f}') for name, value in rows],
  )
  return drawing + html_parts.table(
    'Bits per byte on held-out documents',
    ('Model or compressor', 'Bits per byte'),
    [(name, f'{value:.3f}') for name, value in rows],
    numbers=(1,),
  ), (
    f'{findings.count(held_out["documents"])} documents with '
    f'{findings.count(held_out["bytes"])} bytes that no stage trained on. '
    'Smaller is better. The compressors may copy from earlier documents, the '
    'models may not.'
  )


def answers(report: Mapping[str, Any]) -> tuple[str, str]:
  """A few right and wrong answers of each checkpoint.

  Args:
    report: the record of a run.

  Returns:
    HTML of the section and the sentence that leads it.
  """
  rows = [
    row
    for row in report['evaluation']
    if row.get('samples') and row.get('mode') == 'free'
  ]
  if not rows:
    return html_parts.missing('sample answers in evaluate/evaluation.json'), ''
  blocks = []
  for row in rows:
    right = [s for s in row['samples'] if s['correct']][:_MAX_ANSWERS]
    wrong = [s for s in row['samples'] if not s['correct']][:_MAX_ANSWERS]
    cards = ''.join(
      html_parts.verdict(
        str(answer['prompt']), str(answer['answer']), answer['correct'],
        answer['reason'],
      )
      for answer in (*right, *wrong)
    )  # fmt: skip
    blocks.append(
      html_parts.folded(
        f'{row["checkpoint"]}: {len(right)} right and {len(wrong)} wrong',
        f'<div class="answers">{cards}</div>',
        opened=row is rows[-1],
      )
    )
  return ''.join(blocks), (
    'Chosen to show both kinds, so their number says nothing about accuracy.'
  )
