"""Learns the vocabulary: byte-level BPE from documents and task text.

python -m experiments.train_tokenizer --workdir runs/tiny/tokenizer \
  --documents runs/tiny/clean --gin_file gin_configs/train_tokenizer_tiny.gin

Writes ranks.tiktoken, spec.json, tokenizer.json (Hugging Face), and
report.json with the bytes a token on held-out documents, beside published
vocabularies whose ranks files are given. Learning starts over after a kill:
it takes seconds for megabytes of text.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from experiments import command_line
from llm_jax import files, record
from llm_jax.chat import formats
from llm_jax.data import readers
from llm_jax.tasks import addition
from llm_jax.tokenizer import encoding


@dataclasses.dataclass(frozen=True)
class Config:
  """What vocabulary is learnt, from what."""

  vocab_size: int = 2048  # bytes, merges and 64 control tokens together
  pattern: str = 'qwen2'  # qwen2: one digit a token; cl100k: up to three
  text_column: str = 'text'  # of JSON lines, Parquet and TFDS
  blank_lines: bool = False  # they separate documents in .txt; else: files
  addition_digits: int = 3  # of each number in them
  addition_documents: int = 0  # generated sums, beside the documents
  think_share: float = 0.4  # of the generated answers
  seed: int = 0  # of the generated text


def run(
  cfg: Config,
  workdir: str,
  documents: Sequence[str],
  cl100k_ranks: str | None = None,
  gpt2_ranks: str | None = None,
  o200k_ranks: str | None = None,
) -> None:
  """Learn, save, and measure on documents that were not learnt from."""
  published = {'cl100k': cl100k_ranks, 'gpt2': gpt2_ranks, 'o200k': o200k_ranks}
  compared = {
    name: encoding.Tokenizer.from_ranks(path, name)
    for name, path in published.items()
    if path is not None
  }
  inputs = {name: other.fingerprint for name, other in compared.items()}
  corpora = readers.named(documents, 'documents', list(published))
  for name, corpus in corpora.items():
    inputs[name] = readers.fingerprint(corpus)
  if record.begin(workdir, 'train_tokenizer', cfg, inputs=inputs):
    print(f'the tokenizer in {workdir} is finished')
    return

  learnt = texts(cfg, corpora.values(), 'train')
  with record.correctable(workdir):
    own = encoding.Tokenizer.train(
      itertools.chain(learnt, task_texts(cfg)), cfg.vocab_size, cfg.pattern
    )
  own.save(workdir)
  record.tick(workdir)

  held_out = list(texts(cfg, corpora.values(), 'valid'))
  report = {
    'vocab_size': own.vocab_size,
    'pattern': own.pattern,
    'fingerprint': own.fingerprint,
    'held_out_documents': len(held_out),
    'held_out_bytes': sum(len(text.encode()) for text in held_out),
    'bytes_per_token': {
      name: bytes_per_token(tokenizer, held_out)
      for name, tokenizer in {'own': own, **compared}.items()
    },
  }
  files.write_json(pathlib.Path(workdir) / 'report.json', report)
  sizes = ', '.join(f'{n} {x}' for n, x in report['bytes_per_token'].items())
  result = f'{own.vocab_size:,} tokens; bytes in one of held-out text: {sizes}'
  record.finish(workdir, report | {'result': result})


def texts(cfg: Config, corpora: Iterable[str], split: str) -> Iterator[str]:
  """Of all documents of a split."""
  form = readers.Form(cfg.text_column, cfg.blank_lines)
  for corpus in corpora:
    yield from (page.text for page in readers.read(corpus, split, form))


def task_texts(cfg: Config) -> Iterator[str]:
  """Prompts and answers, apart, as they will be encoded."""
  for prompt, answer in addition.text_documents(
    addition.Addition(cfg.addition_digits),
    'train',
    count=cfg.addition_documents,
    seed=cfg.seed,
    think_share=cfg.think_share,
  ):
    yield formats.plain(prompt)
    yield answer


def bytes_per_token(
  tokenizer: encoding.Tokenizer, texts: list[str]
) -> float | None:
  """UTF-8 bytes of the texts by their tokens; None if there is no text."""
  n_tokens = sum(len(tokenizer.encode(text)) for text in texts)
  n_bytes = sum(len(text.encode()) for text in texts)
  return round(n_bytes / n_tokens, 4) if n_tokens else None


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    documents='folder, file, or pattern of .txt, .md, .jsonl or .parquet, as '
    'path or URL; several with a name each: name=corpus',
    cl100k_ranks='path of cl100k_base.tiktoken, to compare with',
    gpt2_ranks='path of r50k_base.tiktoken, to compare with',
    o200k_ranks='path of o200k_base.tiktoken, to compare with',
  )
