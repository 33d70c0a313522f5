"""A checkpoint of a tiny model that was never trained, for tests."""

import dataclasses
import functools
import pathlib

import numpy as np
import optax

from llm_jax import types
from llm_jax.chat import usages
from llm_jax.data import shards
from llm_jax.model import config as model_config
from llm_jax.model import params, transformer
from llm_jax.parallel import device_mesh
from llm_jax.tokenizer import encoding, text_tokenizer
from llm_jax.train import checkpoint, train_state

MODEL = model_config.ModelConfig(
  vocab_size=320,
  n_layers=1,
  d_model=16,
  n_heads=1,
  n_kv_heads=1,
  head_dim=16,
  d_ff=16,
  max_length=128,
)


def tokenizer() -> encoding.Tokenizer:
  """A vocabulary of single bytes."""
  return encoding.Tokenizer.from_merges([], 'qwen2')


def favouring(start: types.Params, letter: str) -> types.Params:
  """Parameters under which a letter is always the likeliest token.

  All hidden states become alike, and one token's row agrees with them.
  """
  head_VD = np.zeros_like(start['head'])
  head_VD[tokenizer().encode(letter)[0]] = 1
  ones_VD = np.ones_like(start['embedding'])
  return {**start, 'head': head_VD, 'embedding': ones_VD}


def write(
  folder: pathlib.Path,
  is_chat: bool,
  seed: int = 0,
  favourite: str = '',
  usage: usages.Usage = usages.UNKNOWN,
) -> pathlib.Path:
  """Save a model with random parameters as a finished stage would.

  Args:
    folder: of the stage.
    is_chat: whether it calls itself an assistant.
    seed: of the parameters.
    favourite: a letter that the model always prefers.
    usage: what it says that it was trained to be asked.

  Returns:
    The folder.
  """
  vocabulary = tokenizer()
  vocabulary.save(folder / 'vocabulary')
  mesh = device_mesh.make(device_mesh.MeshConfig(data=1))
  state = train_state.create(
    functools.partial(transformer.init, MODEL),
    optax.sgd(0.0),
    seed=seed,
    mesh=mesh,
    lines=params.table(MODEL),
  )
  if favourite:
    new = favouring(state.params, favourite)
    state = dataclasses.replace(state, params=new)
  saver = checkpoint.Checkpointer(str(folder))
  checkpoint.save_model_files(
    str(folder),
    'sft' if is_chat else 'pretrain',
    MODEL,
    tokenizer_dir=str(folder / 'vocabulary'),
    is_chat=is_chat,
    usage=usage,
  )
  saver.save(state)
  saver.close()
  return folder


def write_tokens(
  folder: pathlib.Path,
  sources: dict[str, dict[str, list[str]]],
  sequence_length: int = 32,
  vocabulary: text_tokenizer.TextTokenizer | None = None,
) -> pathlib.Path:
  """Write texts as a folder of token shards.

  Args:
    folder: of the shards.
    sources: documents by source and split.
    sequence_length: of the rows.
    vocabulary: None: that of the checkpoint.

  Returns:
    The folder.
  """
  vocabulary = vocabulary or tokenizer()
  end = vocabulary.separator_id
  layout = shards.Layout(sequence_length, end, vocabulary.vocab_size)
  entries: dict[str, dict] = {}
  for source, splits in sources.items():
    (folder / source).mkdir(parents=True)
    entries[source] = {}
    for split, texts in splits.items():
      path = folder / source / f'{split}-00000.array_record'
      writer = shards.ShardWriter(path, layout)
      for text in texts:
        writer.add(vocabulary.encode(text), len(text.encode()))
      entries[source][split] = [writer.close()]
  shards.write_manifest(
    folder,
    shards=entries,
    tokenizer_fingerprint=vocabulary.fingerprint,
    layout=layout,
  )
  return folder
