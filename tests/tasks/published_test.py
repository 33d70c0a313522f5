"""Files of questions: what is dropped, what is refused, what is held out."""

import gzip
import json
import os
import re

import pytest

from llm_jax.tasks import multiple_choice, published, word_problems
from llm_jax.verify import arithmetic, equality


def write(folder, rows, name='rows.jsonl'):
  path = str(folder / name)
  with (gzip.open if name.endswith('.gz') else open)(path, 'wt') as file:
    file.writelines(json.dumps(row) + '\n' for row in rows)
  return path


def word_rows(n):
  """Questions of different words."""
  return [
    {'question': f'How many {"a" * (k + 1)}?', 'answer': f'#### {k}'}
    for k in range(n)
  ]


def test_an_unreadable_answer_drops_the_problem_and_is_counted(
  tmp_path, caplog
):
  rows = [
    {'question': 'one?', 'answer': 'so\n#### 1'},
    {'question': 'two?', 'answer': 'so\n#### two'},
    {'question': 'three?', 'answer': 'so\n#### '},
    {'question': 'four?', 'answer': '4'},
    {'question': 'five?', 'answer': 5.5, 'equation': '5 + .5'},
    {'question': 'six?', 'answer': float('nan')},
  ]
  task = word_problems.WordProblems(write(tmp_path, rows))
  loaded = published.load(task.path, task.read)
  assert [p.reference for p in loaded.values()] == [
    'so\n#### 1',
    '#### 4',
    '5 + .5\n#### 5.5',
  ]
  assert '3 problems of' in caplog.text
  rows = [
    {'question': 'q', 'choices': ['a', 'b'], 'answer': right}
    for right in (2, -1, 'b', None, True, 1)
  ]
  choice = multiple_choice.MultipleChoice(write(tmp_path, rows))
  loaded = published.load(choice.path, choice.read)
  assert [p.reference for p in loaded.values()] == ['B. b']
  assert '5 problems of' in caplog.text


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{"question": "q"}', "line 2 of .*KeyError.'answer'"),
    ('{"question": 3, "answer": "#### 1"}', 'line 2 of .*the question is 3'),
    ('{"question": " ", "answer": "#### 1"}', 'the question is . .; write'),
    ('[]', 'line 2 of'),
    ('{', 'line 2 of .*not JSON'),
    ('{"question": "q", "answer": null}', 'line 2 of .*NoneType'),
  ],
)
def test_another_form_is_refused_with_its_line(line, message, tmp_path):
  path = tmp_path / 'rows.jsonl'
  path.write_text(json.dumps(word_rows(1)[0]) + '\n' + line)
  task = word_problems.WordProblems(str(path))
  with pytest.raises(ValueError, match=message):
    task.problems('train', 1, 0)


def test_what_a_file_cannot_give_is_refused(tmp_path):
  with pytest.raises(ValueError, match='the task has no file; set its path'):
    word_problems.WordProblems().problems('train', 1, 0)
  task = word_problems.WordProblems(write(tmp_path, word_rows(50)))
  with pytest.raises(ValueError, match=r'51 .* use at most 4\d'):
    task.problems('train', 51, 0)


def test_one_story_is_of_one_split_and_a_published_split_is_kept(tmp_path):
  assert published.key('Ann has 3 eggs.') == published.key('ann has 12 Eggs')
  rows = word_rows(400)
  path = write(tmp_path, rows)
  first, rest = rows[:40], word_rows(410)[400:]
  own = write(tmp_path, first + rest, 'test.jsonl')
  task = word_problems.WordProblems(path, held_out_path=own)
  held_out = {p.prompt for p in task.problems('held_out', 50, 0)}
  assert held_out == {row['question'] for row in first + rest}
  train = {p.prompt for p in task.problems('train', 360, 0)}
  assert train == {row['question'] for row in rows[40:]}


def test_calculator_marks_are_kept_or_left_out():
  row = {'question': 'q', 'answer': '2*2=<<2*2=4>>4.\n#### 4'}
  for kept in (True, False):
    task = word_problems.WordProblems(calculator_marks=kept)
    answer = task.demonstrate(task.read(row), think=True)
    assert ('<<2*2=4>>' in answer) is kept
    assert '2*2=' in answer
    assert task.demonstrate(task.read(row), think=False) == '#### 4'


@pytest.mark.parametrize(
  ('name', 'cls', 'n'),
  [
    ('math-gsm8k/gsm8k-train', word_problems.WordProblems, 7473),
    ('math-easy/mawps-train', word_problems.WordProblems, 1431),
    ('math-easy/svamp-train', word_problems.WordProblems, 700),
    ('mmlu/mmlu-val', multiple_choice.MultipleChoice, 1529),
  ],
)
def test_published_files(name, cls, n, caplog):
  folder = os.environ.get('LLM_JAX_DATA')
  if not folder:
    pytest.skip('set LLM_JAX_DATA to the folder of the data sets')
  task = cls(os.path.join(folder, f'{name}.jsonl.gz'))
  loaded = published.load(task.path, task.read)
  assert len(loaded) == n
  assert 'are dropped' not in caplog.text
  n_marks = n_true = 0
  for problem in loaded.values():
    for think in (False, True):
      answer = task.demonstrate(problem, think)
      assert task.score(problem, answer).correct, problem
    for left, right in re.findall('<<([^=>]*)=([^>]*)>>', problem.reference):
      value = equality.number(right)
      try:
        n_true += abs(arithmetic.evaluate(left)[0] - (value or 0)) <= 0.01
        n_marks += 1
      except ValueError:  # a sign before a number, or //
        pass
  assert n_true >= 0.99 * n_marks
  assert n_marks > 23_000 or 'gsm8k' not in name
