"""GGUF files: the same parameters and ids as of the folder they came from."""

import dataclasses
import json
import pathlib
import re

import gguf
import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2

from llm_jax.interop import (
  gguf_file,
  gguf_tokenizer,
  huggingface,
  tokenizer_files,
)
from llm_jax.tokenizer import encoding, sentencepiece
from llm_jax.tokenizer import huggingface as tokenizer_json
from tests.interop import huggingface_test, write_gguf
from tests.model import slow_transformer
from tests.tokenizer import train_pieces

GOLDEN = pathlib.Path(__file__).parent / 'golden'
LLAMA = dataclasses.replace(
  slow_transformer.LAYOUTS['llama'], d_model=64, head_dim=32, d_ff=96,
  max_length=128, vocab_size=60, rope_scaling=None,
)  # fmt: skip


@pytest.fixture(scope='module')
def llama(tmp_path_factory):
  """A folder of Llama's class whose rows are long enough for every type."""
  folder = tmp_path_factory.mktemp('llama') / 'folder'
  huggingface.write(folder, LLAMA, huggingface_test.new_params(LLAMA))
  return folder


@pytest.mark.parametrize('name', ['llama', 'gemma3'])
def test_a_file_is_the_folder_that_it_came_from(name, llama, tmp_path):
  folder = llama if name == 'llama' else GOLDEN / name
  write_gguf.write(folder, tmp_path / 'x.gguf')
  cfg, flat, _ = gguf_file.read(tmp_path / 'x.gguf')
  expected_cfg, expected = huggingface.read(folder)
  if name == 'gemma3':  # its file does not hold the odd ones of the test model
    expected_cfg = dataclasses.replace(
      expected_cfg, layer_pattern=cfg.layer_pattern, rope_scaling=None,
      query_pre_attn_scalar=cfg.query_pre_attn_scalar, logit_softcap=0.0,
      local_rope_theta=cfg.local_rope_theta,
    )  # fmt: skip
  assert cfg == expected_cfg
  assert flat.keys() == expected.keys()
  for path, array in flat.items():
    np.testing.assert_allclose(array, expected[path], atol=1e-6, err_msg=path)


@pytest.mark.parametrize(
  'kind', ['F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q5_0']
)
def test_types(kind, llama, tmp_path):
  """Half of a step of the coarsest type: the largest of 32 numbers over 8."""
  number = gguf.GGMLQuantizationType[kind]
  write_gguf.write(llama, tmp_path / 'x.gguf', number)
  cfg, flat, _ = gguf_file.read(tmp_path / 'x.gguf')
  _, expected = huggingface.read(llama)
  bits = {'F16': 11, 'BF16': 8, 'Q8_0': 8, 'Q5_0': 5}.get(kind, 4)
  for path, array in flat.items():
    largest = np.abs(expected[path]).max()
    worst = np.abs(array - expected[path]).max()
    assert worst <= 1.1 * largest / 2 ** (bits - 1), path
    assert array.dtype == np.float32
  wanted = 'bfloat16' if kind == 'BF16' else 'float32'
  assert cfg == dataclasses.replace(LLAMA, dtype=wanted)


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    ({'llama__expert_count': (8, gguf.GGUFValueType.UINT32)},
     'expert_count = 8, unknown for llama'),
    ({'llama__rope__scaling__type': ('yarn', gguf.GGUFValueType.STRING)},
     "the rope scaling 'yarn'; only linear"),
  ],
)  # fmt: skip
def test_what_would_change_the_logits_is_refused(
  more, message, llama, tmp_path
):
  write_gguf.write(llama, tmp_path / 'x.gguf', **more)
  with pytest.raises(ValueError, match=re.escape(message)):
    gguf_file.read(tmp_path / 'x.gguf')


def test_files_that_are_none_are_refused(llama, tmp_path):
  path = tmp_path / 'x.gguf'
  with pytest.raises(ValueError, match='is missing, damaged or no GGUF file'):
    gguf_file.read(path)
  path.write_bytes(b'no such file')
  with pytest.raises(ValueError, match='is missing, damaged or no GGUF file'):
    gguf_file.read(path)
  assert gguf_file.find(tmp_path) == gguf_file.find(path) == path
  assert gguf_file.find(llama) is None
  (tmp_path / 'y.gguf').write_bytes(b'')
  with pytest.raises(ValueError, match='has 2 GGUF files'):
    gguf_file.find(tmp_path)
  writer = gguf.GGUFWriter(path, 'mamba')
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.close()
  with pytest.raises(
    ValueError, match="the architecture 'mamba', which cannot"
  ):
    gguf_file.read(path)


