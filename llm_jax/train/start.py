"""How every training stage starts: new, from another stage, or where it was.

stage = start.after('sft', cfg, workdir, restore_from, n_rows=16)
if stage.begin(inputs):
  return  # it is finished already
state, loop = stage.start(tx)
for step, state in loop.train(state, update_fn, batch_fn):
  ...
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from llm_jax import record, types
from llm_jax.chat import formats, template, usages
from llm_jax.model import config, lora, params, transformer, value_head
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.tokenizer import loading, text_tokenizer
from llm_jax.train import (
  checkpoint,
  continuation,
  fit,
  metrics,
  monitoring,
  train_state,
  training_loop,
)

_NO_ADAPTERS = lora.Lora()
_SIZES = ('n_layers', 'd_model', 'vocab_size')  # that a run's record shows


@dataclasses.dataclass(frozen=True)
class Stage:
  """What a stage has from its first line to its last; see `new` and `after`."""

  name: str
  cfg: Any  # the recipe's, with its seed, loop and mesh
  workdir: str
  mesh: Mesh
  model_config: config.ModelConfig
  tokenizer: text_tokenizer.TextTokenizer
  tokenizer_dir: str  # copied into every stage
  chat_format: template.Format  # how its model is spoken to
  params: types.Params | None  # of the stage before; None: new ones
  inputs: Mapping[str, str]  # fingerprint of the model or tokenizer read
  goes_on: record.Continuation
  usage: usages.Usage = usages.UNKNOWN

  @property
  def n_updates(self) -> int:
    """Updates that the learning rate's schedule is for."""
    n_steps = self.cfg.loop.n_steps - self.goes_on.schedule_from
    return continuation.updates_a_step(self.cfg) * n_steps

  def used(
    self, examples: Sequence[str], max_turns: int = 0, fills: bool = False
  ) -> 'Stage':
    """The stage whose model will be known to be asked such things."""
    published = self.tokenizer.published
    if published is not None and published.chat_template is not None:
      max_turns = 0  # what it was trained on before is not known
    fills |= self.usage.fills
    usage = usages.Usage(max_turns, tuple(examples), fills)
    return dataclasses.replace(self, usage=usage)

  def begin(
    self,
    inputs: Mapping[str, str],
    plan: fit.Plan | None = None,
    mixture: Sequence[Mapping[str, Any]] = (),
  ) -> bool:
    """Open the record of the run; see record.begin, whose errors it raises.

    Args:
      inputs: fingerprint of each artifact that the stage reads besides.
      plan: how a batch is computed, for the record.
      mixture: what is trained on, if it is known; see record.mixture.

    Returns:
      True if the same run is finished there, so that nothing is left to do.
    """
    model = self.model_config
    sizes = {name: getattr(model, name) for name in _SIZES}
    sizes = {'parameters': params.count(model)['total']} | sizes
    machine = {
      'devices': str(jax.devices()),
      'mesh': dict(self.mesh.shape),
      'model': sizes,
    }
    if plan is not None:
      machine['plan'] = dataclasses.asdict(plan)
    if record.begin(
      self.workdir,
      self.name,
      self.cfg,
      inputs={**inputs, **self.inputs},
      extra=machine,
      goes_on=self.goes_on,
    ):
      logging.info('%s in %s is already finished', self.name, self.workdir)
      return True
    if self.goes_on.note:
      logging.info('the run %s', self.goes_on.note['how'])
    if mixture:
      record.mixture(self.workdir, mixture)
    return False

  def start(
    self,
    tx: optax.GradientTransformation,
    adapters: lora.Lora = _NO_ADAPTERS,
    has_values: bool = False,
  ) -> tuple[train_state.TrainState, training_loop.Loop]:
    """Make the folder self-contained and find the state to train.

    Args:
      tx: the optimizer.
      adapters: what is trained in place of the parameters, if of any rank.
      has_values: whether a new value head is trained beside the parameters.

    Returns:
      The state of the newest whole checkpoint in workdir, or else one at step
      0; and the loop, with the writer of metrics.
    """
    state = self._first_state(tx, adapters, has_values)
    note, first = self.goes_on.note, self.goes_on.schedule_from
    if note and jax.process_count() > 1:  # the first one moves checkpoints
      multihost_utils.sync_global_devices('set aside')
    restored = checkpoint.restore(self.workdir, state)
    state = restored or state
    if int(state.step) < max(first, note['step'] if note else 0):
      raise ValueError(
        f'the run was to go on otherwise from a step whose checkpoint is '
        f'damaged; the same command goes on from step {int(state.step)}'
      )
    if first and int(state.step) == first:
      opt_state = optimizers.restart_schedule(state.opt_state)
      state = dataclasses.replace(state, opt_state=opt_state)
    checkpoint.save_model_files(
      self.workdir,
      stage=self.name,
      cfg=self.model_config,
      tokenizer_dir=self.tokenizer_dir,
      is_chat=self.chat_format.is_chat,
      usage=self.usage,
    )
    logging.info(
      '%s: %d parameters on %s, from step %d',
      self.name,
      params.count(self.model_config)['total'],
      device_mesh.describe(self.mesh),
      int(state.step),
    )
    # Without a checkpoint even what was written before step 1 is redone.
    n_done = -1 if restored is None else int(state.step)
    views = monitoring.open_views(self.cfg.loop.watch, self.workdir, n_done)
    writer = metrics.Writer(self.workdir, n_done, views)
    return state, training_loop.Loop(
      self.cfg.loop,
      workdir=self.workdir,
      mesh=self.mesh,
      writer=writer,
      kept_step=self._decay_step(),
      rate_fn=self._rate_fn(),
    )

  def _decay_step(self) -> int:
    """The last step before wsd's decay, which a longer run goes on from."""
    optimizer = self.cfg.optimizer
    if getattr(optimizer, 'schedule', '') != 'wsd':
      return 0
    n_before = optimizers.decay_start(optimizer, self.n_updates)
    n_steps = n_before // continuation.updates_a_step(self.cfg)
    return self.goes_on.schedule_from + n_steps

  def _rate_fn(self) -> Callable[[int], float] | None:
    """From a step to its learning rate, where the optimizer is known."""
    optimizer = self.cfg.optimizer
    if not isinstance(optimizer, optimizers.Optimizer):
      return None
    rate = optimizers.learning_rate(
      optimizer, optimizer.peak_lr, self.n_updates
    )
    first, k = self.goes_on.schedule_from, continuation.updates_a_step(self.cfg)
    return lambda step: np.asarray(rate((step - first) * k - 1)).item()

  def _first_state(self, tx, adapters, has_values) -> train_state.TrainState:
    model = self.model_config
    if adapters.rank and has_values:
      raise ValueError(
        f'Lora.rank = {adapters.rank} with a value function, which is no part '
        'of the adapters; use an algorithm without one, such as dr_grpo'
      )
    lines = lora.trained(adapters, params.table(model, has_values))
    head = {value_head.NAME: value_head.init(model)} if has_values else {}
    given = None if self.params is None else self.params | head
    init = functools.partial(transformer.init, model)
    if adapters.rank:
      init = functools.partial(lora.init, lines)
    state = train_state.create(
      lambda key: init(key) | head,
      tx,
      seed=self.cfg.seed,
      mesh=self.mesh,
      lines=lines,
      given=None if adapters.rank else given,
    )
    if adapters.rank:
      n_trained = sum(x.size for x in jax.tree.leaves(state.params))
      logging.info('%s trains %d parameters', adapters, n_trained)
      return dataclasses.replace(state, base=given, adapters=adapters)
    return state


