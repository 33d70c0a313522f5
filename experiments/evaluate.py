"""Measure all checkpoints of a run on the same held-out problems and text.

  python -m experiments.evaluate --workdir runs/speedrun/evaluate \
      --gin_file gin_configs/evaluate_tiny.gin \
      --tokens runs/speedrun/tokens --checkpoint base=runs/speedrun/pretrain \
      --checkpoint sft=runs/speedrun/sft --checkpoint rl=runs/speedrun/rl_seed0

Each checkpoint is asked every problem greedily and several times by sampling,
once as it likes and once without thinking, and multiple choice by likelihood
too; see evals/choices.py. Of a file every question is asked, and a checkpoint
that was trained on it is refused, unless only the tenth is asked for that no
stage trains on. What a checkpoint achieved is on disk as soon as it is known;
the same command asks only what is not there yet.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging

from experiments import command_line, recipe_flags
from llm_jax import files, record
from llm_jax.agent import any_task, toolbox, turns
from llm_jax.chat import formats
from llm_jax.data import shards
from llm_jax.evals import bits_per_byte, leaks, modes, scoring
from llm_jax.tasks import protocol
from llm_jax.train import checkpoint

_load_model = checkpoint.load_model  # as `run` has a parameter of that name


@dataclasses.dataclass(frozen=True)
class Config:
  """What is measured; equal for all checkpoints."""

  task: any_task.AnyTask = dataclasses.field(kw_only=True)
  # Of a task's file: all, or held_out, the tenth that no stage trains on.
  questions: str = 'all'
  # Likelihood is measured where problems have choices.
  modes: tuple[str, ...] = modes.MODES
  evaluation: scoring.Scoring = scoring.Scoring()
  tools: toolbox.Toolbox = toolbox.Toolbox()
  held_out_source: str = ''  # its valid split is measured; '': the first
  held_out_rows: int = 1024  # at most, from the first on
  held_out_batch_size: int = 16  # rows computed together

  def __post_init__(self):
    for given, known in (
      ((self.questions,), ('all', 'held_out')),
      (self.modes, modes.MODES),
    ):
      if not given or {*given} - {*known}:
        raise ValueError(f'{given} in Config; use {" or ".join(known)}')


def run(
  cfg: Config,
  workdir: str,
  checkpoint: Sequence[str],
  tokens: str = '',
  chat: bool = False,
  base: bool = False,
) -> None:
  """Measure what is not measured yet and write evaluation.json.

  Args:
    cfg: problems, samples and held-out rows.
    workdir: folder of the evaluation; the same folder resumes.
    checkpoint: `name=folder of a stage` of each.
    tokens: folder of token shards, for the held-out documents; empty: bits
      per byte are not measured.
    chat: put problems as conversations, whatever a checkpoint says.
    base: put them as plain text.
  """
  is_chat = formats.override(chat, base)
  named = recipe_flags.by_name('checkpoint', checkpoint)
  inputs = {'tokens': shards.fingerprint(tokens)} if tokens else {}
  inputs |= protocol.file_sums(cfg.task) | formats.inputs(is_chat)
  inputs |= cfg.tools.inputs()
  if cfg.questions == 'all':
    leaks.refuse(cfg.task, named)
  begin = functools.partial(
    record.begin,
    workdir=workdir,
    stage='evaluate',
    cfg=cfg,
    inputs=inputs,
    extra={'devices': str(jax.devices())},
  )
  finished = begin()
  results_dir = pathlib.Path(workdir, 'checkpoints')
  results_dir.mkdir(exist_ok=True)
  results: list[dict[str, Any]] = []
  for name, folder in named.items():
    loaded = _load_model(folder)
    path = results_dir / f'{name}-{loaded.fingerprint[:16]}.json'
    if not path.exists():
      if finished:  # by an earlier call, which was not given this checkpoint
        pathlib.Path(workdir, 'done.json').unlink()
        finished = begin()
      measured = _measure(
        cfg, name, loaded=loaded, tokens=tokens, is_chat=is_chat
      )
      files.write_json(path, measured)
      record.tick(workdir)
    results.append(files.read_json(path))

  rows = [row for result in results for row in result['rows']]
  evaluation = {
    'rows': [row for row in rows if row['mode'] != 'likelihood'],
    'choices': [row for row in rows if row['mode'] == 'likelihood'],
    'held_out': None,
  }
  if tokens:
    models = {r['checkpoint']: r['bits_per_byte'] for r in results}
    evaluation['held_out'] = results[0]['held_out'] | {'models': models}
  files.write_json(pathlib.Path(workdir, 'evaluation.json'), evaluation)
  if finished:
    print(f'the evaluation in {workdir} is finished')
    return
  n_tokens = sum(row['tokens'] for row in rows)
  record.finish(workdir, {'tokens': n_tokens, 'checkpoints': len(results)})


def _measure(
  cfg: Config,
  name: str,
  loaded: checkpoint.LoadedModel,
  tokens: str,
  is_chat: bool | None,
) -> dict[str, Any]:
  """Everything that is measured of one checkpoint."""
  start = time.monotonic()
  logging.info('%s: %s, step %d', name, loaded.stage, loaded.step)
  model = turns.of_checkpoint(loaded, is_chat, cfg.tools.schemas())
  with cfg.tools.opened() as using:
    asked = dataclasses.replace(model, using=using)
    found = modes.rows(
      asked, cfg.task, cfg.evaluation, modes=cfg.modes, split=cfg.questions
    )
    rows = [{'checkpoint': name, **row} for row in found]
  text: dict[str, Any] = {}
  if tokens:
    source = shards.TokenSource(
      tokens,
      cfg.held_out_source or [*shards.names([tokens], 'valid'), ''][0],
      'valid',
      tokenizer_fingerprint=model.tokenizer.fingerprint,
    )
    text = bits_per_byte.measure(
      model, source, cfg.held_out_rows, batch_size=cfg.held_out_batch_size
    )
    logging.info('%.3f bits per byte on held-out text', text['bits_per_byte'])
  return {
    'checkpoint': name,
    'fingerprint': loaded.fingerprint,
    'stage': loaded.stage,
    'step': loaded.step,
    'seconds': time.monotonic() - start,
    'rows': rows,
    **text,
  }


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    checkpoint='name=folder of a finished pretrain, sft or rl stage',
    tokens='folder of token shards',
  )
