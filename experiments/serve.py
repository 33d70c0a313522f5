"""Serve checkpoints by HTTP, in the form of OpenAI's API.

  python -m experiments.serve --checkpoint runs/speedrun/rl_seed0

--checkpoint is given once for each model, as FOLDER or NAME=FOLDER; a folder
alone is named after itself. Who sends requests must give the key that stands
in the environment's LLM_JAX_API_KEY, if there is one. See docs/how-to/serve.md.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence

import jax
import uvicorn

from experiments import command_line
from llm_jax.agent import turns
from llm_jax.model import kv_cache
from llm_jax.serve import app, worker
from llm_jax.train import checkpoint as checkpoints


@dataclasses.dataclass(frozen=True)
class Config:
  """What is allocated at the start."""

  n_rows: int = 8  # answers that a model makes at once; others wait
  max_chunk: int = 4  # tokens that come together, and the time to a cancel
  max_waiting: int = 256  # answers of a model that run or wait, before 429


def run(
  cfg: Config,
  checkpoint: Sequence[str] = (),
  host: str = '127.0.0.1',
  port: int = 8000,
) -> None:
  """Serve until SIGTERM or Ctrl-C; answers that run are finished first.

  Args:
    cfg: rows and limits.
    checkpoint: NAME=FOLDER of each model, or its folder alone.
    host: address to listen on.
    port: of it.

  Raises:
    ValueError: for no checkpoint, or two of one name.
  """
  models: dict[str, app.Served] = {}
  for given in checkpoint:
    name, _, folder = given.rpartition('=')
    name = name or pathlib.Path(folder).resolve().name
    if name in models:
      raise ValueError(f'two checkpoints are named {name}; use NAME=FOLDER')
    loaded = checkpoints.load_model(folder)
    rows = worker.Worker(
      turns.of_checkpoint(loaded), n_rows=cfg.n_rows, max_chunk=cfg.max_chunk
    )
    models[name] = app.Served(loaded, rows)
    model_config = loaded.model_config
    cache = jax.eval_shape(
      lambda c=model_config: kv_cache.init(
        c, cfg.n_rows, n_slots=c.max_length, int8=False
      )
    )
    n_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(cache))
    print(
      f'{name}: {loaded.stage}, step {loaded.step}; {cfg.n_rows} rows of '
      f'{model_config.max_length} tokens, {n_bytes / 1e6:.1f} MB'
    )
  if not models:
    raise ValueError('there is no model to serve; give --checkpoint FOLDER')
  made = app.make(
    models,
    hosts=[host, '127.0.0.1', 'localhost'],
    key=os.environ.get('LLM_JAX_API_KEY', ''),
    max_waiting=cfg.max_waiting,
  )
  print(f'http://{host}:{port}/v1')
  sys.stdout.flush()
  uvicorn.run(made, host=host, port=port, log_level='warning')


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    checkpoint='NAME=FOLDER of a model, or its folder alone; repeatable',
    host='address to listen on',
    port='of it',
  )
