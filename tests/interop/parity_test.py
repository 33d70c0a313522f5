"""Live against transformers: their models read, ours written, chats laid out.

Runs where transformers is installed, or where LLM_JAX_PARITY_PYTHON names a
Python that has it (and torch): once with version 4.57 and once with 5.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from llm_jax.chat import template
from llm_jax.infer import generate
from llm_jax.interop import huggingface
from llm_jax.tokenizer import encoding
from tests.interop import huggingface_test
from tests.model import slow_transformer
from tools import make_golden_models

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = os.environ.get('LLM_JAX_PARITY_PYTHON', '')
if not PYTHON and all(map(importlib.util.find_spec, ('torch', 'transformers'))):
  PYTHON = sys.executable
pytestmark = pytest.mark.skipif(
  not PYTHON, reason='no transformers; set LLM_JAX_PARITY_PYTHON to a Python'
)

# Sizes that their classes accept.
_EXPERTS = {'n_experts': 5, 'n_experts_per_token': 3}
_CHANGES = {
  'llama': {'max_length': 128}, 'gpt2': {'n_kv_heads': 4, 'head_dim': 6},
  'qwen3_moe': {**_EXPERTS, 'normalize_router': False},
  'mixtral': {**_EXPERTS, 'qk_norm': False},
}  # fmt: skip
OURS = {
  name: dataclasses.replace(
    slow_transformer.LAYOUTS.get(name, slow_transformer.LAYOUTS['qwen3']),
    **_CHANGES.get(name, {}),
  )
  for name in ('qwen3', 'llama', 'qwen2', 'gemma2', 'gemma3', 'gpt2',
               'qwen3_moe', 'mixtral')
}  # fmt: skip


def ask(*words):
  subprocess.run(
    [PYTHON, '-m', 'tools.make_golden_models', *map(str, words)],
    cwd=ROOT,
    check=True,
    timeout=300,
  )


def assert_logits(folder):
  cfg, params = huggingface_test.read(folder)
  got_BTV = huggingface_test.logits(cfg, params)[..., : cfg.vocab_size]
  expected_BTV = np.load(folder / 'logits.npy')
  worst = float(np.abs(got_BTV - expected_BTV).max())
  print(f'{folder.name}: {worst:.1e} of {np.abs(expected_BTV).max():.1f}')
  # float32, sums in another order; 2e-5 is the aim, the rest for machines.
  assert worst < 1e-4, folder.name


def test_their_models(tmp_path):
  ask('--out', tmp_path)
  for name in make_golden_models.MODELS:
    assert_logits(tmp_path / name)


def test_our_models(tmp_path, monkeypatch):
  monkeypatch.setattr(huggingface, '_MAX_SHARD_BYTES', 20_000)
  for name, cfg in OURS.items():
    params = huggingface_test.new_params(cfg)
    params = jax.tree.map(lambda x: 0.3 * x, params)
    huggingface.write(tmp_path / name, cfg, params)
  ask('--logits_of', *(tmp_path / name for name in OURS))
  for name in OURS:
    assert_logits(tmp_path / name)


CHAT = """
import json, sys, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
prompt = tokenizer('abab', return_tensors='pt')
answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)
print(json.dumps(answer[0, prompt['input_ids'].shape[1]:].tolist()))
for messages, add in json.load(sys.stdin):
  text = tokenizer.apply_chat_template(
    messages, tokenize=False, add_generation_prompt=add)
  print(json.dumps([text, tokenizer(text)['input_ids']]))
"""


def test_chat_template_and_greedy_answer_are_ours(tmp_path):
  vocabulary = encoding.Tokenizer.from_merges([(97, 98)], 'qwen2')
  vocabulary.save(tmp_path / 'vocabulary')
  cfg = dataclasses.replace(
    OURS['qwen3'], vocab_size=vocabulary.vocab_size, max_length=64
  )
  params = huggingface_test.new_params(cfg)
  chat = tmp_path / 'chat'
  huggingface.write(chat, cfg, params, tmp_path / 'vocabulary', True)
  system = {'role': 'system', 'content': '\n {{ x }} be kind \n'}
  user = {'role': 'user', 'content': '  ab\tcaf\u00e9 {% if %}\n\n'}
  answer = {'role': 'assistant', 'content': '\nyes <b>&amp;\n'}
  tool = {'role': 'tool', 'content': ''}
  cases = [
    ([system, user], True),
    ([user, answer, tool, answer, user], True),
    ([user, answer], False),
  ]
  done = subprocess.run(
    [PYTHON, '-c', CHAT, str(chat)],
    input=json.dumps(cases),
    capture_output=True,
    text=True,
    check=True,
    timeout=300,
  )
  greedy, *lines = [json.loads(line) for line in done.stdout.splitlines()]
  stop_ids = map(vocabulary.special_id, ('<|endoftext|>', '<|im_end|>'))
  request = generate.Request(12, tuple(stop_ids), temperature=0.0)
  answer = generate.generate(
    cfg, params, [vocabulary.encode('abab')], [0], request, 1
  )
  assert greedy == answer[0].token_ids
  for (messages, add), (text, ids) in zip(cases, lines, strict=True):
    expected = template.render(vocabulary, messages, add).token_ids
    assert text == vocabulary.decode(expected)
    assert ids == expected
