"""What --explain says of a run beside its settings: sizes, tokens, misfits.

It reads manifests, vocabularies and the description of a model, and does NOT
load parameters, check shards or look at the machine.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from llm_jax.data import mixture, shards
from llm_jax.model import config, params
from llm_jax.optim import optimizers
from llm_jax.rl import algorithms
from llm_jax.tokenizer import loading
from llm_jax.train import checkpoint


def pretraining(cfg: Any, arguments: Mapping[str, Any]) -> Iterator[str]:
  """Parameters, the tokens of the run, and how often each source is read.

  Args:
    cfg: of experiments.pretrain.
    arguments: its flags; tokens and tokenizer may be absent, or not made yet.
      With restore_from the model is that one.

  Yields:
    Lines.

  Raises:
    ValueError: if model, tokenizer, tokens and schedule do not fit together.
  """
  model, tokenizer = cfg.model, arguments.get('tokenizer')
  for saved in _restored(arguments):
    model = config.computed_as(cfg.model, saved)
  yield from _sizes(model)
  vocabulary, length = None, model.max_length
  if tokenizer and _is_there(tokenizer):
    vocabulary = loading.load(tokenizer)
    yield f'tokenizer: {vocabulary.vocab_size:,} tokens'
    config.check_fits(model, vocabulary.vocab_size, length=1)
  elif tokenizer:
    yield f'{tokenizer} is not there yet, so that nothing was compared with it'
  folders = [f for f in arguments.get('tokens') or () if _is_there(f)]
  found = {}
  if len(folders) < len(arguments.get('tokens') or ()):
    yield 'not all --tokens are there yet, so that they were not looked at'
  elif folders:
    found = {
      name: shards.read_manifest(shards.find_source(folders, name))
      for name in cfg.sources or shards.names(folders, 'train')
    }
    for name, manifest in found.items():
      length = manifest['sequence_length']
      config.check_fits(model, model.vocab_size, length)
      _check_same_tokenizer(name, manifest, vocabulary)
  optimizers.make(cfg.optimizer, cfg.loop.n_steps, params.table(model))
  n_steps, batch_size = cfg.loop.n_steps, cfg.batch_size
  n_tokens = n_steps * batch_size * length
  n_parameters = _count(model)
  flops = n_tokens * params.train_flops_per_token(model, length)
  yield (
    f'{n_tokens:,} tokens in {n_steps} steps of {batch_size} rows of '
    f'{"" if found else "up to "}{length}: {n_tokens / n_parameters:.1f} a '
    f'parameter, {flops:.3g} FLOPs'
  )
  if not found:
    return
  there = [found[name]['sources'][name]['train']['tokens'] for name in found]
  weights = cfg.weights or mixture.by_tokens(there, batch_size)
  n_rows = mixture.rows_of_each(weights, batch_size)
  for name, n_there, n in zip(found, there, n_rows, strict=True):
    n_read = n * n_steps * length
    yield (
      f'{name}: {n} rows of a batch, {n_read:,} tokens of {n_there:,}, '
      f'{n_read / n_there:.2f} epochs'
    )


def fine_tuning(cfg: Any, arguments: Mapping[str, Any]) -> Iterator[str]:
  """The model that is restored, and the tokens of the run."""
  length = cfg.sequence_length
  for model in _restored(arguments):
    yield from _sizes(model)
    if model.max_length < length:
      length = model.max_length
      yield f'rows have {length} tokens, as the model reads no longer ones'
  n = cfg.loop.n_steps * cfg.batch_size * length
  yield (
    f'{n:,} tokens in {cfg.loop.n_steps} steps of {cfg.batch_size} rows of '
    f'{length}'
  )


def reinforcement(cfg: Any, arguments: Mapping[str, Any]) -> Iterator[str]:
  """The parts of the algorithm, the model, and the answers of the run.

  Raises:
    ValueError: if an answer is longer than the model can read.
  """
  algorithm = algorithms.choose(cfg.preset, cfg.algorithm)
  if cfg.preset:
    yield f'preset {cfg.preset}:'
    for field in dataclasses.fields(algorithm):
      yield f'  algorithm.{field.name} = {getattr(algorithm, field.name)!r}'
  for model in _restored(arguments):
    yield from _sizes(model)
    if cfg.max_new_tokens >= model.max_length:
      raise ValueError(
        f'Config.max_new_tokens = {cfg.max_new_tokens} leaves no room for a '
        f'problem in the {model.max_length} tokens of the model; use less'
      )
  n_answers = cfg.loop.n_steps * cfg.n_prompts * cfg.n_samples
  yield (
    f'{n_answers:,} answers in {cfg.loop.n_steps} steps of {cfg.n_prompts} '
    f'problems, {cfg.n_samples} each: up to {n_answers * cfg.max_new_tokens:,} '
    'tokens drawn'
  )


def _sizes(model: config.ModelConfig) -> Iterator[str]:
  counts = params.count(model)
  parts = [
    f'{name} {n:,}'
    for name, n in counts.items()
    if n and name not in ('total', 'active', 'padding')
  ]
  active = f', {counts["active"]:,} active' if model.n_experts else ''
  yield f'{_count(model):,} parameters{active}: {", ".join(parts)}'
  width = model.n_heads * model.head_dim
  if width != model.d_model:
    yield (
      f'{model.n_heads} heads of {model.head_dim} are {width} wide, the model '
      f'{model.d_model}: most models have both equal'
    )
  if not model.n_experts and model.d_ff < model.d_model:
    yield (
      f'd_ff = {model.d_ff} is less than d_model = {model.d_model}: in most '
      'models it is two to four times as much'
    )


def _count(model: config.ModelConfig) -> int:
  counts = params.count(model)
  return counts['total'] - counts['padding']


def _restored(arguments: Mapping[str, Any]) -> Iterator[config.ModelConfig]:
  """The model of --restore_from, if it was given."""
  if arguments.get('restore_from'):
    yield checkpoint.read_model_file(arguments['restore_from'])[0]


def _is_there(folder: str) -> bool:
  return pathlib.Path(folder).exists()


def _check_same_tokenizer(name, manifest, vocabulary) -> None:
  made_by = manifest['tokenizer_fingerprint']
  if vocabulary is not None and made_by != vocabulary.fingerprint:
    raise ValueError(
      f'the tokens of {name} are of tokenizer {made_by}, but --tokenizer is '
      f'{vocabulary.fingerprint}; tokenize again with it, or use the other'
    )
