"""Writes a checkpoint as a GGUF file, for llama.cpp, LM Studio and Ollama.

  python -m tools.export_gguf --restore_from runs/speedrun/sft \
    --to out/sft.gguf
  python -m tools.export_gguf --restore_from runs/smol --to out/smol-q8.gguf \
    --type Q8_0

The file holds the model, its tokenizer and, of an assistant, its chat template,
as interop/gguf_file.py reads them: the rows of queries and keys of the Llama
class in pairs, Gemma's norms as 1 + weight. The header is read back before the
file appears, and a model that llama.cpp has no architecture for, or that the
header would describe otherwise, is refused, by the option's name.
"""

import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import gguf
import numpy as np
import tokenizers
from absl import app, flags
from safetensors import numpy as safetensors_numpy

from experiments import process
from llm_jax import files
from llm_jax.interop import (
  families,
  gguf_file,
  huggingface,
  tokenizer_files,
)
from llm_jax.tokenizer import huggingface as tokenizer_json
from llm_jax.tokenizer import (
  published,
  published_json,
  sentencepiece,
  specials,
)
from llm_jax.train import checkpoint

TYPES = ('F32', 'F16', 'BF16', 'Q8_0', 'Q4_0')  # of matrices
# Ids behind `tokenizer.ggml.`, of what ends an answer; see gguf_tokenizer.py.
_ENDS = {0: [], 1: ['eos'], 2: ['eot', 'eos'], 3: ['eot', 'eom', 'eos']}
_FILLS = {
  'fim_pre': specials.FIM_PREFIX,
  'fim_mid': specials.FIM_MIDDLE,
  'fim_suf': specials.FIM_SUFFIX,
}
# Every way to cut text that is known cuts it in a way of its own.
_PROBE = (
  "I'LL buy 12345 ÄPFELn at 3.50€!?\r\n\n\tdef  f(x):\n  日本語か don't/\n"
)
_NO_LAYOUT = ('dtype', 'unused_ids', 'unroll_layers', 'remat')


def write(path: files.Name, folder: files.Name, kind: str) -> None:
  """Write a model.

  Args:
    path: of the file; it must not exist.
    folder: that huggingface.write has written, with its tokenizer.
    kind: of TYPES. Vectors stay F32, and F16 takes the place of a quantised
      type where rows are no multiple of its blocks.

  Raises:
    FileExistsError: if the file exists.
    ValueError: if llama.cpp has no architecture or tokenizer for the model, or
      its file would describe another one, with what differs.
  """
  path, folder = pathlib.Path(path), pathlib.Path(folder)
  if path.exists():
    raise FileExistsError(f'{path} exists; give a new file')
  values = files.read_object(folder / 'config.json')
  rows = gguf_file.tables()['architectures']
  by_type = {row['model_type']: name for name, row in rows.items()}
  if values['model_type'] not in by_type:
    raise ValueError(
      f'a model of the class {values["model_type"]} cannot be written as GGUF, '
      f'only one of {", ".join(by_type)}'
    )
  unfinished = files.unfinished(path)
  writer = gguf.GGUFWriter(unfinished, by_type[values['model_type']])
  writer.add_name(path.stem)
  share = 'ALL' if kind == 'F32' else 'MOSTLY'
  writer.add_file_type(gguf.LlamaFileType[f'{share}_{kind}'])
  _add_sizes(writer, values)
  _add_tokens(writer, folder, values['vocab_size'])
  _add_tensors(writer, folder, values=values, kind=kind)
  try:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _check(unfinished, values)
    files.put_in_place(unfinished, path)
  finally:
    unfinished.unlink(missing_ok=True)


def _add_sizes(writer: gguf.GGUFWriter, values: Mapping[str, Any]) -> None:
  known = gguf_file.tables()
  row = known['architectures'][writer.arch]
  sizes = {
    key: values[name]
    for key, name in (known['keys'] | row.get('keys', {})).items()
    if values.get(name) is not None
  }
  head_dim = values['head_dim']
  sizes |= {
    'attention.value_length': head_dim,
    'rope.dimension_count': head_dim,
  }
  scaling = values.get('rope_scaling') or {}
  if scaling.get('rope_type') == 'linear':
    sizes |= {'rope.scaling.factor': scaling['factor']}
    writer.add_string(f'{writer.arch}.rope.scaling.type', 'linear')
  for key, value in sizes.items():
    is_float = isinstance(value, float)
    add = writer.add_float32 if is_float else writer.add_uint32
    add(f'{writer.arch}.{key}', value)


