"""Multiple choice by likelihood: hand-made logits, and tokens that merge."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import evaluate
from llm_jax.agent import turns
from llm_jax.chat import formats
from llm_jax.evals import choices, modes, scoring
from llm_jax.infer import generate, reading
from llm_jax.tasks import addition, multiple_choice, protocol
from llm_jax.tokenizer import encoding
from tests.evals import tiny_checkpoint
from tests.model import start_params


def _model(tokenizer=None, is_chat=False, favourite=''):
  tokenizer = tokenizer or tiny_checkpoint.tokenizer()
  cfg = dataclasses.replace(
    tiny_checkpoint.MODEL, vocab_size=tokenizer.vocab_size
  )
  params = start_params.init(cfg)
  if favourite:
    params = tiny_checkpoint.favouring(params, favourite)
  return turns.Model(cfg, params, tokenizer, formats.choose(tokenizer, is_chat))


def _problem(options, right, question='2+2?'):
  row = {'question': question, 'choices': options, 'answer': right}
  return multiple_choice.MultipleChoice().read(row)


def test_the_three_ways_to_judge_a_text(monkeypatch):
  """By hand: 'cat' costs 2 nats a byte, ' food' 1; and letter B is likelier."""
  nats = {' A': 3.0, ' B': 1.0, ' cat': [2.0] * 4, ' cat food': [1.5] * 9}

  def logp(cfg, params, pairs, batch_size):
    tokenizer = tiny_checkpoint.tokenizer()
    texts = [tokenizer.decode(rest) for _, rest in pairs]
    return [-np.atleast_1d(nats[text]) for text in texts]

  monkeypatch.setattr(reading, 'logp', logp)
  problem = _problem(['cat', 'cat food'], 1)
  found = choices.evaluate(_model(), [problem], batch_size=2)
  # Sums: -8 and -13.5; per token -2 and -1.5; per byte -8/3 and -13.5/8.
  assert found['accuracy'] == {
    'letter': 1.0, 'text': 0.0, 'text_per_token': 1.0, 'text_per_byte': 1.0
  }  # fmt: skip
  assert (found['n'], found['chance'], found['tokens']) == (1, 0.5, 15)
  assert found['interval']['letter'][1] == 1.0


@pytest.mark.parametrize('is_chat', [False, True])
def test_a_choice_that_is_the_start_of_another(is_chat):
  """A shared prefix leaves the shorter one nothing elsewhere: NaN."""
  asked = []
  true = reading.logp

  def keep(cfg, params, pairs, batch_size):
    found = true(cfg, params, pairs, batch_size)
    asked.extend(zip(pairs, found, strict=True))
    return found

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(reading, 'logp', keep)
    problems = [_problem(['cat', 'cat food'], 0), _problem(['a', 'a'], 0)]
    choices.evaluate(_model(is_chat=is_chat), problems, batch_size=4)
  assert len(asked) == 8
  assert all(rest and np.isfinite(x).all() for (_, rest), x in asked)
  assert all(len(rest) == len(x) for (_, rest), x in asked)
  # All choices of a problem are read behind the same ids.
  for (first, _), (second, _) in zip(asked[::2], asked[1::2], strict=True):
    assert first[0] == second[0]


def test_text_and_choice_that_make_one_token():
  """`Ans` and `wer`, as one token elsewhere, leave nothing to be judged."""
  bytes_of = list(b'Answer')
  merges = [(bytes_of[0], bytes_of[1])]
  merges += [(256 + n, byte) for n, byte in enumerate(bytes_of[2:])]
  tokenizer = encoding.Tokenizer.from_merges(merges, 'qwen2')
  assert len(tokenizer.encode('Answer')) == 1
  model = _model(tokenizer)
  prompt, judged = choices.pair(model, 'Ans', 'wer', joint='')
  assert tokenizer.decode(prompt[1:]) == 'Ans'
  assert tokenizer.decode(judged) == 'wer'
  # With a blank between them the tokens are those of the whole text.
  prompt, judged = choices.pair(model, 'Ans', 'Answer')
  assert prompt[1:] + judged == tokenizer.encode('Ans Answer')


def test_a_model_that_prefers_a_letter():
  problems = [_problem(['x', 'y'], 1), _problem(['z', 'w'], 0, 'other?')]
  found = choices.evaluate(_model(favourite='B'), problems, batch_size=4)
  assert found['accuracy']['letter'] == 0.5
  problems = [dataclasses.replace(p, reference=p.choices[1]) for p in problems]
  found = choices.evaluate(_model(favourite='B'), problems, batch_size=4)
  assert found['accuracy']['letter'] == 1.0


@pytest.mark.parametrize(
  ('problem', 'message'),
  [
    (_problem(['a' * 200, 'b'], 0), 'give one of each at least, and no more'),
    (
      dataclasses.replace(_problem(['a', 'b'], 0), reference='c'),
      "the reference 'c' is none of the choices",
    ),
  ],
)
def test_what_cannot_be_judged(problem, message):
  with pytest.raises(ValueError, match=message):
    choices.evaluate(_model(), [problem], batch_size=2)


def test_a_choice_without_text_is_refused():
  with pytest.raises(ValueError, match='are not all text'):
    _problem(['a', ' '], 0)


def _write_questions(path, n):
  """Questions of different words, so that some are held out and others not."""
  with open(path, 'w') as file:
    for k in range(n):
      question = {'question': f'{"ab"[k % 2] * (k + 1)}?', 'answer': 1}
      file.write(json.dumps(question | {'choices': ['n', 'y']}) + '\n')
  return str(path)


CFG = scoring.Scoring(
  n_samples=1, max_new_tokens=2, max_direct_tokens=2, batch_size=8
)


def test_all_questions_of_a_file_without_tokens(tmp_path, monkeypatch):
  def generated(cfg, params, prompts, seeds, request, **_):
    return [generate.Answer([request.stop_ids[0]], [0.0], True)] * len(prompts)

  monkeypatch.setattr(generate, 'generate', generated)
  path = _write_questions(tmp_path / 'questions.jsonl', 13)
  base = tiny_checkpoint.write(tmp_path / 'base', False, favourite='B')
  task = multiple_choice.MultipleChoice(path)
  cfg = evaluate.Config(task=task, evaluation=CFG)
  evaluate.run(cfg, str(tmp_path / 'out'), [f'base={base}'])
  found = json.loads((tmp_path / 'out' / 'evaluation.json').read_text())
  assert [row['n'] for row in found['rows']] == [13, 13]
  assert found['held_out'] is None
  (row,) = found['choices']
  assert (row['n'], row['checkpoint']) == (13, 'base')
  assert row['accuracy']['letter'] == 1.0  # it prefers B, which is right

  # A share is asked for; the tenth is a matter of words.
  n_held_out = len(task.problems('held_out', 0, seed=0))
  assert 0 < n_held_out < 7
  cfg = dataclasses.replace(cfg, questions='held_out', modes=('likelihood',))
  evaluate.run(cfg, str(tmp_path / 'share'), [f'base={base}'])
  found = json.loads((tmp_path / 'share' / 'evaluation.json').read_text())
  assert (found['rows'], found['choices'][0]['n']) == ([], n_held_out)


def test_leaks_are_refused(tmp_path, monkeypatch):
  path = _write_questions(tmp_path / 'questions.jsonl', 13)
  task = multiple_choice.MultipleChoice(path)
  base = tiny_checkpoint.write(tmp_path / 'base', is_chat=False)
  sums = protocol.file_sums(task)
  # rl came after sft, which came after base; sft was trained on the file.
  for name, before, inputs in (
    ('sft', 'base', sums), ('rl', 'sft', {'task.path': 'other'})
  ):  # fmt: skip
    (tmp_path / name).mkdir()
    flag = {'sft': ['--restore_from', before], 'rl': ['-restore_from=sft']}
    record = {'stage': name, 'start': 'then', 'inputs': inputs,
              'argv': ['x', *flag[name]], 'cwd': str(tmp_path)}  # fmt: skip
    (tmp_path / name / 'run.json').write_text(json.dumps(record))
  (tmp_path / 'rl' / 'best').mkdir()
  cfg = evaluate.Config(task=task, evaluation=CFG)
  for name in ('sft', 'rl', 'rl/best'):
    given = [f'base={base}', f'x={tmp_path / name}']
    with pytest.raises(ValueError, match=r'x was trained on .*stage sft of th'):
      evaluate.run(cfg, str(tmp_path / 'out'), given)
  assert not (tmp_path / 'out').exists()
  # A test file of its own, or the tenth, is no leak.
  other = _write_questions(tmp_path / 'other.jsonl', 12)
  for task in (
    multiple_choice.MultipleChoice(path, held_out_path=other),
    multiple_choice.MultipleChoice(other),
    addition.Addition(),
  ):
    evaluate.leaks.refuse(task, {'x': str(tmp_path / 'rl')})
  # Trained on what is another's test file.
  task = multiple_choice.MultipleChoice(other, held_out_path=path)
  with pytest.raises(ValueError, match=r'trained on .*questions.jsonl'):
    evaluate.leaks.refuse(task, {'x': str(tmp_path / 'rl')})


def test_modes_that_problems_have():
  rows = modes.rows(
    _model(), addition.Addition(), CFG, modes=('likelihood',), split='all'
  )
  with pytest.raises(ValueError, match='addition have no choices, so that'):
    next(rows)
  for given in ((), ('free', 'direkt')):
    with pytest.raises(ValueError, match='use free or direct or likelihood'):
      evaluate.Config(task=addition.Addition(), modes=given)
  with pytest.raises(ValueError, match='use all or held_out'):
    evaluate.Config(task=addition.Addition(), questions='train')


def test_how_many_are_asked(tmp_path):
  path = _write_questions(tmp_path / 'questions.jsonl', 20)
  task = multiple_choice.MultipleChoice(path)
  assert len(scoring.problems(task, CFG, 'all')) == 20
  some = dataclasses.replace(CFG, n_problems=5)
  assert len(scoring.problems(task, some, 'all')) == 5
  assert len(scoring.problems(addition.Addition(), CFG, 'all')) == 400
  only = multiple_choice.MultipleChoice('', held_out_path=path)
  assert len(scoring.problems(only, CFG, 'held_out')) == 20
