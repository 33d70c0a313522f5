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
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import logging

from experiments import command_line, recipe_flags
from llm_jax import files, record
from llm_jax.chat import formats
from llm_jax.data import shards
from llm_jax.evals import bits_per_byte, compression, scoring
from llm_jax.report import findings
from llm_jax.tasks import any_task, protocol
from llm_jax.train import checkpoint


@dataclasses.dataclass(frozen=True)
class Config:
  """What is measured; equal for all checkpoints."""

  task: any_task.AnyTask = dataclasses.field(kw_only=True)
  evaluation: scoring.Scoring = scoring.Scoring()
  held_out_source: str = 'documents'  # its valid split is measured
  held_out_rows: int = 1024  # at most, from the first on
  held_out_batch_size: int = 16  # rows computed together


def run(
  cfg: Config,
  workdir: str,
  checkpoint: Sequence[str],
  tokens: str,
  chat: bool = False,
  base: bool = False,
) -> None:
  """Measure what is not measured yet and write evaluation.json.

  Args:
    cfg: problems, samples and held-out rows.
    workdir: folder of the evaluation; the same folder resumes.
    checkpoint: `name=folder of a stage` of each.
    tokens: folder of token shards, for the held-out documents.
    chat: put problems as conversations, whatever a checkpoint says.
    base: put them as plain text.
  """
  is_chat = formats.override(chat, base)
  named = recipe_flags.named('checkpoint', checkpoint)
  inputs = {'tokens': shards.fingerprint(tokens)}
  inputs |= protocol.file_sums(cfg.task) | formats.inputs(is_chat)
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
      measured = _measure(
        cfg, name, loaded=loaded, tokens=tokens, is_chat=is_chat
      )
      files.write_json(path, measured)
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
  cfg: Config,
  name: str,
  loaded: checkpoint.LoadedModel,
  tokens: str,
  is_chat: bool | None,
) -> dict[str, Any]:
  """Everything that is measured of one checkpoint."""
  start = time.monotonic()
  model = scoring.of_checkpoint(loaded, is_chat)
  rows = []
  for direct in (False, True):
    found = scoring.evaluate(model, cfg.task, cfg.evaluation, direct=direct)
    rows.append({'checkpoint': name, **found})
    logging.info(
      '%s, %s: sampled %s (95%%: %s), greedy %s, %.0f%% think',
      name,
      found['mode'],
      findings.percent(found['sampled']),
      findings.interval(found['interval']['sampled']),
      findings.percent(found['greedy']),
      100 * found['think_share'],
    )
  source = shards.TokenSource(
    tokens,
    cfg.held_out_source,
    split='valid',
    tokenizer_fingerprint=model.tokenizer.fingerprint,
  )
  text = bits_per_byte.read(source, model.tokenizer, cfg.held_out_rows)
  bits = bits_per_byte.bits_per_byte(
    model.config,
    model.params,
    held_out=text,
    batch_size=cfg.held_out_batch_size,
  )
  logging.info('%s: %.3f bits per byte on held-out text', name, bits)
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


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    checkpoint='name=folder of a finished pretrain, sft or rl stage',
    tokens='folder of token shards',
  )
