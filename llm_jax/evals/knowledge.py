"""What a model knows, and whether it says so where it does not.

A question is known if enough of several sampled answers are right. Refusals
are judged by that: does the model refuse what it does not know, and nothing
else? Besides what a model says there are two signals that tell by themselves:
the log-probability of its greedy answer, and how many samples agree.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from llm_jax.agent import turns
from llm_jax.evals import scoring, statistics
from llm_jax.tasks import protocol
from llm_jax.verify import grading

SIGNALS = ('logp', 'agreement')
Row = dict[str, Any]  # of one question


def ask(
  model: turns.Model,
  task: protocol.Task,
  asked: Sequence[protocol.Problem],
  cfg: scoring.Scoring,
) -> list[Row]:
  """Ask each question greedily and cfg.n_samples times by sampling.

  Returns:
    For each: question, answer (the reference), kind, greedy (text), correct
    and refused (of it), logp (of it: mean, nats a token), n_right (of the
    samples), agreement (share of the samples that say what most of them say).
  """
  greedy, sampled = (
    scoring.answers(
      model, task, asked=asked, cfg=cfg, direct=False, n_samples=n
    )
    for n in (0, cfg.n_samples)
  )
  rows = []
  for problem, (first,), drawn in zip(asked, greedy, sampled, strict=True):
    said = collections.Counter(grading.final(a['answer']) for a in drawn)
    rows.append(
      {
        'question': problem.prompt,
        'answer': problem.reference.split('\n'),
        'kind': problem.kind,
        'greedy': first['answer'],
        **{name: first[name] for name in ('correct', 'refused', 'logp')},
        'n_right': sum(a['correct'] for a in drawn),
        'agreement': max(said.values()) / len(drawn),
      }
    )
  return rows


def refusals(rows: Sequence[Row], refused: Sequence[bool]) -> dict[str, Any]:
  """Judge refusals by what is known.

  Args:
    rows: as `ask` returns them, each with `known`.
    refused: whether each question is refused.

  Returns:
    n_known, n_unknown; precision (share of the refused that is unknown),
    recall (share of the unknown that is refused), known_refused (share of the
    known) and known_right (share of the known that is answered, and rightly),
    each with its 95% interval by Wilson; None where there is no such question.
  """
  both = [*zip(rows, refused, strict=True)]
  known = [no for row, no in both if row['known']]
  unknown = [no for row, no in both if not row['known']]
  n_right = sum(row['known'] and row['correct'] and not no for row, no in both)
  return {
    'n_known': len(known),
    'n_unknown': len(unknown),
    'precision': _share(sum(unknown), sum(known) + sum(unknown)),
    'recall': _share(sum(unknown), len(unknown)),
    'known_refused': _share(sum(known), len(known)),
    'known_right': _share(n_right, len(known)),
  }


def judge(
  chosen_on: Sequence[Row], rows: Sequence[Row]
) -> dict[str, dict[str, Any]]:
  """Every way to refuse, judged on questions that set no threshold.

  Args:
    chosen_on: questions on which thresholds are chosen: where recall less
      known_refused is largest (Youden's index).
    rows: other questions.

  Returns:
    What `refusals` returns, for `says so` and each of SIGNALS; these also with
    auroc and threshold: what lies below it is refused.
  """
  result = {'says so': refusals(rows, [row['refused'] for row in rows])}
  known = np.array([row['known'] for row in chosen_on], bool)
  if known.all() or not known.any():
    return result  # nothing to choose a threshold by
  for name in SIGNALS:
    values = np.array([row[name] for row in chosen_on])
    cuts = np.unique(values)
    gains = [
      (values[~known] < cut).mean() - (values[known] < cut).mean()
      for cut in cuts
    ]
    threshold = float(cuts[np.argmax(gains)])
    judged = refusals(rows, [row[name] < threshold for row in rows])
    result[name] = judged | {
      'auroc': auroc(rows, name),
      'threshold': threshold,
    }
  return result


def auroc(rows: Sequence[Row], name: str) -> float | None:
  """Chance that a known question has more of a signal than an unknown one.

  Half of the ties count. None if all are known, or none.

  Source: Mann and Whitney's U over the number of pairs.
  """
  known = [row[name] for row in rows if row['known']]
  unknown = [row[name] for row in rows if not row['known']]
  if not known or not unknown:
    return None
  u = stats.mannwhitneyu(known, unknown).statistic
  return float(u / (len(known) * len(unknown)))


def by_kind(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
  """n, known, correct and refused (shares) of the questions of each kind."""
  kinds = collections.defaultdict(list)
  for row in rows:
    kinds[row['kind']].append(row)
  return {
    kind: {'n': len(of)}
    | {
      name: sum(row[name] for row in of) / len(of)
      for name in ('known', 'correct', 'refused')
    }
    for kind, of in sorted(kinds.items())
  }


def sentence(name: str, judged: Mapping[str, Any]) -> str:
  """One line of the table that a probe prints."""
  shares = [
    f'{key.replace("_", " ")} {found[0]:.1%} ({found[1]:.1%}-{found[2]:.1%})'
    for key, found in judged.items()
    if isinstance(found, list)
  ]
  area = judged.get('auroc')
  return ', '.join(
    [f'{name}: {shares[0]}', *shares[1:]] if shares else [name]
  ) + (f', AUROC {area:.3f}' if area is not None else '')


def _share(count: int, of: int) -> list[float] | None:
  """A share with its interval."""
  return [count / of, *statistics.wilson_interval(count, of)] if of else None
