"""Checkpoints that carry state across stages, checked when they are read.

A stage's folder of checkpoints is self-contained: `model.json` (the model's
configuration), `tokenizer/` (a copy), and one folder a step. Saving is
asynchronous and atomic. A fingerprint of every array is stored beside it and
compared at restore, since damaged bytes otherwise load as wrong weights. Where
adapters are trained, their state is stored beside the merged parameters, and
so is a value head, so that a model loads the same way whatever was trained.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import shutil
import traceback
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import Mesh
from orbax.checkpoint import v1 as ocp

from llm_jax import dataclass_json, files, types
from llm_jax.chat import usages
from llm_jax.model import config, params, value_head
from llm_jax.parallel import device_mesh
from llm_jax.train import stopping, train_state

SCORING_STAGE = 'reward_model'  # its models have a head that scores
N_KEPT = 2  # one damaged checkpoint never leaves nothing
_FOLDER = 'checkpoints'
_ASIDE = 'damaged_checkpoints'
_MODEL_FILE = 'model.json'
_TOKENIZER = 'tokenizer'
_CHECKSUM = 'sha256'
_DISK_FULL = 'RESOURCE_EXHAUSTED', 'No space left', 'File too large'


class _Damaged(Exception):
  """A checkpoint whose bytes are not what was saved."""


@dataclasses.dataclass(frozen=True)
class LoadedModel:
  """What a later stage takes over from an earlier one."""

  model_config: config.ModelConfig
  params: types.Params
  tokenizer_dir: str
  step: int
  stage: str
  is_chat: bool  # prompts go through the chat template; else plain text
  fingerprint: str  # sha256 of type, shape and fingerprint of every array
  usage: usages.Usage = usages.UNKNOWN


class Checkpointer:
  """Saves the states of one run and keeps the newest few."""

  def __init__(
    self, workdir: str, part: str = '', keep_every: int = 0, kept_step: int = 0
  ):
    """Open a run's folder for saving; call `restore` before.

    Args:
      workdir: folder of the stage.
      part: a folder inside, for models alone: nothing resumes from there.
      keep_every: checkpoints of the multiples of so many steps stay; 0: none.
      kept_step: stays too.
    """
    self._folder = steps_folder(workdir, part)
    self._is_part = bool(part)
    os.makedirs(self._folder, exist_ok=True)
    # Orbax's policies do not match the protocols that they are declared by.
    policies: Any = ocp.training.preservation_policies
    every_save: Any = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
    kept = [policies.LatestN(N_KEPT), policies.CustomSteps([kept_step])]
    if keep_every:
      kept.append(policies.EveryNSteps(keep_every))
    self._orbax = ocp.training.Checkpointer(
      self._folder,
      save_decision_policy=every_save,
      preservation_policy=policies.AnyPreservationPolicy(kept),
      cleanup_tmp_directories=True,
    )
    self._saving = None

  def save(self, state: train_state.TrainState) -> None:
    """Start saving a state under its step; on return it may be donated.

    Args:
      state: the state after the step. Nothing is done if that step is saved.

    Raises:
      OSError: if this save or the one before it met a full disk. Older
        checkpoints stay whole.
    """
    step = int(jax.device_get(state.step))
    latest = self._orbax.latest
    if latest is not None and latest.step >= step:
      return
    self.wait()
    parts = _split(state)
    if state.base is not None:
      parts['params'] = jax.jit(train_state.model_params)(state)
    if self._is_part:
      parts = {'params': parts['params']}
    with _disk_full_named(self._folder):
      integrity: Any = _describe(parts)
      metadata = {'integrity': integrity, 'sha256': _sha256(integrity)}
      self._saving = self._orbax.save_checkpointables_async(
        step, parts, custom_metadata=metadata
      )

  def close(self) -> None:
    """Wait until everything is on disk.

    Raises:
      OSError: if the last save met a full disk.
    """
    self.wait()
    with _disk_full_named(self._folder):  # it tells of a failed save once more
      self._orbax.close()

  def wait(self) -> None:
    """Wait until the last save is on disk.

    Raises:
      OSError: if it met a full disk.
    """
    saving, self._saving = self._saving, None
    if saving is not None:
      with _disk_full_named(self._folder):
        saving.result()


def restore(
  workdir: str, like: train_state.TrainState
) -> train_state.TrainState | None:
  """Load a run's newest whole checkpoint onto the given layout.

  A damaged checkpoint is moved to damaged_checkpoints/ and the one before it
  is tried.

  Args:
    workdir: folder of the stage.
    like: a state with the structure, shapes and shardings wanted; the base of
      adapters is taken from it.

  Returns:
    The state, bit for bit as it was saved; None if none was.

  Raises:
    ValueError: if every checkpoint is damaged, or one belongs to a model or
      optimizer of another structure.
  """
  folder = steps_folder(workdir)
  if not saved_steps(folder):
    return None
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
    _split(like),
  )
  aside = os.path.join(os.path.dirname(folder), _ASIDE)
  _, parts = _newest_whole(folder, abstract, aside)
  return dataclasses.replace(
    like,
    **parts['train'],
    params=parts[_trained(like)] | parts.get(value_head.NAME, {}),
    opt_state=parts['opt_state'],
  )


def _newest_whole(
  folder: str, abstract: dict[str, Any], aside: str = ''
) -> tuple[int, dict[str, Any]]:
  """The step and the named parts of the newest checkpoint that is whole.

  Args:
    folder: of checkpoints, one of them at least.
    abstract: layout of each part that is wanted.
    aside: where those go that are not whole; empty: they stay.

  Raises:
    ValueError: if every checkpoint is damaged, or one belongs to a model or
      optimizer of another structure.
  """
  errors = []
  for step in reversed(saved_steps(folder)):
    path = os.path.join(folder, str(step))
    try:
      with stopping.deferred():
        return step, _load(path, abstract)
    except _Damaged as error:
      logging.warning('checkpoint %d in %s is damaged: %s', step, folder, error)
      errors.append(f'{step}: {error}')
      if aside and not jax.process_index():
        os.makedirs(aside, exist_ok=True)
        place = os.path.join(aside, f'{step}-{len(os.listdir(aside))}')
        logging.warning('checkpoint %d is moved to %s', step, place)
        shutil.move(path, place)
  raise ValueError(
    f'every checkpoint in {folder} is damaged ({"; ".join(errors)}); restore '
    'one, or start again with another --workdir'
  )


def save_model_files(
  workdir: str,
  stage: str,
  cfg: config.ModelConfig,
  tokenizer_dir: str,
  is_chat: bool,
  usage: usages.Usage = usages.UNKNOWN,
) -> None:
  """Write what makes a folder of checkpoints self-contained.

  Args:
    workdir: folder of the stage.
    stage: its name, such as 'sft'.
    cfg: the model.
    tokenizer_dir: a saved tokenizer, which is copied.
    is_chat: whether the model is prompted through the chat template.
    usage: what it was trained to be asked.
  """
  if jax.process_index():
    return
  folder = steps_folder(workdir)
  shutil.copytree(
    tokenizer_dir, os.path.join(folder, _TOKENIZER), dirs_exist_ok=True
  )
  saved = {'stage': stage, 'is_chat': is_chat}
  saved['usage'] = dataclass_json.to_dict(usage)
  saved['model'] = dataclass_json.to_dict(cfg)
  files.write_json(
    os.path.join(folder, _MODEL_FILE), saved | {_CHECKSUM: _sha256_of(saved)}
  )


def copy_model_files(source: str, target: str) -> None:
  """Make a folder of steps as self-contained as another one."""
  os.makedirs(target, exist_ok=True)
  shutil.copy(os.path.join(source, _MODEL_FILE), target)
  shutil.copytree(
    os.path.join(source, _TOKENIZER),
    os.path.join(target, _TOKENIZER),
    dirs_exist_ok=True,
  )


def load_model(
  stage_dir: str, mesh: Mesh | None = None, has_values: bool = False
) -> LoadedModel:
  """Load the model that a stage left, from its newest whole checkpoint.

  Args:
    stage_dir: folder of the stage.
    mesh: where to put the parameters; None: on the first device.
    has_values: with the head by which a reward model scores.

  Returns:
    The model with its configuration and the folder of its tokenizer.

  Raises:
    FileNotFoundError: if there is no model there.
    ValueError: if every checkpoint is damaged, or has_values and it is no
      reward model.
  """
  folder = os.path.abspath(os.path.join(stage_dir, _FOLDER))
  cfg, saved = read_model_file(stage_dir)
  # Earlier files say less.
  usage = dataclass_json.with_defaults(usages.UNKNOWN, saved.get('usage', {}))
  mesh = mesh or device_mesh.make(device_mesh.MeshConfig(data=1))
  like = params.abstract(params.table(cfg, has_values), mesh)
  abstract = {'params': like}
  if has_values:
    if saved['stage'] != SCORING_STAGE:
      raise ValueError(
        f'{stage_dir} is of the stage {saved["stage"]}, whose model scores '
        'no answers; give the folder of experiments.reward_model'
      )
    abstract[value_head.NAME] = {value_head.NAME: like.pop(value_head.NAME)}
  step, parts = _newest_whole(folder, abstract)
  return LoadedModel(
    model_config=cfg,
    params=parts['params'] | parts.get(value_head.NAME, {}),
    tokenizer_dir=os.path.join(folder, _TOKENIZER),
    step=step,
    stage=saved['stage'],
    is_chat=saved['is_chat'],
    fingerprint=_sha256(_describe(parts)),
    usage=dataclass_json.from_dict(usages.Usage, usage),
  )


def read_model_file(
  stage_dir: str,
) -> tuple[config.ModelConfig, dict[str, Any]]:
  """The model that a stage left, without its parameters.

  Returns:
    Its configuration, and all that model.json says.

  Raises:
    FileNotFoundError: if there is no model there.
    ValueError: if model.json is not what was written.
  """
  folder = os.path.abspath(os.path.join(stage_dir, _FOLDER))
  model_file = os.path.join(folder, _MODEL_FILE)
  if not saved_steps(folder) or not os.path.exists(model_file):
    raise FileNotFoundError(
      f'{stage_dir} holds no checkpoint of a model (looked for {model_file} '
      'and a folder named by its step); give the folder of a finished '
      'pretrain, sft or rl stage'
    )
  saved = files.read_json(model_file)
  # An option that is younger than the file has its default, which is what the
  # model was before there was that option.
  defaults = dataclass_json.to_dict(config.ModelConfig())
  cfg = dataclass_json.from_dict(config.ModelConfig, defaults | saved['model'])
  # The first ones had none. A changed option loads as another model.
  checksum = saved.pop(_CHECKSUM, None)
  if checksum not in (None, _sha256_of(saved)):
    raise ValueError(
      f'{model_file} is damaged: its values are not '
      f'those that were written; restore it, or delete {_CHECKSUM!r} in it if '
      'you changed them'
    )
  return cfg, saved


def steps_folder(workdir: str, part: str = '') -> str:
  """The folder of checkpoints, which all processes of a run share.

  All but the first have a workdir of their own inside the first's, for their
  records and metrics; see experiments/command_line.py.
  """
  workdir = os.path.abspath(workdir)
  if jax.process_index():
    workdir = os.path.dirname(workdir)
  return os.path.join(workdir, part, _FOLDER)


def _sha256_of(saved: dict[str, Any]) -> str:
  """Of what model.json holds, but for options that have their default.

  So a file is still whole when there are more options.
  """
  defaults = dataclass_json.to_dict(config.ModelConfig())
  options = saved['model'].items()
  changed = {k: v for k, v in options if v != defaults.get(k)}
  return _sha256(saved | {'model': changed})


def _sha256(described: dict[str, Any]) -> str:
  text = json.dumps(described, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def saved_steps(folder: str) -> list[int]:
  """The steps of a folder's finished checkpoints, ascending."""
  if not os.path.isdir(folder):
    return []
  return sorted(int(name) for name in os.listdir(folder) if name.isdigit())


