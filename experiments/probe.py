"""Finds out what a model knows, and whether it says so where it does not.

  python -m experiments.probe --workdir runs/mine/probe \
    --restore_from runs/mine/sft --gin_bindings 'Config.task = @ClosedBook()' \
    --gin_bindings "ClosedBook.path = 'questions.jsonl'"

Every question is asked several times; it is known if enough of the sampled
answers are right. Of the questions that stages may train on, conversations are
written in which the known ones are answered and the unknown ones refused:

  python -m experiments.sft --workdir runs/mine/honest \
    --restore_from runs/mine/sft --conversations runs/mine/probe/refusals.jsonl

The other questions, which no stage trains on, show what comes of it: --labels
says what was known before.

  python -m experiments.probe --workdir runs/mine/probe_honest \
    --restore_from runs/mine/honest --labels runs/mine/probe \
    --gin_bindings 'Config.task = @ClosedBook()' \
    --gin_bindings "ClosedBook.path = 'questions.jsonl'"
"""

import dataclasses
import pathlib
from typing import Any

from absl import logging

from experiments import command_line
from llm_jax import files, record
from llm_jax.agent import turns
from llm_jax.evals import knowledge, scoring
from llm_jax.tasks import any_task, protocol
from llm_jax.train import checkpoint

_load_model = checkpoint.load_model  # as `run` has a parameter of that name


@dataclasses.dataclass(frozen=True)
class Config:
  """What is asked, and what counts as known."""

  task: any_task.AnyTask = dataclasses.field(kw_only=True)
  n_problems: int = 0  # of each split; 0: all of a file
  known_share: float = 0.5  # of the sampled answers are right, from here on
  refusal: str = 'I do not know.'  # what is written where nothing is known
  evaluation: scoring.Scoring = scoring.Scoring(max_new_tokens=48)

  def __post_init__(self):
    if not 0 < self.known_share <= 1:
      raise ValueError(
        f'Config.known_share = {self.known_share}; use more than 0, at most 1'
      )
    if self.evaluation.n_samples < 4:
      raise ValueError(
        f'Scoring.n_samples = {self.evaluation.n_samples} answers cannot tell '
        'what is known; use at least 4'
      )


def run(
  cfg: Config,
  workdir: str,
  restore_from: str,
  labels: str = '',
) -> None:
  """Ask, and write questions.jsonl, refusals.jsonl and probe.json."""
  if not protocol.file_of(cfg.task) and not cfg.n_problems:
    raise ValueError('Config.n_problems = 0 is for files; use 400, say')
  loaded = _load_model(restore_from)
  inputs = protocol.file_sums(cfg.task) | {'model': loaded.fingerprint}
  known_before = {}
  if labels:
    path = pathlib.Path(labels, 'questions.jsonl')
    inputs['labels'] = files.sha256(path)
    rows = files.read_jsonl(path, dict)
    known_before = {row['question']: row['known'] for row in rows}
  if record.begin(workdir=workdir, stage='probe', cfg=cfg, inputs=inputs):
    print(f'the probe in {workdir} is finished')
    return
  model = turns.of_checkpoint(loaded)
  asked = {
    split: cfg.task.problems(split, cfg.n_problems, cfg.evaluation.seed)
    for split in ('train', 'held_out')
  }
  rows = {
    split: knowledge.ask(model, cfg.task, asked=problems, cfg=cfg.evaluation)
    for split, problems in asked.items()
  }
  for row in [*rows['train'], *rows['held_out']]:
    if known_before and row['question'] not in known_before:
      raise ValueError(
        f'{row["question"]!r} has no label in {labels}; give --labels a probe '
        'of the same task'
      )
    enough = cfg.known_share * cfg.evaluation.n_samples
    row['known'] = known_before.get(row['question'], row['n_right'] >= enough)
  found: dict[str, Any] = {
    'held_out': knowledge.judge(rows['train'], rows['held_out']),
    'kinds': {split: knowledge.by_kind(of) for split, of in rows.items()},
  }
  folder = pathlib.Path(workdir)
  files.write_jsonl(
    folder / 'questions.jsonl',
    [row | {'split': split} for split, of in rows.items() for row in of],
  )
  files.write_jsonl(
    folder / 'refusals.jsonl',
    [
      {
        'messages': protocol.exchange(
          problem.prompt,
          cfg.task.demonstrate(problem, think=False)
          if row['known']
          else cfg.refusal,
        )
      }
      for problem, row in zip(asked['train'], rows['train'], strict=True)
    ],
  )
  files.write_json(folder / 'probe.json', found)
  for name, judged in found['held_out'].items():
    logging.info('%s', knowledge.sentence(name, judged))
  n_known = sum(row['known'] for row in rows['held_out'])
  summary = {'questions': sum(map(len, rows.values()))}
  summary['result'] = (
    f'{n_known} of {len(rows["held_out"])} held-out questions are known'
  )
  record.finish(workdir, summary)


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    labels='folder of an earlier probe, which says what is known',
  )
