"""GGUF files that we write, as they are read back and in llama.cpp itself."""

import dataclasses
import json
import random
import urllib.request

import gguf
import numpy as np
import pytest

from llm_jax.chat import formats
from llm_jax.infer import generate, reading
from llm_jax.interop import (
  gguf_file,
  gguf_tokenizer,
  huggingface,
  tokenizer_files,
)
from llm_jax.model import config
from llm_jax.parallel import device_mesh
from llm_jax.tokenizer import encoding, loading
from tests.interop import huggingface_test
from tests.model import slow_transformer
from tools import export_gguf

TEXTS = (
  'Once upon a time, ',
  "I'm 12 + 345 = 357!",
  ' naïve  日本語\n\n\tx',
  '👩‍🔬<|im_end|>',
)
PIECES = (
  *TEXTS, ' ', '  ', '\n', '\r\n', '9', '1234', 'ﬁ', 'e\u0301', 'ÄÖ', "'LL",
  '\u00a0', '</s>', '<|im_start|>', '_', 'def f(x):\n  return x', 'العربية',
)  # fmt: skip


@pytest.fixture(scope='module')
def tokenizer_dir(tmp_path_factory):
  """A vocabulary of ours with some merges, which reach over characters."""
  folder = tmp_path_factory.mktemp('tokenizer') / 'own'
  encoding.Tokenizer.train([' '.join(PIECES * 9)], 400).save(folder)
  return folder


def model(tokenizer_dir, layout, **more):
  """A tiny model, with rows that every type takes, and its parameters."""
  cfg = dataclasses.replace(
    slow_transformer.LAYOUTS[layout], d_model=64, n_layers=2, n_heads=4,
    n_kv_heads=2, head_dim=32, d_ff=96, max_length=256,
    vocab_size=loading.load(tokenizer_dir).vocab_size,
    **{'rope_scaling': None} | more,
  )  # fmt: skip
  return cfg, huggingface_test.new_params(cfg)


def export(own, tokenizer_dir, path, kind='F32', is_chat=False):
  """Write a file, and the folder that it is made of beside it."""
  huggingface.write(
    path.with_suffix(''), *own, tokenizer_dir=tokenizer_dir, is_chat=is_chat
  )
  export_gguf.write(path, path.with_suffix(''), kind)
  return path


@pytest.mark.parametrize(
  ('layout', 'more'),
  [
    ('qwen3', {}),
    ('qwen2', {}),
    ('llama', {}),
    (
      'llama',
      {'rope_scaling': config.RopeScaling('llama3', 8.0, 1.0, 4.0, 8192)},
    ),
    ('llama', {'rope_scaling': config.RopeScaling('linear', 2.0)}),
  ],
)
def test_what_is_written_is_what_is_read(layout, more, tokenizer_dir, tmp_path):
  own = model(tokenizer_dir, layout, **more)
  path = export(own, tokenizer_dir, tmp_path / 'x.gguf')
  cfg, flat, known = gguf_file.read(path)
  expected_cfg, expected = huggingface.read(tmp_path / 'x')
  assert cfg == expected_cfg
  for name, array in flat.items():
    np.testing.assert_allclose(array, expected[name], atol=1e-6, err_msg=name)
  gguf_tokenizer.write(known, tmp_path / 'tokens')
  found = tokenizer_files.read(tmp_path / 'tokens', cfg.vocab_size)
  theirs = tokenizer_files.read(tmp_path / 'x', cfg.vocab_size)
  assert found.prefix_ids == theirs.prefix_ids
  assert found.eos_ids == theirs.eos_ids
  # A file that is cut as Qwen's is read with its form NFC.
  composed = [text for text in PIECES if text != 'e\u0301']
  assert [found.encode(text) for text in composed] == [
    theirs.encode(text) for text in composed
  ]
  assert list(tmp_path.glob('.*')) == []  # nothing unfinished
  with pytest.raises(FileExistsError, match=r'x\.gguf exists'):
    export_gguf.write(path, tmp_path / 'x', 'F32')


@pytest.mark.parametrize('kind', ['F16', 'BF16', 'Q8_0', 'Q4_0'])
def test_types(kind, tokenizer_dir, tmp_path):
  own = model(tokenizer_dir, 'qwen3')
  path = export(own, tokenizer_dir, tmp_path / 'x.gguf', kind)
  stored, known = gguf_file.opened(path)
  kinds = {t.name: t.tensor_type.name for t in stored.values()}
  assert kinds['token_embd.weight'] == kinds['blk.1.ffn_up.weight'] == kind
  assert kinds['blk.0.attn_q_norm.weight'] == 'F32'
  wanted = gguf.LlamaFileType[f'MOSTLY_{kind}']
  assert known['general.file_type'] == wanted


@pytest.mark.parametrize(
  ('layout', 'more', 'message'),
  [
    ('gpt2', {'n_kv_heads': 4}, 'of the class gpt2 cannot be written as GGUF'),
    ('qwen2', {'layer_pattern': 'LG', 'window': 16}, 'no layer_pattern'),
  ],
)
def test_another_model_is_refused(
  layout, more, message, tokenizer_dir, tmp_path
):
  own = model(tokenizer_dir, layout)
  cfg = dataclasses.replace(own[0], **{'head_dim': 16, **more})
  own = cfg, huggingface_test.new_params(cfg)
  with pytest.raises(ValueError, match=message):
    export(own, tokenizer_dir, tmp_path / 'x.gguf')
  assert [path.name for path in tmp_path.iterdir()] == ['x']