def _split(state: train_state.TrainState) -> dict[str, Any]:
  """What is trained, in parts, so that a model loads without moments."""
  train = {'step': state.step, 'key': state.key, 'n_skipped': state.n_skipped}
  head = {k: x for k, x in state.params.items() if k == value_head.NAME}
  params = {k: x for k, x in state.params.items() if k not in head}
  return {
    _trained(state): params,
    **({value_head.NAME: head} if head else {}),
    'opt_state': state.opt_state,
    'train': train,
  }


def _trained(state: train_state.TrainState) -> str:
  return 'params' if state.base is None else 'adapters'


def _load(path: str, abstract: dict[str, Any]) -> dict[str, Any]:
  """Load the named parts of one checkpoint and compare every fingerprint."""
  try:
    metadata: Any = ocp.checkpointables_metadata(path).custom_metadata
    saved = {part: metadata['integrity'][part] for part in abstract}
    own_sum = _sha256(metadata['integrity'])
  except Exception as error:
    raise _Damaged(_first_cause(error)) from error
  if metadata.get('sha256', own_sum) != own_sum:  # the first ones had none
    raise _Damaged('the list of fingerprints is not what was saved')
  _refuse_other_structure(path, saved, abstract)
  loaded = {}
  for part, like in abstract.items():
    # One at a time: where one fails, Orbax never awaits those behind it.
    try:
      loaded |= ocp.load_checkpointables(path, {part: like})
    except Exception as error:
      raise _Damaged(_first_cause(error)) from error
  for part, leaves in _describe(loaded).items():
    for name, description in leaves.items():
      if description != saved[part][name]:
        raise _Damaged(
          f'{part}{name} reads as {description}, saved was {saved[part][name]}'
        )
  return loaded


