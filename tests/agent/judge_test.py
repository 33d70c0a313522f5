"""Judges, asked over HTTP as they are met."""

import dataclasses
import json
import re

import pytest

from llm_jax.agent import judge
from llm_jax.chat import rankings
from llm_jax.tasks import protocol
from tests import completions_server
from tests.completions_server import completion
from tools import judge as judge_tool


def asked(server, tmp_path, **more):
  return judge.Asked(
    url=server.url,
    model='judge',
    replies=str(tmp_path / 'replies.jsonl'),
    **more,
  )


def shown(body):
  """What stands between tags in what a judge is asked."""
  text = body['messages'][0]['content']
  return dict(re.findall(r'<(\w+)>\n(.*?)\n</\1>', text, re.DOTALL))


@pytest.mark.parametrize(
  ('text', 'kind', 'verdict'),
  [
    ('Verdict: CORRECT', 'Verdict', 'CORRECT'),
    ('It is INCORRECT.\nVerdict: INCORRECT', 'Verdict', 'INCORRECT'),
    ('**Verdict:** INCORRECT', 'Verdict', 'INCORRECT'),
    ('Verdict: INCORRECT.', 'Verdict', 'INCORRECT'),
    ('INCORRECT', 'Verdict', None),
    ('The verdict is CORRECT', 'Verdict', None),
    ('Verdict: NOT CORRECT', 'Verdict', None),
    ('Verdict: CORRECT\nVerdict: INCORRECT', 'Verdict', None),
    ('Verdict: correct', 'Verdict', None),
    ('Grade: 4\nGrade: 4', 'Grade', '4'),
    ('Grade: 4/5', 'Grade', '4'),
    ('Grade: 4/10', 'Grade', None),
    ('Grade: 45', 'Grade', None),
    ('Grade: -5', 'Grade', None),
    ('Grade: 0', 'Grade', None),
    ('Grade: 3.5', 'Grade', None),
    ('<think>\nGrade: 1\n</think>\nGrade: 5', 'Grade', '5'),
    ('<think>\nGrade: 1', 'Grade', None),
    ('Better: A', 'Better', 'A'),
    ('This is a B\nBetter: B', 'Better', 'B'),
    ('This is a B', 'Better', None),
    ('Better: TIE', 'Better', 'TIE'),
    ('Better: A or B', 'Better', None),
    ('', 'Better', None),
  ],
)
def test_only_a_verdict_is_one(text, kind, verdict):
  assert judge.read_verdict(text, kind) == verdict


def test_what_cannot_be_read_is_asked_again_and_then_ends_the_run(tmp_path):
  def answer(body, number):
    said = 'It is good.' if number < 3 else 'Grade: 4'
    return completion(said, finish_reason='stop')

  with completions_server.running(answer) as server:
    one = asked(server, tmp_path)
    assert one.verdict('Grade', question='Why?', answer='So.')[0] == '4'
    assert [body['seed'] for _, _, body in server.seen] == [0, 1, 2]
    assert [body['temperature'] for _, _, body in server.seen] == [0, 1, 1]
    # What was asked is on disk: nothing is asked again, by a new run too.
    again = asked(server, tmp_path)
    assert again.verdict('Grade', question='Why?', answer='So.')[0] == '4'
    assert len(server.seen) == 3
  with (
    completions_server.running(lambda *_: completion('Good.')) as server,
    pytest.raises(ValueError, match="no verdict.*3 replies.*'Good.'"),
  ):
    asked(server, tmp_path).verdict('Grade', question='Why?', answer='So.')


def test_a_task_of_graded_answers(tmp_path):
  path = tmp_path / 'prompts.jsonl'
  rows = [
    {'prompt': 'Name a bird.'},
    {'prompt': 'What is 2 + 2?', 'answer': '4'},
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))

  def answer(body, _):
    parts = shown(body)
    if 'right_answer' in parts:
      is_right = parts['right_answer'] == parts['answer']
      said = f'Verdict: {"" if is_right else "IN"}CORRECT'
    else:
      said = f'Grade: {4 if parts["answer"] == "A robin." else 2}'
    return json.dumps(
      {
        'choices': [{'message': {'content': said}, 'finish_reason': 'stop'}],
        'usage': {'total_tokens': 50},
      }
    ).encode()

  with completions_server.running(answer) as server:
    task = judge.Judge(path=str(path), asked=asked(server, tmp_path))
    assert protocol.has_verifier(task)
    problems = {p.prompt: p for p in task.problems('all', 0, seed=0)}
    bird, two = problems['Name a bird.'], problems['What is 2 + 2?']
    found = [
      task.score(problem, text)
      for problem, text in (
        (bird, '<think>\nHm.\n</think>\nA robin.'),
        (bird, 'A cat.'),
        (two, '4'),
        (two, '5'),
      )
    ]
    assert [score.reward for score in found] == [0.75, 0.25, 1.0, 0.0]
    assert [score.correct for score in found] == [True, False, True, False]
    assert {score.judge_tokens for score in found} == {50}
    n_asked = len(server.seen)
    assert [task.score(bird, t).reward for t in ('', '<think>')] == [0.0, 0.0]
    assert len(server.seen) == n_asked


