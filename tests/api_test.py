"""A model from Python: the same answers as the recipes give."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import llm_jax
from llm_jax.infer import generate
from llm_jax.interop import huggingface
from llm_jax.model import config as model_config
from tests.evals import tiny_checkpoint
from tests.model import start_params

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLING = {'max_new_tokens': 5, 'batch_size': 2}


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('made')
  tiny_checkpoint.write(folder / 'base', is_chat=False)
  tiny_checkpoint.write(folder / 'chat', is_chat=True)
  return folder


@pytest.fixture(name='base', scope='module')
def _base(folder):
  return llm_jax.load(folder / 'base')


def test_generate_is_the_engine(base):
  """Text i as the engine continues it with seed + i."""
  texts = ['some text', 'a', '']
  start = base.tokenizer.special_id('<|endoftext|>')
  for temperature, seed in ((0.0, 0), (1.0, 7)):
    found = base.generate(texts, temperature=temperature, seed=seed, **SAMPLING)
    answers = generate.generate(
      base.config,
      base.params,
      prompts=[[start, *base.tokenizer.encode(text)] for text in texts],
      seeds=[seed, seed + 1, seed + 2],
      request=generate.Request(5, (start,), temperature=temperature),
      batch_size=2,
    )
    assert found == [
      base.tokenizer.decode(
        i for i in one.token_ids if i not in base.tokenizer.special_ids
      )
      for one in answers
    ]
  assert base.generate([]) == []


def test_stop_texts_end_an_answer_and_are_no_part_of_it(tmp_path):
  tiny_checkpoint.write(tmp_path, is_chat=False, favourite='x')
  model = llm_jax.load(str(tmp_path))
  assert model.generate(['a'], temperature=0, max_new_tokens=4) == ['xxxx']
  stopped = model.generate(['a'], temperature=0, stop=['y', 'xx'])
  assert stopped == ['']
  # More than the model can read at once.
  (text,) = model.generate(['a'], temperature=0, max_new_tokens=200)
  assert text == 'x' * 200


def test_chat(folder):
  model = llm_jax.load(folder / 'chat')
  messages = [{'role': 'user', 'content': 'Hi'}]
  first = model.chat(messages, temperature=0, max_new_tokens=5)
  assert first == model.chat(messages, temperature=0, max_new_tokens=5)
  # A limit above what fits gives what fits: 128 tokens with the prompt.
  assert isinstance(model.chat(messages, max_new_tokens=10**6), str)
  with pytest.raises(ValueError, match='exceeds the 128 tokens of a row'):
    model.chat([{'role': 'user', 'content': 'x' * 130}])
  with pytest.raises(ValueError, match='nothing to answer'):
    model.chat([*messages, {'role': 'assistant', 'content': 'Yes'}])


def test_a_base_model_does_not_chat(base):
  with pytest.raises(ValueError, match='not trained on conversations; use gen'):
    base.chat([{'role': 'user', 'content': 'Hi'}])


def test_logprobs_and_embeddings(base):
  texts = ['some text', '', 'other']
  found = base.logprobs(texts, batch_size=2)
  assert [len(x) for x in found] == [9, 0, 5]
  (alone,) = base.logprobs(['other'])
  np.testing.assert_allclose(found[2], alone, atol=1e-5)
  assert (found[0] < 0).all()
  rows = base.embed(['some text', 'other', 'other'], batch_size=2)
  assert rows.shape == (3, 16)
  np.testing.assert_allclose(rows[1], rows[2], atol=1e-5)
  assert not np.allclose(rows[0], rows[1], atol=1e-2)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda m: m.generate('one'), "one text 'one'; put it into a list"),
    (lambda m: m.logprobs('one'), 'put it into a list'),
    (lambda m: m.embed('one'), 'put it into a list'),
    (lambda m: m.generate(['a'], stop='x'), 'put it into a list'),
    (lambda m: m.generate(['a'], temperature=-1), 'temperature -1; use'),
    (lambda m: m.generate(['a' * 128]), 'exceeds the 128 tokens'),
    (lambda m: m.logprobs(['a' * 128]), 'no more than 128 together'),
    (lambda m: m.embed(['a', '']), 'one of each at least'),
  ],
)
def test_what_is_refused(call, message, base):
  with pytest.raises(ValueError, match=message):
    call(base)


def test_a_folder_without_a_model(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no checkpoint of a model'):
    llm_jax.load(tmp_path)


def test_a_published_model(tmp_path, base):
  """Our export of a model of Qwen3's class, with its tokenizer."""
  cfg = model_config.ModelConfig(
    vocab_size=320, n_layers=1, d_model=16, n_heads=1, n_kv_heads=1,
    head_dim=16, d_ff=16, max_length=128,
  )  # fmt: skip
  params = start_params.init(cfg)
  tiny_checkpoint.tokenizer().save(tmp_path / 'vocabulary')
  huggingface.write(
    tmp_path / 'published', cfg, params, tokenizer_dir=tmp_path / 'vocabulary'
  )
  model = llm_jax.load(tmp_path / 'published')
  own = llm_jax.Model(cfg, params, base.tokenizer, base.chat_format)
  for text in ('some text', 'äöü'):
    ids = model.tokenizer.encode(text)
    assert ids == base.tokenizer.encode(text)
    assert model.tokenizer.decode(ids) == text
    np.testing.assert_allclose(
      model.logprobs([text])[0], own.logprobs([text])[0], atol=1e-4
    )


def test_the_notebook_runs(folder):
  """Every cell, on a checkpoint of this test, in a Python of its own."""
  path = ROOT / 'examples' / 'ask_a_model.ipynb'
  cells = json.loads(path.read_text(encoding='utf-8'))['cells']
  code = [cell for cell in cells if cell['cell_type'] == 'code']
  assert len(code) >= 3
  for cell in code:
    assert not cell['outputs'], 'clear the outputs before a commit'
  done = subprocess.run(
    [sys.executable, '-c', '\n'.join(''.join(c['source']) for c in code)],
    env=os.environ
    | {'LLM_JAX_CHECKPOINT': str(folder / 'chat'), 'PYTHONPATH': str(ROOT)},
    cwd=folder, capture_output=True, text=True, check=False, timeout=250,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
