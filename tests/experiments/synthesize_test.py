"""Conversations from documents to what sft learns, and kills on the way."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from experiments import sft, synthesize
from llm_jax import endpoint
from llm_jax.agent import synthesis
from llm_jax.chat import formats
from llm_jax.tasks import given, protocol
from llm_jax.verify import grading
from tests import completions_server
from tests.completions_server import completion
from tests.evals import tiny_checkpoint

_ROOT = pathlib.Path(__file__).resolve().parents[2]
CFG = synthesize.Config(n=5, batch_size=2, document_chars=60)
WORDS = 'tide moon harbour wheat river copper glass lantern'.split()  # noqa: SIM905
FILES = ('conversations.jsonl', 'rejected.jsonl')


def rows(workdir, name):
  return [json.loads(x) for x in (workdir / name).read_text().splitlines()]


def write(asked, number):
  """A question of its own for each seed, and faults among them."""
  del number
  seed = asked['seed']
  if seed % 5 == 0:
    return completion('Sure! Here is one.')
  if seed % 5 == 1:
    return completion('Question: ...', finish_reason='length')
  words = ' '.join(WORDS[seed // 8**i % 8] for i in range(4, 9))
  return completion(f'Question: Why {words}?\nAnswer: Because of {seed}.')


@pytest.fixture
def sources(tmp_path):
  (tmp_path / 'texts').mkdir()
  for i in range(40):
    (tmp_path / 'texts' / f'{i}.txt').write_text(f'{i}: the tide. ' * 20)
  (tmp_path / 'topics.txt').write_text('tides\nharbours\n')
  (tmp_path / 'personas.txt').write_text('a child of ten\na sailor\n')
  return {
    'documents': str(tmp_path / 'texts'),
    'topics': str(tmp_path / 'topics.txt'),
    'personas': str(tmp_path / 'personas.txt'),
  }


def test_what_an_endpoint_writes_is_what_sft_learns(sources, tmp_path, caplog):
  workdir = tmp_path / 'out'
  caplog.set_level('INFO', 'absl')
  with completions_server.running(write) as server:
    synthesize.run(
      CFG, str(workdir), endpoint=server.url, model='m1', **sources
    )
  kept, rejected = (rows(workdir, name) for name in FILES)
  assert len(kept) == 5
  reasons = {row['reason'] for row in rejected}
  assert {endpoint.NO_END} <= reasons <= {
    endpoint.NO_END,
    'not of the form of one question and one answer',
    'the question is like an earlier one, by ROUGE-L',
  }  # fmt: skip
  by_seed = {body['seed']: body for _, _, body in server.seen}
  for row in [*kept, *rejected]:
    origin = row['origin']
    asked = origin['request']
    assert by_seed[asked['seed']] == {'model': 'm1', **asked}
    assert (asked['temperature'], asked['max_tokens']) == (0.8, 256)
    assert origin['model'] == 'm1'
    assert origin['template'] in synthesis.read_templates()['prompts']
    (message,) = asked['messages']
    assert f'It is what {origin["persona"]} would' in message['content']
    assert origin.get('topic', ': the tide.') in message['content']
    assert ('topic' in origin) != ('document' in origin)
  for row in kept:
    question, answer = row['messages']
    assert question['content'].startswith('Why ')
    assert (
      answer['content'] == f'Because of {row["origin"]["request"]["seed"]}.'
    )
    assert {'length', 'personal data', 'ROUGE-L'} <= set(row['origin']['rules'])
  record = json.loads((workdir / 'run.json').read_text())
  counts = record['counts']
  assert counts['kept'] == 5
  assert sum(counts.values()) == len(kept) + len(rejected)
  for name, count in counts.items():
    assert f'{count:7d} ' in caplog.text
    assert name in caplog.text
  assert set(record['inputs']) == {'model', *sources}

  # As it is, whatever stands beside the messages.
  source = given.named([str(workdir / FILES[0])], ())
  dataset = sft.make_dataset(sft.Config(), str(tmp_path / 'sft'), source)
  layout = formats.choose(tiny_checkpoint.tokenizer(), is_chat=True)
  laid_out, left_out = given.lay_out(
    dataset, layout.rows, length=256, too_long='error'
  )
  assert len(laid_out) == 5
  assert left_out == {'left_out': {}, 'cut': 0}
  learnt = [item.messages[-1]['content'] for item in dataset]
  assert learnt == [row['messages'][-1]['content'] for row in kept]


def command(workdir, server, sources):
  words = [sys.executable, '-m', 'experiments.synthesize']
  words += [f'--workdir={workdir}', f'--endpoint={server.url}', '--model=m1']
  words += [f'--{name}={value}' for name, value in sources.items()]
  fields = dataclasses.asdict(CFG)
  names = ('n', 'batch_size', 'document_chars')
  return words + [f'--gin_bindings=Config.{k} = {fields[k]}' for k in names]


def test_killed_it_goes_on_and_asks_nothing_twice(sources, tmp_path):
  """Killed while two answers are on disk and two more are waited for."""
  died = threading.Event()

  def stop(asked, number):
    if number > 3:
      died.wait(30)
    return write(asked, number)

  with completions_server.running(stop) as server:
    process = subprocess.Popen(
      command(tmp_path / 'a', server, sources),
      cwd=_ROOT,
      stderr=subprocess.PIPE,
    )
    while len(server.seen) < 4 and process.poll() is None:
      died.wait(0.05)
    process.kill()
    process.communicate()
    died.set()
    assert process.returncode == -signal.SIGKILL
    answers = tmp_path / 'a' / 'answers.jsonl'
    n_kept = len(answers.read_bytes().splitlines())
    assert n_kept in (2, 3)
    with answers.open('a') as file:
      file.write('{"asked": "half of a li')
    n_before = len(server.seen)
    done = subprocess.run(
      command(tmp_path / 'a', server, sources),
      cwd=_ROOT,
      capture_output=True,
      check=False,
      timeout=100,
    )
    assert done.returncode == 0, done.stderr
    n_asked = len(rows(tmp_path / 'a', 'answers.jsonl'))
    assert len(server.seen) - n_before == n_asked - n_kept
    synthesize.run(
      CFG, str(tmp_path / 'b'), endpoint=server.url, model='m1', **sources
    )
  for name in FILES:
    assert rows(tmp_path / 'a', name) == rows(tmp_path / 'b', name)
  os.remove(answers)  # finished: nothing is read and nobody asked
  synthesize.run(
    CFG, str(tmp_path / 'a'), endpoint=server.url, model='m1', **sources
  )


def test_after_an_error_other_settings_may_be_tried(sources, tmp_path):
  """What is answered stays, also where nothing of it is kept."""
  strict = synthesis.Rules(answer_chars=(1, 5))
  cfg = dataclasses.replace(CFG, rules=strict, max_prompts=6)
  with completions_server.running(write) as server:
    named = {'endpoint': server.url, 'model': 'm1', **sources}
    with pytest.raises(ValueError, match='0 of 6 answers are kept; see'):
      synthesize.run(cfg, str(tmp_path / 'out'), **named)
    assert len(rows(tmp_path / 'out', 'rejected.jsonl')) == 6
    cfg = dataclasses.replace(cfg, rules=synthesis.Rules())
    synthesize.run(cfg, str(tmp_path / 'out'), **named)
    assert len(server.seen) == 6
    assert rows(tmp_path / 'out', FILES[0])


@dataclasses.dataclass(frozen=True)
class Letters:
  """What is asked for is any letter, which a random model writes at times."""

  name = 'any_letter'
  think_start = grading.THINK_START
  thinks = staticmethod(grading.thinks)

  def problems(self, split, count, seed):
    assert (split, seed) == ('train', 0)
    return [protocol.Problem('l', f'{i}?', 'a') for i in range(count)]

  def demonstrate(self, problem, think):
    del think
    return problem.reference

  def score(self, problem, answer):
    del problem
    return grading.Score(any(map(str.isalpha, answer)), '')


def test_our_engine_answers_a_task_alike_in_any_batch(tmp_path):
  tiny = str(tiny_checkpoint.write(tmp_path / 'tiny', is_chat=True))
  files = []
  for batch_size in (32, 5):
    cfg = synthesize.Config(
      n=4,
      max_prompts=200,
      batch_size=batch_size,
      max_new_tokens=40,
      temperature=1.0,
      task=Letters(),
    )
    workdir = tmp_path / str(batch_size)
    synthesize.run(cfg, str(workdir), checkpoint=tiny)
    kept, rejected = (rows(workdir, name) for name in FILES)
    files.append((kept, rejected))
    assert len(kept) == 4
    assert {row['reason'] for row in rejected} == {
      endpoint.NO_END,
      'wrong, says the verifier',
    }
    for row in kept:
      assert (
        row['messages'][0]['content']
        == row['origin']['request']['messages'][0]['content']
      )
      assert any(map(str.isalpha, row['messages'][1]['content']))
      assert row['origin']['model'] == 'sft, step 0'
      assert row['origin']['task'] == 'any_letter'
  assert files[0] == files[1]


def test_prompts_that_no_context_holds_are_counted(sources, tmp_path, caplog):
  tiny = str(tiny_checkpoint.write(tmp_path / 'tiny', is_chat=True))
  cfg = dataclasses.replace(CFG, max_prompts=3, max_new_tokens=100)
  caplog.set_level('INFO', 'absl')
  with pytest.raises(ValueError, match='0 of 3 answers are kept'):
    synthesize.run(cfg, str(tmp_path / 'out'), checkpoint=tiny, **sources)
  assert 'the prompt has more than the 28 tokens that fit' in caplog.text


@pytest.mark.parametrize(
  ('arguments', 'cfg', 'reason'),
  [
    ({}, CFG, 'give --checkpoint, or --endpoint and --model'),
    ({'endpoint': 'http://x', 'checkpoint': 'x'}, CFG, 'give --checkpoint, or'),
    ({'endpoint': 'http://x'}, CFG, 'give --checkpoint, or --endpoint and'),
    ({'checkpoint': 'x', 'model': 'm'}, CFG, 'give --checkpoint, or'),
    (
      {'checkpoint': 'x', 'topics': 'x'},
      dataclasses.replace(CFG, task=Letters()),
      'Config.task has questions of its own; leave out',
    ),
    ({'endpoint': 'http://x', 'model': 'm'}, CFG, 'nothing to ask about'),
    ({'endpoint': 'x', 'model': 'm'}, CFG, "'x' is no address"),
  ],
)
def test_what_does_not_go_together_is_refused(arguments, cfg, reason, tmp_path):
  with pytest.raises(ValueError, match=reason):
    synthesize.run(cfg, str(tmp_path / 'out'), **arguments)
  assert not (tmp_path / 'out' / 'run.json').exists()


def test_settings_without_sense_are_refused():
  for name in ('n', 'batch_size', 'max_new_tokens', 'document_chars'):
    with pytest.raises(ValueError, match=f'Config.{name} = 0; use 1 or more'):
      synthesize.Config(**{name: 0})
