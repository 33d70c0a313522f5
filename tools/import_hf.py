"""Makes a published model a checkpoint that the stages start from.

  python -m tools.import_hf --from SmolLM2-135M-Instruct --workdir runs/smol
  python -m tools.import_hf --from SmolLM2.Q4_1.gguf --workdir runs/smol
  python -m experiments.chat --restore_from runs/smol

`--from` is a folder with config.json, safetensors and tokenizer.json or
tokenizer.model of Llama, Qwen2, Qwen3 (also with experts), Mixtral, Gemma 2,
Gemma 3 or GPT-2, or a GGUF file of Llama, Qwen2, Qwen3, Gemma 2 or Gemma 3,
whose numbers become float32. What the files say of tokens and conversations is
kept. `--grow` gives the vocabulary the control tokens of our own conversations;
a tokenizer that ours cannot represent is refused, and `--tokenizer` gives one
in its place. It does NOT fetch anything.
"""

import dataclasses
import tempfile

import jax
import jax.numpy as jnp
import optax
from absl import app, flags

from experiments import process
from llm_jax.interop import (
  gguf_file,
  gguf_tokenizer,
  huggingface,
  tokenizer_files,
)
from llm_jax.model import config
from llm_jax.parallel import device_mesh
from llm_jax.tokenizer import loading
from llm_jax.train import checkpoint, train_state

_FROM = flags.DEFINE_string(
  'from', None, 'Folder or GGUF file of the model.', required=True
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the checkpoint.', required=True
)
_TOKENIZER = flags.DEFINE_string(
  'tokenizer', None, 'Folder of a tokenizer of ours that has the same ids.'
)
_GROW = flags.DEFINE_bool(
  'grow', False, 'Add our control tokens, as rows where ids are missing.'
)


def run(
  source: str, workdir: str, tokenizer: str | None = None, grow: bool = False
) -> None:
  """Read the model and save it as a stage would.

  Its parameters lie on all devices, each part on one.

  Args:
    source: folder or GGUF file of the model.
    workdir: folder of the checkpoint.
    tokenizer: folder of a tokenizer of ours; None: the model's is converted.
    grow: whether the vocabulary gets our control tokens in any case.

  Raises:
    ValueError: if the model, or its tokenizer, is not one that we can read.
  """
  path, metadata = gguf_file.find(source), None
  if path is None:
    cfg, flat = huggingface.read(source)
  else:
    cfg, flat, metadata = gguf_file.read(path)
  if tokenizer is None:
    tokenizer = f'{workdir}/tokenizer'
    with tempfile.TemporaryDirectory() as scratch:
      if metadata is not None:
        gguf_tokenizer.write(metadata, scratch)
        source = scratch
      read = tokenizer_files.read(source, cfg.vocab_size, grow)
      tokenizer_files.save(source, read, tokenizer)
    cfg, flat = huggingface.grow(cfg, flat, read.vocab_size)
  vocabulary = loading.load(tokenizer)
  config.check_fits(cfg, vocabulary.vocab_size, 1)
  cfg = dataclasses.replace(cfg, unused_ids=vocabulary.unused_ranges)
  mesh = device_mesh.make(
    device_mesh.MeshConfig(data=1, fsdp=jax.device_count())
  )
  placed = huggingface.place(cfg, flat, mesh)
  state = train_state.TrainState(
    step=jnp.int32(0),
    params=placed,
    opt_state=optax.sgd(0.0).init(placed),
    key=jax.random.key(0),
    n_skipped=jnp.int32(0),
  )
  checkpoint.save_model_files(
    workdir,
    stage='import',
    cfg=cfg,
    tokenizer_dir=tokenizer,
    is_chat=vocabulary.chat_template is not None,
  )
  saver = checkpoint.Checkpointer(workdir)
  saver.save(state)
  saver.close()


def _main(_):
  process.set_up_logging(0)
  try:
    run(
      _FROM.value,
      _WORKDIR.value,
      tokenizer=_TOKENIZER.value,
      grow=_GROW.value,
    )
  except ValueError as error:
    raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
  app.run(_main)