def test_scaling_of_llama_3_is_known_by_its_factors():
  """Of 3.2: computed by transformers' formula, frequency by frequency."""
  factors = []
  for i in range(32):
    wavelength = 2 * np.pi * 500_000 ** (i / 32)
    if wavelength < 8192 / 4:
      factors.append(1.0)
    elif wavelength > 8192:
      factors.append(32.0)
    else:
      smooth = (8192 / wavelength - 1) / 3
      factors.append(1 / ((1 - smooth) / 32 + smooth))

  def scaling(values):
    class Stored:
      data = np.float32(values)

    stored = {'rope_freqs.weight': Stored}
    return gguf_file._scaling({}, {'rope_theta': 500_000.0}, stored)

  assert scaling(factors)['factor'] == 32.0
  with pytest.raises(ValueError, match='is not of a published Llama 3'):
    scaling(np.ones(32) * 2)


def test_tokenizer_and_template_of_a_file(tmp_path):
  """Cut as SmolLM, without a byte, with control, text and unused tokens."""
  folder = tmp_path / 'v'
  vocabulary = encoding.Tokenizer.train(
    ['the cat sat on the mat'] * 9, 330, 'gpt2'
  )
  vocabulary.save(folder)
  values = json.loads((folder / 'tokenizer.json').read_text())
  values['pre_tokenizer'] = tokenizer_json.empty_json('smollm')['pre_tokenizer']
  del values['model']['vocab']['\u0126']  # 0x04
  for token in values['added_tokens'][9:]:
    del values['model']['vocab'][token['content']]
  values['added_tokens'] = values['added_tokens'][:9]
  values['added_tokens'][8]['special'] = False  # <SEARCH_END>
  (folder / 'tokenizer.json').write_text(json.dumps(values))
  (folder / 'config.json').write_text('{"vocab_size": 330}')
  settings = {'bos_token': '<|im_start|>', 'eos_token': '<|im_end|>',
              'chat_template': 'hello'}  # fmt: skip
  (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
  writer = gguf.GGUFWriter(tmp_path / 'x.gguf', 'llama')
  write_gguf.add_byte_level(writer, folder, 'smollm')
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.close()
  fields = gguf.GGUFReader(tmp_path / 'x.gguf').fields
  known = {key: field.contents() for key, field in fields.items()}
  gguf_tokenizer.write(known, tmp_path / 'out')
  got = tokenizer_files.read(tmp_path / 'out', 330)
  text = 'the cat  12 \n sat<SEARCH_END><|im_end|>'
  expected = tokenizer_files.read(folder, 330)
  assert got.encode(text) == expected.encode(text)
  assert got.special_names == expected.special_names
  assert got.eos_ids == (got.special_id('<|im_end|>'),)
  assert got.prefix_ids == ()
  assert got.published.chat_template == 'hello'
  assert got.unused_ids == expected.unused_ids
  with pytest.raises(ValueError, match="cuts text as 'tekken', which is not"):
    gguf_tokenizer.write(
      known | {'tokenizer.ggml.pre': 'tekken'}, tmp_path / 'o'
    )


def test_sentencepiece_of_a_file(tmp_path):
  lines = ['the cat sat on the mat\n'] * 50
  train_pieces.train(lines, tmp_path / 'm.model', 285)
  plain = sentencepiece.SentencePieceTokenizer(tmp_path / 'm.model')
  model = sentencepiece_model_pb2.ModelProto()
  model.ParseFromString((tmp_path / 'm.model').read_bytes())
  known = {
    'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.add_space_prefix': False,
    'tokenizer.ggml.tokens': [p.piece.replace('\u2581', ' ') if p.type == 4
                              else p.piece for p in model.pieces],
    'tokenizer.ggml.scores': [p.score for p in model.pieces],
    # Some call the unknown piece a control token.
    'tokenizer.ggml.token_type': [3 if p.type == 2 else p.type
                                  for p in model.pieces],
    'tokenizer.ggml.bos_token_id': 1, 'tokenizer.ggml.eos_token_id': 2,
    'tokenizer.ggml.eot_token_id': 5, 'tokenizer.ggml.add_bos_token': True,
  }  # fmt: skip
  gguf_tokenizer.write(known, tmp_path / 'out')
  got = tokenizer_files.read(tmp_path / 'out', 288)
  text = 'the cat 12 é\n'
  assert got.encode(text) == plain.encode(text)
  assert (got.prefix_ids, got.eos_ids) == ((1,), (5, 2))
  assert got.unused_ids == (285, 286, 287)
