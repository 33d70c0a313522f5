"""Index documents, for the tool `search`.

  python -m experiments.index --workdir runs/index --documents texts
  python -m experiments.chat --restore_from MODEL --tools search \
    --documents runs/index

Folders of text, JSON lines and Parquet are read as by experiments.tokenize. An
index that is of other documents is refused where it is opened with them; small
corpora need none: `--documents texts` is then indexed in memory.
"""

import dataclasses
import pathlib

from experiments import command_line
from llm_jax import locks
from llm_jax.agent import search
from llm_jax.data import readers


@dataclasses.dataclass(frozen=True)
class Config:
  """How documents are read."""

  text_column: str = 'text'  # of JSON lines and Parquet
  blank_lines: bool = False  # separate documents in .txt files


def run(cfg: Config, workdir: str, documents: str) -> None:
  """Write the index into a folder; an older one there is replaced."""
  pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
  locks.lock(pathlib.Path(workdir))
  form = readers.Form(cfg.text_column, cfg.blank_lines)
  about = search.save(documents, workdir, form)
  print(f'{about["n"]:,} documents with {about["n_words"]:,} words: {workdir}')


if __name__ == '__main__':
  command_line.main(
    Config, run, documents='folder, file or pattern of documents'
  )
