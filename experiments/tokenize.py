"""Turns documents and generated task text into token shards.

python -m experiments.tokenize --workdir runs/tiny/tokens \
  --documents runs/tiny/clean --tokenizer runs/tiny/tokenizer \
  --gin_file gin_configs/tokenize_tiny.gin

Each Parquet file becomes one shard of training documents and one of held-out
ones. A shard that is finished is not made again after a kill, and is
byte for byte what an uninterrupted run writes.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from experiments import command_line
from llm_jax import record
from llm_jax.data import documents as documents_lib
from llm_jax.data import shards
from llm_jax.tasks import addition
from llm_jax.tokenizer import specials
from llm_jax.tokenizer import tokenizer as tokenizer_lib


@dataclasses.dataclass(frozen=True)
class Addition:
  """Generated text that teaches to add; of training problems only."""

  n_digits: int = 3
  documents: int = 40_000
  think_share: float = 0.4  # of the answers
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Config:
  """How text becomes rows."""

  sequence_length: int = 256  # targets in a row
  addition: Addition = Addition()


def run(cfg: Config, workdir: str, documents: str, tokenizer: str) -> None:
  """Write the shards of both sources, then the manifest."""
  encoder = tokenizer_lib.Tokenizer.load(tokenizer)
  inputs = {
    'documents': documents_lib.fingerprint(documents),
    'tokenizer': encoder.fingerprint,
  }
  if record.begin(workdir, 'tokenize', cfg, inputs):
    print(f'the tokens in {workdir} are finished')
    return

  end_of_text_id = encoder.special_id(specials.END_OF_TEXT)

  def write(source: str, split: str, index: int, encoded) -> dict[str, Any]:
    folder = pathlib.Path(workdir, source)
    folder.mkdir(exist_ok=True)
    entry_path = folder / f'{split}-{index:05d}.json'
    if entry_path.exists():  # it appears after its shard
      return record.read_json(entry_path)
    entry = shards.write_shard(
      entry_path.with_suffix('.array_record'),
      encoded,
      cfg.sequence_length,
      end_of_text_id,
      encoder.vocab_size,
    )
    record.write_json(entry_path, entry)
    record.tick(workdir)
    return entry

  paths = documents_lib.files(documents)
  manifest = shards.write_manifest(
    workdir,
    {
      'documents': {
        split: [
          write('documents', split, i, encode_documents(encoder, path, split))
          for i, path in enumerate(paths)
        ]
        for split in documents_lib.SPLITS
      },
      'addition': {
        'train': [
          write('addition', 'train', 0, encode_addition(encoder, cfg.addition))
        ]
      },
    },
    encoder.fingerprint,
    encoder.vocab_size,
    end_of_text_id,
    cfg.sequence_length,
  )
  record.finish(workdir, summarize(manifest))


def encode_documents(
  encoder: tokenizer_lib.Tokenizer, path: pathlib.Path, split: str
) -> Iterator[tuple[list[int], int]]:
  """Ids and bytes of the documents of one file and split."""
  for page in documents_lib.read_file(path, split):
    yield encoder.encode(page.text), len(page.text.encode())


def encode_addition(
  encoder: tokenizer_lib.Tokenizer, cfg: Addition
) -> Iterable[tuple[list[int], int]]:
  """Ids and bytes of generated problems, each with its answer."""
  for prompt, answer in addition.text_documents(
    cfg.n_digits, 'train', cfg.documents, cfg.seed, cfg.think_share
  ):
    # Apart, so that a prompt has the same ids here as when it is asked.
    ids = encoder.encode(prompt) + encoder.encode(answer)
    yield ids, len((prompt + answer).encode())


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
    documents='folder of Parquet files with columns text and url',
    tokenizer='folder that experiments.train_tokenizer wrote',
  )
