"""lm-evaluation-harness, LangChain and LiteLLM against the real server.

Run where they are installed: pip install -e '.[parity]'.
"""

import contextlib
import json
import socket
import threading
import time

import pytest
import uvicorn

from llm_jax.agent import turns
from llm_jax.infer import reading
from llm_jax.serve import app, incoming, worker
from llm_jax.train import checkpoint
from tests.evals import tiny_checkpoint

pytestmark = pytest.mark.filterwarnings('ignore')  # theirs
_TASK = """\
task: own
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list: [{{metric: acc}}]
"""
_ROWS = [
  {'query': 'ab', 'choices': [' c', ' dddd', ' ef'], 'gold': 0},
  {'query': 'The sky', 'choices': [' is', ' is blue'], 'gold': 1},
]


@pytest.fixture(name='server', scope='module')
def _server(tmp_path_factory):
  """Models by name, and the address of their server."""
  models = {}
  for name in ('base', 'chat'):
    folder = tmp_path_factory.mktemp(name)
    tiny_checkpoint.write(folder, is_chat=name == 'chat', favourite='x')
    model = turns.of_checkpoint(checkpoint.load_model(str(folder)))
    rows = worker.Worker(model, n_rows=4, max_chunk=4, name=name)
    models[name] = incoming.Served(name, model, rows, stage='sft')
  with contextlib.closing(socket.socket()) as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  config = uvicorn.Config(app.make(models), port=port, log_level='error')
  server = uvicorn.Server(config)
  thread = threading.Thread(target=server.run)
  thread.start()
  while not server.started:
    time.sleep(0.01)
  yield models, f'http://127.0.0.1:{port}/v1'
  server.should_exit = True
  thread.join()


def test_lm_evaluation_harness(server, tmp_path, monkeypatch):
  """Every log-likelihood is that of the model in this process."""
  lm_eval = pytest.importorskip('lm_eval', reason="pip install '.[parity]'")
  from lm_eval import tasks

  monkeypatch.setenv('HF_HOME', str(tmp_path / 'cache'))
  models, url = server
  file = tmp_path / 'rows.jsonl'
  file.write_text(''.join(json.dumps(row) + '\n' for row in _ROWS))
  (tmp_path / 'own.yaml').write_text(_TASK.format(file=file))
  found = lm_eval.simple_evaluate(
    model='local-completions',
    model_args={
      'model': 'base',
      'base_url': f'{url}/completions',
      'tokenizer_backend': 'remote',
      'max_length': 128,
    },
    tasks=['own'],
    task_manager=tasks.TaskManager(include_path=str(tmp_path)),
    bootstrap_iters=0,
  )
  model = models['base'].model
  encode = model.tokenizer.encode
  asked = [
    pair
    for sample in found['samples']['own']
    for pair in zip(sample['arguments'], sample['resps'], strict=True)
  ]
  assert len(asked) == sum(len(row['choices']) for row in _ROWS)
  for (query, choice), ((logp, _),) in asked:
    before, whole = encode(query), encode(query + choice)
    pair = before, whole[len(before) :]
    (expected,) = reading.logp(model.config, model.params, [pair], batch_size=1)
    assert float(logp) == pytest.approx(expected.sum(), abs=1e-3)


def test_langchain(server):
  langchain_openai = pytest.importorskip(
    'langchain_openai', reason="pip install '.[parity]'"
  )
  _, url = server
  model = langchain_openai.ChatOpenAI(
    base_url=url, api_key='none', model='chat', max_tokens=5, temperature=0
  )
  assert model.invoke('hello').content == 'xxxxx'
  assert ''.join(x.content for x in model.stream('hello')) == 'xxxxx'


def test_litellm(server, monkeypatch):
  monkeypatch.setenv('LITELLM_LOCAL_MODEL_COST_MAP', 'True')
  litellm = pytest.importorskip('litellm', reason="pip install '.[parity]'")
  _, url = server
  found = litellm.completion(
    model='openai/chat',
    api_base=url,
    api_key='none',
    messages=[{'role': 'user', 'content': 'hello'}],
    max_tokens=5,
  )
  assert found.choices[0].message.content == 'xxxxx'