def llama_cpp(path):
  """A server of llama.cpp: ask(name of the request, its values)."""
  xllamacpp = pytest.importorskip('xllamacpp')
  settings = xllamacpp.CommonParams()
  settings.model.path = str(path)
  settings.n_ctx, settings.n_parallel, settings.use_jinja = 256, 1, True
  # As exact as ours: else keys and values have 16 bits.
  settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type(0)
  settings.flash_attn_type = xllamacpp.llama_flash_attn_type(0)
  server = xllamacpp.Server(settings)

  def ask(name, **values):
    request = urllib.request.Request(
      f'{server.listening_address}/{name}',
      json.dumps(values).encode(),
      {'Content-Type': 'application/json'},
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
      return json.loads(answer.read())

  return ask


def read_back(path):
  """The model of a file as a user of ours has it, in float32."""
  cfg, flat, _ = gguf_file.read(path)
  mesh = device_mesh.make(device_mesh.MeshConfig(data=1))
  placed = huggingface.place(cfg, flat, mesh)
  return dataclasses.replace(cfg, dtype='float32'), placed


@pytest.mark.parametrize('layout', ['qwen3', 'llama'])
def test_llama_cpp_gives_the_same_tokens(layout, tokenizer_dir, tmp_path):
  """Of 32 prompts 24 greedy tokens each."""
  own = model(tokenizer_dir, layout)
  path = export(own, tokenizer_dir, tmp_path / 'x.gguf')
  cfg, placed = read_back(path)
  draw = np.random.default_rng(0)
  prompts = [
    draw.integers(0, 256, draw.integers(2, 30)).tolist() for _ in range(32)
  ]
  end = loading.load(tokenizer_dir).eos_ids
  answers = generate.generate(
    cfg,
    placed,
    prompts=prompts,
    seeds=[0] * 32,
    request=generate.Request(24, end, temperature=0.0),
    batch_size=32,
  )
  ask = llama_cpp(path)
  for prompt, answer in zip(prompts, answers, strict=True):
    theirs = ask('completion', prompt=prompt, n_predict=24, temperature=0,
                 return_tokens=True)  # fmt: skip
    assert theirs['tokens'] == answer.token_ids


@pytest.mark.parametrize(
  ('kind', 'at_most'),
  [('F16', 0.02), ('BF16', 0.1), ('Q8_0', 0.4), ('Q4_0', 0.4)],
)
def test_llama_cpp_runs_all_types(kind, at_most, tokenizer_dir, tmp_path):
  """It rounds what it multiplies with such matrices to that type, too."""
  own = model(tokenizer_dir, 'qwen3')
  path = export(own, tokenizer_dir, tmp_path / 'x.gguf', kind)
  ask, apart = llama_cpp(path), []
  for start in range(20):
    prompt = [*range(start, start + 20)]
    found = ask('completion', prompt=prompt, n_predict=1, n_probs=5)
    # Half a character comes without its probability.
    for one in found.get('completion_probabilities', ()):
      pairs = [(prompt, [top['id']]) for top in one['top_logprobs']]
      ours = reading.logp(*read_back(path), pairs, batch_size=5)
      theirs = [[top['logprob']] for top in one['top_logprobs']]
      apart += np.abs(np.subtract(ours, theirs)).ravel().tolist()
  print(f'{kind}: {np.mean(apart):.3f} nats apart in the mean')
  assert len(apart) >= 15
  assert np.mean(apart) < at_most


@pytest.mark.parametrize('is_chat', [True, False])
def test_llama_cpp_gives_the_same_ids(is_chat, tokenizer_dir, tmp_path):
  """Of 400 texts, and of conversations; no text makes a control token."""
  own = model(tokenizer_dir, 'qwen3')
  path = export(own, tokenizer_dir, tmp_path / 'x.gguf', is_chat=is_chat)
  ask, draw = llama_cpp(path), random.Random(0)
  tokenizer = loading.load(tokenizer_dir)
  texts = [''.join(draw.choices(PIECES, k=8)) for _ in range(400)]
  for text in texts:
    assert ask('tokenize', content=text, parse_special=False)['tokens'] == (
      tokenizer.encode(text)
    )
  prefix = [] if is_chat else [*tokenizer.prefix_ids]
  whole = ask('tokenize', content='a', add_special=True)['tokens']
  assert whole == [*prefix, *tokenizer.encode('a')]  # at most one BOS
  if not is_chat:
    return
  chat_format = formats.choose(tokenizer, is_chat=True)
  for text in texts[:50]:
    messages = [{'role': 'user', 'content': text.replace('<|', '<')}]
    prompt = ask('apply-template', messages=messages)['prompt']
    theirs = ask('tokenize', content=prompt, parse_special=True,
                 add_special=True)  # fmt: skip
    assert chat_format.prompt(messages) == theirs['tokens']