def _first_cause(error: BaseException) -> str:
  """What went wrong at the bottom, without the pages that Orbax adds."""
  while error.__cause__ is not None:
    error = error.__cause__
  text = ' '.join(f'{type(error).__name__}: {error}'.split())
  return text if len(text) <= 300 else f'{text[:300]} ...'


def _refuse_other_structure(path, saved, abstract):
  for part in sorted(abstract, key='params'.__ne__):  # its names say most
    wanted = {
      jax.tree_util.keystr(p): _shape(x)
      for p, x in jax.tree_util.tree_leaves_with_path(abstract[part])
    }
    for name in sorted(saved[part].keys() | wanted.keys()):
      was = saved[part].get(name, 'absent').partition(' ')[0]
      now = wanted.get(name, 'absent')
      if was != now:
        raise ValueError(
          f'{path} belongs to another model or optimizer: {part}{name} is '
          f'{was} there and {now} here; restore with the configuration that '
          'it was saved with, or use another --workdir'
        )


def _shape(x) -> str:
  return f'{x.dtype}[{"x".join(map(str, x.shape))}]'


def _describe(parts: dict[str, Any]) -> dict[str, dict[str, str]]:
  """Type, shape and fingerprint of each array, by part and path."""
  sums = jax.device_get(_fingerprints(parts))
  described: dict[str, dict[str, str]] = {}
  for part, tree in parts.items():
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    described[part] = {
      jax.tree_util.keystr(p): f'{_shape(x)} {int(s):08x}'
      for (p, x), s in zip(leaves, sums[part], strict=True)
    }
  return described


