"""Makes a published checkpoint of Hugging Face one that the stages start from.

  python -m tools.import_hf --from Qwen3-0.6B --workdir runs/qwen
  python -m experiments.chat --restore_from runs/qwen --base

`--from` is a folder with config.json, safetensors and tokenizer.json of Llama,
Qwen2, Qwen3 (also with experts), Mixtral, Gemma 2, Gemma 3 or GPT-2. A
tokenizer that ours cannot represent, such as Gemma's, is refused; `--tokenizer`
gives one of ours in its place. It does NOT fetch anything, and does NOT take
over chat templates.
"""

import jax
import jax.numpy as jnp
import optax
from absl import app, flags

from experiments import process
from llm_jax.interop import huggingface
from llm_jax.model import config, params
from llm_jax.parallel import device_mesh
from llm_jax.tokenizer import encoding
from llm_jax.train import checkpoint, train_state

_FROM = flags.DEFINE_string('from', None, 'Folder of the model.', required=True)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the checkpoint.', required=True
)
_TOKENIZER = flags.DEFINE_string(
  'tokenizer', None, 'Folder of a tokenizer of ours that has the same ids.'
)


def run(source: str, workdir: str, tokenizer: str | None = None) -> None:
  """Read the model and save it as a stage would.

  Args:
    source: folder of the model.
    workdir: folder of the checkpoint.
    tokenizer: folder of a tokenizer of ours; None: the model's is converted.

  Raises:
    ValueError: if the folder, or its tokenizer, is not one that we can read.
  """
  cfg, arrays = huggingface.read(source)
  if tokenizer is None:
    tokenizer = f'{workdir}/tokenizer'
    converted = huggingface.read_tokenizer(source, cfg.vocab_size)
    huggingface.save_tokenizer(source, converted, tokenizer)
  vocabulary = encoding.Tokenizer.load(tokenizer)
  facts = vocabulary.published
  config.check_fits(cfg, vocabulary.vocab_size, 1)
  mesh = device_mesh.make(device_mesh.MeshConfig())
  placed = jax.device_put(arrays, params.shardings(params.table(cfg), mesh))
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
    is_chat=facts is not None and facts.chat_template is not None,
  )
  saver = checkpoint.Checkpointer(workdir)
  saver.save(state)
  saver.close()


def _main(_):
  process.set_up_logging(0)
  try:
    run(_FROM.value, _WORKDIR.value, _TOKENIZER.value)
  except ValueError as error:
    raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
  app.run(_main)