def new(
  name: str,
  cfg: Any,
  workdir: str,
  tokenizer_dir: str | None,
  restore_from: str | None = None,
) -> Stage:
  """A stage that trains a new model, cfg.model, or a given one on other text.

  Args:
    name: of the stage, such as 'pretrain'.
    cfg: the recipe's configuration, with model and batch_size.
    workdir: folder of the stage; the same folder resumes.
    tokenizer_dir: folder of the model's tokenizer; None: restore_from has it.
    restore_from: folder of the stage whose model is trained on, with a new
      optimizer; None: a new model.

  Returns:
    The stage; its cfg says what is trained, so that model is that of a given
    one, but for how it is computed.

  Raises:
    ValueError: if no tokenizer is given, or another one or another model than
      that of restore_from.
  """
  if not restore_from:
    if not tokenizer_dir:
      raise ValueError(
        '--tokenizer must be given for a new model; or --restore_from for a '
        'model that is there, which brings its own'
      )
    goes_on = continuation.find(workdir, cfg)
    tokenizer = loading.load(tokenizer_dir)
    return Stage(
      name=name,
      cfg=cfg,
      workdir=workdir,
      mesh=device_mesh.make(cfg.mesh, cfg.batch_size),
      model_config=cfg.model,
      tokenizer=tokenizer,
      tokenizer_dir=tokenizer_dir,
      chat_format=formats.choose(tokenizer, is_chat=False),
      params=None,
      inputs={'tokenizer': tokenizer.fingerprint},
      goes_on=goes_on,
    )
  if os.path.realpath(workdir) == os.path.realpath(restore_from):
    raise ValueError(
      f'--workdir and --restore_from are both {workdir}; leave out '
      '--restore_from to go on with that run (LoopConfig.n_steps makes it '
      'longer), or give a new --workdir for another one'
    )
  stage = after(
    name, cfg, workdir, restore_from=restore_from, n_rows=cfg.batch_size
  )
  model = config.computed_as(cfg.model, stage.model_config)
  cfg = dataclasses.replace(cfg, model=model)
  if tokenizer_dir:
    given = loading.load(tokenizer_dir).fingerprint
    if given != stage.tokenizer.fingerprint:
      raise ValueError(
        f'--tokenizer {tokenizer_dir} has fingerprint {given}, not '
        f'{stage.tokenizer.fingerprint} as the model; leave it out, and make '
        f'the tokens with {stage.tokenizer_dir}'
      )
  logging.info('%s: a new optimizer for the model of %s', name, restore_from)
  return dataclasses.replace(stage, cfg=cfg, model_config=model)