def _add_tensors(
  writer: gguf.GGUFWriter,
  folder: pathlib.Path,
  values: Mapping[str, Any],
  kind: str,
) -> None:
  cfg = families.from_json(values)
  names = gguf.get_tensor_name_map(
    gguf.MODEL_ARCH[writer.arch.upper()], cfg.n_layers
  )
  scaling = values.get('rope_scaling') or {}
  if scaling.get('rope_type') == 'llama3':
    writer.add_tensor(
      gguf_file.FREQUENCIES,
      gguf_file.llama3_factors(
        cfg.rope_theta, cfg.head_dim // 2, scaling['factor']
      ).astype(np.float32),
    )
  for file in sorted(folder.glob('*.safetensors')):
    for name, array in safetensors_numpy.load_file(file).items():
      array = np.asarray(array, np.float32)
      if writer.arch == 'llama' and 'self_attn.' in name:
        array = gguf_file.in_pairs(array, name, cfg)
      if writer.arch.startswith('gemma') and 'norm.weight' in name:
        array = array + 1
      wanted = gguf.GGMLQuantizationType[kind if array.ndim == 2 else 'F32']
      block, _ = gguf.GGML_QUANT_SIZES[wanted]
      if array.shape[-1] % block:
        wanted = gguf.GGMLQuantizationType.F16
      data = gguf.quants.quantize(array, wanted)
      theirs = names.get_name(name, try_suffixes=('.weight', '.bias'))
      writer.add_tensor(theirs, data, raw_dtype=wanted)


def _add_tokens(
  writer: gguf.GGUFWriter, folder: pathlib.Path, n_tokens: int
) -> None:
  tokenizer = tokenizer_files.read(folder, n_tokens)
  if isinstance(tokenizer, sentencepiece.SentencePieceTokenizer):
    writer.add_tokenizer_model('llama')
    pieces = tokenizer.pieces
    writer.add_add_space_prefix(tokenizer.begins_with_blank)
    writer.add_token_scores([score for _, score, _ in pieces])
  else:
    known = published_json.read(folder)
    writer.add_tokenizer_model('gpt2')
    writer.add_tokenizer_pre(_pre(known))
    merges = known['model']['merges']
    writer.add_token_merges(
      [m if isinstance(m, str) else ' '.join(m) for m in merges]
    )
    pieces = _pieces(known, n_tokens)
  writer.add_token_list([text for text, *_ in pieces])
  writer.add_token_types([kind for *_, kind in pieces])
  facts = published.read(
    folder, {text: i for i, (text, *_) in enumerate(pieces)}
  )
  ids = dict(
    zip(_ENDS[min(len(facts.eos_ids), 3)], facts.eos_ids, strict=False)
  )
  ids |= dict(zip(['bos'], facts.prefix_ids, strict=False))
  known_names = set(tokenizer.special_names)
  ids |= {
    key: tokenizer.special_id(name)
    for key, name in _FILLS.items()
    if name in known_names
  }
  for key, token_id in ids.items():
    writer.add_uint32(f'tokenizer.ggml.{key}_token_id', token_id)
  writer.add_add_bos_token(bool(facts.prefix_ids))
  if facts.chat_template is not None:
    writer.add_chat_template(facts.chat_template)


def _pieces(known: Mapping[str, Any], n: int) -> list[sentencepiece.Piece]:
  """The tokens of a byte-level tokenizer.json; gaps get a name of their own."""
  added = {token['content']: token for token in known['added_tokens']}
  ids = known['model']['vocab'] | {name: t['id'] for name, t in added.items()}
  found = [(f'[PAD{i}]', 0.0, sentencepiece.UNUSED) for i in range(n)]
  for name, i in ids.items():
    kind = sentencepiece.NORMAL
    if name in added:
      is_control = added[name]['special']
      kind = sentencepiece.CONTROL if is_control else sentencepiece.USER_DEFINED
    found[i] = name, 0.0, kind
  return found


def _pre(known: Mapping[str, Any]) -> str:
  """How llama.cpp calls the way that a tokenizer.json cuts text."""

  def cuts(values: Mapping[str, Any]) -> list[Any]:
    library = tokenizers.Tokenizer.from_str(json.dumps(values))
    return library.pre_tokenizer.pre_tokenize_str(_PROBE)

  empty = tokenizer_json.empty_json('gpt2')
  wanted = cuts({**empty, 'pre_tokenizer': known['pre_tokenizer']})
  patterns = gguf_file.tables()['patterns']
  for pre, pattern in patterns.items():
    if cuts(tokenizer_json.empty_json(pattern)) == wanted:
      return pre
  raise ValueError(
    'llama.cpp knows no name for how tokenizer.json cuts text; only for '
    f'{", ".join(dict.fromkeys(patterns.values()))}'
  )


def _check(path: pathlib.Path, values: Mapping[str, Any]) -> None:
  """Refuse a file whose header describes another model."""
  stored, known = gguf_file.opened(path)
  has = families.from_json(gguf_file.config_values(known, stored))
  for name, wanted in vars(families.from_json(values)).items():
    if name not in _NO_LAYOUT and getattr(has, name) != wanted:
      raise ValueError(
        f'a GGUF file of the architecture {known["general.architecture"]} has '
        f'no {name} = {wanted!r}, but {getattr(has, name)!r}'
      )


def _define_flags() -> None:
  """When it is the program: another tool has flags of the same names."""
  flags.DEFINE_string(
    'restore_from', None, 'Folder of the stage.', required=True
  )
  flags.DEFINE_string('to', None, 'File to write.', required=True)
  flags.DEFINE_enum('type', 'F16', TYPES, 'Of the matrices.')


def export(restore_from: str, to: str, kind: str) -> None:
  """Write the newest checkpoint of a stage.

  Args:
    restore_from: folder of the stage.
    to: file to write, which must not exist.
    kind: of TYPES.

  Raises:
    OSError, ValueError: see write and huggingface.write.
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
    write(path, folder, kind)


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
