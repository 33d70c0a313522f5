"""Long sums and products: the right answer, and the call that finds it."""

import json

import pytest

from examples import arithmetic
from llm_jax.tasks import protocol

TASK = arithmetic.Arithmetic()


@pytest.mark.parametrize('split', ['train', 'held_out'])
def test_answers_are_right_and_calls_ask_for_them(split):
  problems = TASK.problems(split, 60, seed=0)
  assert {p.kind for p in problems} == {'sum', 'difference', 'product'}
  for problem in problems:
    asked = problem.prompt.removeprefix('What is ').removesuffix('?')
    right = str(eval(asked))  # of digits and one sign, made here
    assert problem.reference == right
    messages = TASK.conversation(problem, think=True)
    roles = [message['role'] for message in messages]
    assert roles == ['user', 'assistant', 'tool', 'assistant']
    ((call,), result) = messages[1]['tool_calls'], messages[2]['content']
    code = json.loads(call['function']['arguments'])['code']
    assert code == f'print({asked})'
    assert result == messages[3]['content'] == right
    assert TASK.score(problem, right).correct
    assert not TASK.score(problem, f'{right}1').correct
    assert TASK.conversation(problem, think=False) == protocol.exchange(
      problem.prompt, right
    )


def test_splits_share_no_pair():
  train, held_out = (
    {
      tuple(sorted(p.prompt.strip('?').split()[-1].replace('-', '+')
                   .replace('*', '+').split('+')))
      for p in TASK.problems(split, 300, seed=1)
    }
    for split in ('train', 'held_out')
  )  # fmt: skip
  assert not train & held_out


def test_columns_are_written_for_sums_alone():
  task = arithmetic.Arithmetic(kinds=('sum',), by='columns')
  for problem in task.problems('train', 20, seed=0):
    _, answer = task.conversation(problem, think=True)
    lines = answer['content'].split('\n')
    assert lines[0], lines[-2] == ('<think>', '</think>')
    assert len(lines) == 3 + 6 + 1  # marks, numbers, columns, answer
    digits = ''.join(reversed([line[-1] for line in lines[2:-2]]))
    carry = lines[-3][-2].replace('0', '')
    assert carry + digits == lines[-1] == problem.reference
    assert task.score(problem, answer['content']).correct
  for kinds, by in (
    (('sum', 'product'), 'columns'),
    (('sum',), 'abacus'),
    (
      (),
      'python',
    ),
  ):
    with pytest.raises(ValueError, match=r'Arithmetic\.kinds'):
      arithmetic.Arithmetic(kinds=kinds, by=by)
