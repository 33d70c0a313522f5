"""Serve checkpoints by HTTP: the form of OpenAI's API, and a page.

  python -m experiments.serve --checkpoint runs/speedrun/rl_seed0

--checkpoint is given once for each model, as FOLDER or NAME=FOLDER; a folder
alone is named after itself. It is that of a stage, of a published model, or a
GGUF file. Clients must send the key that stands in the environment's
LLM_JAX_API_KEY, if there is one. See docs/how-to/serve.md.
"""

import contextlib
import dataclasses
import os
import pathlib
import socket
import sys
from collections.abc import Sequence

import jax

import llm_jax
from experiments import command_line
from llm_jax.agent import toolbox, turns
from llm_jax.chat import formats, usages
from llm_jax.infer import quantize
from llm_jax.model import kv_cache, params
from llm_jax.tokenizer import encoding, loading
from llm_jax.train import checkpoint as checkpoints

try:
  import uvicorn

  from llm_jax.serve import app, incoming, page_routes, worker
except ModuleNotFoundError as error:
  raise ModuleNotFoundError(
    f"{error}; the server needs it: pip install '.[serve]'"
  ) from error


@dataclasses.dataclass(frozen=True)
class Config:
  """What is allocated at the start, and what is too much."""

  n_rows: int = 8  # answers that a model makes at once; others wait
  n_slots: int = 0  # tokens of a prompt and its answer; 0: all it can read
  max_chunk: int = 4  # tokens that come together, and the time to a cancel
  int8: bool = False  # weights as bytes, for devices that wait for memory
  limits: app.Limits = app.Limits()
  tools: toolbox.Toolbox = toolbox.Toolbox()


def run(
  cfg: Config,
  checkpoint: Sequence[str] = (),
  tokenizer: Sequence[str] = (),
  tools: Sequence[str] = (),
  documents: str = '',
  votes: str = '',
  runs: str = '',
  host: str = '127.0.0.1',
  port: int = 8000,
  allow_origin: Sequence[str] = (),
) -> None:
  """Serve until SIGTERM or Ctrl-C; answers that run are finished first.

  Args:
    cfg: rows, limits and tools.
    checkpoint: NAME=FOLDER of each model, or its folder alone.
    tokenizer: NAME=FOLDER of vocabularies that the page shows besides; a file
      of ranks is cl100k's.
    tools: that the server runs for models; see Toolbox.
    documents: that the tool `search` searches.
    votes: file of the arena's votes; without it there is no arena.
    runs: folder in which runs train, whose curves are shown.
    host: address to listen on.
    port: of it.
    allow_origin: of pages elsewhere that may ask from a browser.

  Raises:
    ValueError: for no checkpoint, or two of one name.
  """
  box = dataclasses.replace(
    cfg.tools,
    names=tuple(','.join(tools).split(',')) if tools else cfg.tools.names,
    documents=documents or cfg.tools.documents,
  )
  with contextlib.ExitStack() as stack:
    using = stack.enter_context(box.opened())
    models = {
      name: _load(name, path, cfg=cfg, using=using)
      for name, path in _named(checkpoint).items()
    }
    if not models:
      raise ValueError('there is no model to serve; give --checkpoint FOLDER')
    key = os.environ.get('LLM_JAX_API_KEY', '')
    # A page that has its name lead here has no key.
    own = [host, '127.0.0.1', 'localhost', socket.gethostname()]
    made = app.make(
      models,
      access=app.Access(['*'] if key else own, allow_origin, key),
      limits=cfg.limits,
      tokenizers={
        name: encoding.Tokenizer.from_ranks(path)
        if os.path.isfile(path)
        else loading.load(path)
        for name, path in _named(tokenizer).items()
      },
      lab=page_routes.Lab(votes, runs),
    )
    print(f'http://{host}:{port} is the page, http://{host}:{port}/v1 the API')
    sys.stdout.flush()
    uvicorn.run(made, host=host, port=port, log_level='warning')


def _named(given: Sequence[str]) -> dict[str, str]:
  """Folders by name."""
  found: dict[str, str] = {}
  for one in given:
    name, _, path = one.rpartition('=')
    name = name or pathlib.Path(path).resolve().name
    if name in found:
      raise ValueError(f'two folders are named {name}; use NAME=FOLDER')
    found[name] = path
  return found


def _load(
  name: str, path: str, cfg: Config, using: toolbox.Tools | None
) -> incoming.Served:
  """A model with its rows; prints what they take."""
  model: turns.Model
  if os.path.isfile(path) or os.path.exists(f'{path}/config.json'):
    model = llm_jax.load(path)
    stage, usage = 'published', usages.UNKNOWN
  else:
    loaded = checkpoints.load_model(path)
    model = turns.of_checkpoint(loaded)
    stage, usage = loaded.stage, loaded.usage
  if using is not None and model.chat_format.is_chat:
    chat_format = formats.choose(model.tokenizer, True, using.box.schemas())
    model = dataclasses.replace(model, chat_format=chat_format, using=using)
  if cfg.int8:
    weights = quantize.int8(model.params, params.table(model.config))
    model = dataclasses.replace(model, params=weights)
  length = cfg.n_slots or model.config.max_length
  cache = jax.eval_shape(
    lambda: kv_cache.init(model.config, cfg.n_rows, n_slots=length, int8=False)
  )
  n_cache, n_weights = (
    sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) / 1e6
    for tree in (cache, model.params)
  )
  print(
    f'{name}: {stage}, weights {n_weights:.1f} MB; {cfg.n_rows} rows of '
    f'{length} tokens, {n_cache:.1f} MB'
  )
  rows = worker.Worker(
    model,
    n_rows=cfg.n_rows,
    max_chunk=cfg.max_chunk,
    n_slots=cfg.n_slots,
    name=name,
  )
  return incoming.Served(name, model, rows, stage=stage, usage=usage)


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    checkpoint='NAME=FOLDER of a model, or its folder alone; repeatable',
    tokenizer='NAME=FOLDER of a vocabulary to show besides; repeatable',
    tools='that the server runs: python, search, or functions of --import',
    documents='that the tool `search` searches',
    votes="file of the arena's votes",
    runs='folder in which runs train',
    host='address to listen on',
    port='of it',
    allow_origin='of a page elsewhere that may ask; repeatable',
  )
