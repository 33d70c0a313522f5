"""How every training stage starts: new, from another stage, or where it was.

Does not load other stages' models; see checkpoint.load_model.
"""

import dataclasses
import functools

import jax
import optax
from absl import logging
from jax.sharding import Mesh

from llm_jax import types
from llm_jax.model import config, transformer, value_head
from llm_jax.model import lora as lora_lib
from llm_jax.model import params as table
from llm_jax.train import checkpoint, metrics, train_state, watch

_NO_ADAPTERS = lora_lib.Lora()


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
  lora: lora_lib.Lora = _NO_ADAPTERS,
  has_values: bool = False,
) -> tuple[train_state.TrainState, metrics.Writer]:
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
    lora: adapters that are trained in place of those parameters.
    has_values: whether a new value head is trained beside them.

  Returns:
    The state of the newest whole checkpoint in workdir, or else a state at
    step 0; and the writer of its metrics.
  """
  init = functools.partial(transformer.init, cfg)
  lines = lora_lib.trained(lora, table.table(cfg, has_values))
  if lora.rank:
    init = functools.partial(lora_lib.init, lines)
  if has_values:
    head = {value_head.NAME: value_head.init(cfg)}
    params = None if params is None else params | head
    init_model = init
    init = lambda key: init_model(key) | head  # noqa: E731
  state = train_state.create(init, tx, seed, mesh, lines=lines)
  if lora.rank:
    state = dataclasses.replace(state, base=params, lora_cfg=lora)
    n_trained = sum(x.size for x in jax.tree.leaves(state.params))
    logging.info('%s: %s trains %d parameters', stage, lora, n_trained)
  elif params is not None:
    state = train_state.replace_params(state, params)
  restored = checkpoint.restore(workdir, state)
  if restored is not None:
    state = restored
  checkpoint.save_model_files(workdir, stage, cfg, tokenizer_dir, is_chat)
  logging.info(
    '%s: %d parameters on mesh %s, from step %d',
    stage,
    table.count(cfg)['total'],
    dict(mesh.shape),
    int(state.step),
  )
  # Without a checkpoint even what was written before the first step is redone.
  n_done = -1 if restored is None else int(state.step)
  views = watch.open_views(watch_cfg, workdir, n_done)
  return state, metrics.Writer(workdir, n_done, views)
