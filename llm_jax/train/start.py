"""How every training stage starts: new, from another stage, or where it was.

Does not load other stages' models; see checkpoint.load_model.
"""

import functools

import optax
from absl import logging
from jax.sharding import Mesh

from llm_jax import types
from llm_jax.model import config, transformer
from llm_jax.train import checkpoint, metrics, watch
from llm_jax.train import state as state_lib


def start(
  workdir: str,
  stage: str,
  cfg: config.ModelConfig,
  tokenizer_dir: str,
  is_chat: bool,
  tx: optax.GradientTransformation,
  seed: int,
  mesh: Mesh,
  watch_cfg: watch.Watch,
  params: types.Params | None = None,
) -> tuple[state_lib.TrainState, metrics.Writer]:
  """Make the folder of a stage self-contained and find the state to train.

  Args:
    workdir: folder of the stage.
    stage: its name.
    cfg: the model.
    tokenizer_dir: the model's tokenizer, which is copied.
    is_chat: whether the model is prompted through the chat template.
    tx: the optimizer.
    seed: of new parameters and of the key that training splits.
    mesh: where the state lives.
    watch_cfg: which views of the metrics to open.
    params: parameters of the stage before; None: new ones.

  Returns:
    The state of the newest whole checkpoint in workdir, or else a state at
    step 0; and the writer of its metrics.
  """
  state = state_lib.create(
    functools.partial(transformer.init, cfg), tx, seed, mesh
  )
  restored = checkpoint.restore(workdir, state)
  if restored is not None:
    state = restored
  elif params is not None:
    state = state_lib.replace_params(state, params)
  checkpoint.save_model_files(workdir, stage, cfg, tokenizer_dir, is_chat)
  logging.info(
    '%s: %d parameters on mesh %s, from step %d',
    stage,
    config.n_params(cfg)['total'],
    dict(mesh.shape),
    int(state.step),
  )
  # Without a checkpoint even what was written before the first step is redone.
  n_done = -1 if restored is None else int(state.step)
  views = watch.open_views(watch_cfg, workdir, n_done)
  return state, metrics.Writer(workdir, n_done, views)
