"""Turns documents and generated task text into token shards.

python -m experiments.tokenize --workdir runs/tiny/tokens \
  --documents runs/tiny/clean --tokenizer runs/tiny/tokenizer \
  --gin_file gin_configs/tokenize_tiny.gin

Documents are .txt and .md files, .jsonl and Parquet, packed by gzip or zstd or
not, here or at a URL. Each file of rows, and each few megabytes of text files,
become a shard of training documents and one of held-out ones; processes share
them out. A shard that is finished is not made again after a kill, and is byte
for byte what an uninterrupted run writes. Several corpora are a source each:

python -m experiments.tokenize --workdir runs/web/tokens \
  --documents fineweb=https://example.org/fineweb/000_00000.parquet \
  --documents 'books=data/books/*.parquet' --tokenizer runs/tiny/tokenizer
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import logging

from experiments import command_line
from llm_jax import files, pool, record
from llm_jax.data import readers, shards, tokenizing
from llm_jax.tasks import addition


@dataclasses.dataclass(frozen=True)
class Addition:
  """Generated text that teaches to add; of training problems only."""

  n_digits: int = 3  # of each number
  documents: int = 0  # as many sums; 0: no source `addition`
  think_share: float = 0.4  # of the answers
  seed: int = 0  # of the sums drawn


@dataclasses.dataclass(frozen=True)
class Config:
  """How text becomes rows."""

  sequence_length: int = 256  # targets in a row
  text_column: str = 'text'  # of JSON lines, Parquet and TFDS
  blank_lines: bool = False  # they separate documents in .txt; else: files
  addition: Addition = Addition()


def run(
  cfg: Config,
  workdir: str,
  documents: Sequence[str],
  tokenizer: str,
  n_workers: int = 0,
) -> None:
  """Write the shards of all sources, then the manifest."""
  corpora = readers.named(documents, 'documents', ('addition', 'tokenizer'))
  encoder = tokenizing.load_tokenizer(tokenizer)
  inputs = {
    name: readers.fingerprint(corpus) for name, corpus in corpora.items()
  }
  form = readers.Form(cfg.text_column, cfg.blank_lines)
  parts = {name: readers.parts(c, form) for name, c in corpora.items()}
  inputs['tokenizer'] = encoder.fingerprint
  if record.begin(workdir, 'tokenize', cfg, inputs=inputs):
    print(f'the tokens in {workdir} are finished')
    return

  job = tokenizing.Job(tokenizer, cfg.sequence_length, form)
  made = ['addition'] if cfg.addition.documents else []
  folders = {name: pathlib.Path(workdir, name) for name in (*parts, *made)}
  for folder in folders.values():
    folder.mkdir(exist_ok=True)
    files.remove_leftovers(folder)
  tasks = [
    (part, folders[name], index)
    for name, own in parts.items()
    for index, part in enumerate(own)
  ]
  share_out(
    job, tasks, n_workers=n_workers or os.cpu_count() or 1, workdir=workdir
  )
  entries = {
    name: tokenizing.read_entries(folders[name], len(own))
    for name, own in parts.items()
  }
  for name, corpus in corpora.items():
    if not any(e['bytes'] for own in entries[name].values() for e in own):
      raise ValueError(readers.nothing(corpus, name))
  if made:
    sums = write_addition(cfg.addition, job, folders['addition'])
    entries['addition'] = {'train': [sums]}
  manifest = shards.write_manifest(
    workdir,
    shards=entries,
    tokenizer_fingerprint=encoder.fingerprint,
    layout=tokenizing.layout(job),
  )
  record.finish(workdir, summarize(manifest))


def share_out(
  job: tokenizing.Job, tasks: Sequence[tuple], n_workers: int, workdir: str
) -> None:
  """Write the shards of all files, in processes if there are several."""
  n_done = 0

  def on_done():
    nonlocal n_done
    n_done += 1
    logging.info('%d of %d parts are tokenized', n_done, len(tasks))
    record.tick(workdir)

  if min(n_workers, len(tasks)) == 1:
    for task in tasks:
      tokenizing.write_shards(job, *task)
      on_done()
  else:
    with pool.Pool(job, n_workers, [tokenizing.__name__]) as workers:
      workers.run(tokenizing.write_shards, tasks, on_done)


def write_addition(
  cfg: Addition, job: tokenizing.Job, folder: pathlib.Path
) -> dict[str, Any]:
  """Write the shard of generated problems; returns its manifest entry."""
  if (entry := tokenizing.entry_path(folder, 'train', 0)).exists():
    return files.read_json(entry)
  encoder = tokenizing.load_tokenizer(job.tokenizer)
  writer = tokenizing.shard_writer(job, entry)
  for prompt, answer in addition.text_documents(
    cfg.n_digits,
    'train',
    count=cfg.documents,
    seed=cfg.seed,
    think_share=cfg.think_share,
  ):
    # Apart, so that a prompt has the same ids here as when it is asked.
    ids = encoder.encode(prompt) + encoder.encode(answer)
    writer.add(ids, len((prompt + answer).encode()))
  files.write_json(entry, writer.close())
  return files.read_json(entry)


def summarize(manifest: dict[str, Any]) -> dict[str, Any]:
  """Print the counts of each split, and return their sums."""
  totals = dict.fromkeys(('tokens', 'documents', 'bytes'), 0)
  for source, splits in manifest['sources'].items():
    for split, counts in splits.items():
      print(
        f'{source}/{split}: {counts["documents"]:,} documents, '
        f'{counts["tokens"]:,} tokens in {counts["records"]:,} rows, '
        f'{counts["bytes"] / max(counts["tokens"], 1):.3f} bytes a token'
      )
      for name in totals:
        totals[name] += counts[name]
  return totals


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    documents='folder, file, or pattern of .txt, .md, .jsonl or .parquet, as '
    'path or URL; several with a name each: name=corpus',
    tokenizer='folder that experiments.train_tokenizer wrote',
    n_workers='processes; 0 for one a CPU core',
  )
