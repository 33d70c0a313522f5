"""Writes a checkpoint as a folder that Hugging Face transformers loads.

  python -m tools.export_hf --restore_from runs/speedrun/pretrain --to out/base
  python -m tools.export_hf --restore_from runs/qwen --to out/q --dtype bfloat16

The folder holds config.json, generation_config.json, safetensors, the tokenizer
and, of an assistant, its chat template. A model with an option that no
published class has is refused, by the option's name. It does NOT upload.
"""

from absl import app, flags

from experiments import process
from llm_jax.interop import huggingface
from llm_jax.train import checkpoint

_RESTORE_FROM = flags.DEFINE_string(
  'restore_from', None, 'Folder of the stage.', required=True
)
_TO = flags.DEFINE_string('to', None, 'Folder to write.', required=True)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16', 'float16'], 'Of the tensors.'
)


def _main(_):
  process.set_up_logging(0)
  try:
    model = checkpoint.load_model(_RESTORE_FROM.value)
    huggingface.write(
      _TO.value,
      model.model_config,
      model.params,
      tokenizer_dir=model.tokenizer_dir,
      is_chat=model.is_chat,
      dtype=_DTYPE.value,
    )
  except (ValueError, OSError) as error:
    raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
  app.run(_main)