def after(
  name: str,
  cfg: Any,
  workdir: str,
  restore_from: str,
  n_rows: int,
  teaches_chat: bool = False,
  is_chat: bool | None = None,
  tools: Sequence[Mapping[str, Any]] = (),
) -> Stage:
  """A stage that goes on with the model of another one.

  Args:
    name: of the stage, such as 'sft'.
    cfg: the recipe's configuration.
    workdir: folder of the stage; the same folder resumes.
    restore_from: folder of the stage before.
    n_rows: of a batch, over all devices.
    teaches_chat: whether its model takes conversations, even if the one
      before did not.
    is_chat: whether it is taken to do so, whatever the checkpoint says; None:
      as it says.
    tools: what its model may call, as `tools` of OpenAI's requests.

  Raises:
    FileNotFoundError, ValueError: see checkpoint.load_model, formats.choose
      and continuation.find.
  """
  goes_on = continuation.find(workdir, cfg)
  mesh = device_mesh.make(cfg.mesh, n_rows)
  model = checkpoint.load_model(restore_from, mesh)
  tokenizer = loading.load(model.tokenizer_dir)
  return Stage(
    name=name,
    cfg=cfg,
    workdir=workdir,
    mesh=mesh,
    model_config=model.model_config,
    tokenizer=tokenizer,
    tokenizer_dir=model.tokenizer_dir,
    chat_format=formats.choose(
      tokenizer,
      teaches_chat or (model.is_chat if is_chat is None else is_chat),
      tools,
    ),
    params=model.params,
    inputs={'model': model.fingerprint, **formats.inputs(is_chat)},
    usage=model.usage,
    goes_on=goes_on,
  )
