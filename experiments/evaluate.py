"""Measure all checkpoints of a run on the same held-out problems and text.

  python -m experiments.evaluate --workdir runs/speedrun/evaluate \
      --gin_file gin_configs/evaluate_tiny.gin \
      --tokens runs/speedrun/tokens --checkpoint base=runs/speedrun/pretrain \
      --checkpoint sft=runs/speedrun/sft --checkpoint rl=runs/speedrun/rl_seed0

Each checkpoint is asked every problem greedily and several times by sampling,
once as it likes and once without thinking. What a checkpoint achieved is on
disk as soon as it is known, under the fingerprint of its parameters; the same
command asks only what is not there yet. Hardware and time stand in the header
of each gin file.
"""

import dataclasses
import functools
import pathlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import logging

from experiments import command_line
from llm_jax import files, record
from llm_jax.data import shards
from llm_jax.evals import bits_per_byte, compression, scoring
from llm_jax.report import findings
from llm_jax.tasks import any_task, assistant, protocol
from llm_jax.tokenizer import encoding
from llm_jax.train import checkpoint


@dataclasses.dataclass(frozen=True)
class Config:
  """What is measured; equal for all checkpoints."""

  task: any_task.AnyTask = dataclasses.field(kw_only=True)
  evaluation: scoring.Scoring = scoring.Scoring()
  n_conversations: int = 0  # questions of Assistant that assistants get too
  held_out_source: str = 'documents'  # its valid split is measured
  held_out_rows: int = 1024  # at most, from the first on
  held_out_batch_size: int = 16  # rows computed together


def run(
  cfg: Config, workdir: str, checkpoint: Sequence[str], tokens: str
) -> None:
  """Measure what is not measured yet and write evaluation.json.

  Args:
    cfg: problems, samples and held-out rows.
    workdir: folder of the evaluation; the same folder resumes.
    checkpoint: `name=folder of a stage` of each.
    tokens: folder of token shards, for the held-out documents.
  """
  named = _named(checkpoint)
  inputs = {'tokens': shards.fingerprint(tokens)}
  inputs |= protocol.file_sums(cfg.task)
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
  for name, loaded in _loaded(named):
    path = results_dir / f'{name}-{loaded.fingerprint[:16]}.json'
    if not path.exists():
      if finished:  # by an earlier call, which was not given this checkpoint
        pathlib.Path(workdir, 'done.json').unlink()
        finished = begin()
      files.write_json(path, _measure(cfg, name, loaded=loaded, tokens=tokens))
      record.tick(workdir)
    results.append(files.read_json(path))

  rows = [row for result in results for row in result['rows']]
  models = {r['checkpoint']: r['bits_per_byte'] for r in results}
  held_out = results[0]['held_out'] | {'models': models}
  path = pathlib.Path(workdir, 'evaluation.json')
  files.write_json(path, {'rows': rows, 'held_out': held_out})
  if finished:
    print(f'the evaluation in {workdir} is finished')
    return
  n_tokens = sum(row['tokens'] for row in rows)
  record.finish(workdir, {'tokens': n_tokens, 'checkpoints': len(results)})


def _measure(
  cfg: Config, name: str, loaded: checkpoint.LoadedModel, tokens: str
) -> dict[str, Any]:
  """Everything that is measured of one checkpoint."""
  start = time.monotonic()
  tokenizer = encoding.Tokenizer.load(loaded.tokenizer_dir)
  config_and_params = (loaded.model_config, loaded.params)
  model = scoring.Model(*config_and_params, tokenizer, is_chat=loaded.is_chat)
  rows = []
  asked = [(cfg.task, cfg.evaluation, direct) for direct in (False, True)]
  if cfg.n_conversations and loaded.is_chat:
    few = dataclasses.replace(cfg.evaluation, n_problems=cfg.n_conversations)
    asked.append((assistant.Assistant(max_turns=3), few, False))
  for task, scored, direct in asked:
    found = scoring.evaluate(model, task, scored, direct=direct)
    rows.append({'checkpoint': name, **found})
    logging.info('%s %s', name, findings.evaluated(found))
  source = shards.TokenSource(
    tokens,
    cfg.held_out_source,
    split='valid',
    tokenizer_fingerprint=tokenizer.fingerprint,
  )
  text = bits_per_byte.read(source, tokenizer, cfg.held_out_rows)
  bits = bits_per_byte.bits_per_byte(
    *config_and_params, held_out=text, batch_size=cfg.held_out_batch_size
  )
  logging.info('%s needs %.3f bits per byte of held-out text', name, bits)
  return {
    'checkpoint': name,
    'fingerprint': loaded.fingerprint,
    'stage': loaded.stage,
    'step': loaded.step,
    'seconds': time.monotonic() - start,
    'rows': rows,
    'bits_per_byte': bits,
    'held_out': {
      'source': source.name,
      'documents': len(text.documents),
      'bytes': text.n_bytes,
      'compressors': compression.bits_per_byte(text.documents),
    },
  }


def _loaded(
  folders: Mapping[str, str],
) -> Iterator[tuple[str, checkpoint.LoadedModel]]:
  """Each checkpoint with its name, one after the other."""
  for name, folder in folders.items():
    yield name, checkpoint.load_model(folder)


def _named(checkpoints: Sequence[str]) -> dict[str, str]:
  """Folders by name, from `name=folder`."""
  folders: dict[str, str] = {}
  for given in checkpoints:
    name, _, folder = given.partition('=')
    if not re.fullmatch(r'[\w.-]+', name) or not folder:
      raise ValueError(
        f'--checkpoint {given!r} is not name=folder; write for example '
        '--checkpoint sft=runs/speedrun/sft'
      )
    if name in folders:
      raise ValueError(
        f'two checkpoints are called {name!r}: {folders[name]} and {folder}; '
        'give each its own name'
      )
    folders[name] = folder
  return folders


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    checkpoint='name=folder of a finished pretrain, sft or rl stage',
    tokens='folder of token shards',
  )