@pytest.mark.parametrize(
  ('settings', 'fault'),
  [
    ({}, 'give an endpoint'),
    ({'url': 'http://x/v1'}, 'give an endpoint'),
    (
      {'url': 'http://x/v1', 'model': 'm', 'checkpoint': 'runs/x'},
      'give an endpoint',
    ),
    ({'url': 'http://x/v1', 'model': 'm'}, 'replies is empty'),
  ],
)
def test_whom_to_ask_has_to_be_said(settings, fault):
  with pytest.raises(ValueError, match=fault):
    judge.Asked(**settings).ask('Why?')


def test_a_run_without_a_judge_ends_before_it_begins(tmp_path):
  path = tmp_path / 'prompts.jsonl'
  path.write_text('{"prompt": "Why?"}')
  with pytest.raises(ValueError, match='give an endpoint'):
    judge.Judge(path=str(path)).problems('all', 0, seed=0)


def test_the_folder_of_replies_is_made(tmp_path):
  with completions_server.running(lambda *_: completion('So.')) as server:
    one = asked(server, tmp_path / 'new' / 'folder')
    assert one.ask('Why?').text == 'So.'


def ranked(n):
  return [
    rankings.Ranked(
      f'line {i}',
      [{'role': 'user', 'content': f'Question {i}?'}],
      [
        [{'role': 'assistant', 'content': text}]
        for text in (f'Bad and long, {i}.', f'Good {i}.')
      ],
      ranks=[1, 0],
    )
    for i in range(n)
  ]


@pytest.mark.parametrize(
  ('prefers', 'expected'),
  [
    (
      lambda parts: 'A' if 'Good' in parts['A'] else 'B',
      {'agrees': 1, 'flipped': 0, 'ties': 0, 'longer wins': 0},
    ),
    (lambda _: 'A', {'agrees': 0, 'flipped': 1, 'ties': 1, 'first wins': 1}),
    (lambda _: 'TIE', {'agrees': 0, 'flipped': 0, 'ties': 1, 'first wins': 0}),
    (
      lambda parts: 'A' if len(parts['A']) > len(parts['B']) else 'B',
      {'agrees': 0, 'flipped': 0, 'longer wins': 1},
    ),
  ],
)
def test_a_judge_is_measured_against_people(tmp_path, prefers, expected):
  def answer(body, _):
    return completion(f'Better: {prefers(shown(body))}')

  with completions_server.running(answer) as server:
    found = judge_tool.measure(asked(server, tmp_path), ranked(5), False)
  assert found['pairs'] == 5
  assert found['longer wins for people']['share'] == 0
  for name, share in expected.items():
    assert found[name]['share'] == share
  assert f'{"agrees":24}' in judge_tool.lines(found)[1]


def test_what_was_measured_stands_beside_every_figure(tmp_path):
  """Of this judge: of another one it says that nobody knows."""
  (tmp_path / 'prompts.jsonl').write_text('{"prompt": "q", "answer": "a"}\n')
  with completions_server.running(lambda *_: completion('')) as server:
    own = asked(server, tmp_path)
    task = judge.Judge(path=str(tmp_path / 'prompts.jsonl'), asked=own)
    assert 'The judge was not measured' in protocol.about(task)
    own.keep_measured('5 pairs; agrees 80.0%')
    assert protocol.about(task).endswith(
      'beside people: 5 pairs; agrees 80.0%.'
    )
    other = dataclasses.replace(own, model='other')
    task = dataclasses.replace(task, asked=other)
    assert 'The judge was not measured' in protocol.about(task)


def test_a_judge_may_like_its_own_answers(tmp_path):
  def answer(body, _):
    parts = shown(body)
    if 'A' not in parts:
      return completion('Mine.')
    return completion(f'Better: {"A" if parts["A"] == "Mine." else "B"}')

  with completions_server.running(answer) as server:
    found = judge_tool.measure(asked(server, tmp_path), ranked(4), True)
  assert found['own answer wins'] == {
    'n': 4, 'share': 1.0, 'interval': found['own answer wins']['interval']
  }  # fmt: skip
