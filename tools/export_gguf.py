"""Writes a checkpoint as a GGUF file, for llama.cpp, LM Studio and Ollama.

  python -m tools.export_gguf --restore_from runs/speedrun/sft \
    --to out/sft.gguf
  python -m tools.export_gguf --restore_from runs/smol --to out/smol-q8.gguf \
    --type Q8_0

The file holds the model, its tokenizer and, of an assistant, its chat template.
A model that llama.cpp has no architecture for is refused, by the option's name.
"""

import pathlib
import tempfile

from absl import app, flags

from experiments import process
from llm_jax.interop import gguf_export, huggingface
from llm_jax.train import checkpoint


def _define_flags() -> None:
  """When it is the program: another tool has flags of the same names."""
  flags.DEFINE_string(
    'restore_from', None, 'Folder of the stage.', required=True
  )
  flags.DEFINE_string('to', None, 'File to write.', required=True)
  flags.DEFINE_enum('type', 'F16', gguf_export.TYPES, 'Of the matrices.')


def export(restore_from: str, to: str, kind: str) -> None:
  """Write the newest checkpoint of a stage.

  Args:
    restore_from: folder of the stage.
    to: file to write, which must not exist.
    kind: of gguf_export.TYPES.

  Raises:
    OSError, ValueError: see gguf_export.write and huggingface.write.
  """
  model, path = checkpoint.load_model(restore_from), pathlib.Path(to)
  path.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
    folder = pathlib.Path(scratch, path.stem)
    huggingface.write(
      folder,
      model.model_config,
      model.params,
      tokenizer_dir=model.tokenizer_dir,
      is_chat=model.is_chat,
    )
    gguf_export.write(path, folder, kind)


def main(_) -> None:
  """Export, as the flags say."""
  process.set_up_logging(0)
  args = flags.FLAGS
  try:
    export(args.restore_from, args.to, args.type)
  except (OSError, ValueError) as error:
    raise SystemExit(f'error: {error}') from None
  print(f'{args.to}: {pathlib.Path(args.to).stat().st_size:,} bytes')


if __name__ == '__main__':
  _define_flags()
  app.run(main)