@jax.jit
def _fingerprints(parts):
  return {
    part: [_fingerprint(x) for x in jax.tree.leaves(tree)]
    for part, tree in parts.items()
  }


def _fingerprint(x: jax.Array) -> jax.Array:
  """Sum of mixed bits, each with its index; equal on every mesh.

  Any single flipped bit changes it, as every factor is odd.
  """
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    x = jax.random.key_data(x)
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  width = x.dtype.itemsize
  unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width]
  bits = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32).ravel()
  index = jnp.arange(bits.size, dtype=jnp.uint32)
  bits = (bits ^ (index * jnp.uint32(0x9E3779B1))) * jnp.uint32(0x85EBCA6B)
  bits = (bits ^ (bits >> 15)) * jnp.uint32(0xC2B2AE35)
  return jnp.sum(bits ^ (bits >> 13), dtype=jnp.uint32)


@contextlib.contextmanager
def _disk_full_named(folder: str):
  """Raise an OSError with the remedy for a storage error of a full disk."""
  with files.explain_full(pathlib.Path(folder)):
    try:
      yield
    except Exception as error:
      text = ''.join(traceback.format_exception(error))  # with its causes
      if not any(sign in text for sign in _DISK_FULL):
        raise
      raise OSError(errno.ENOSPC, 'disk full') from error
