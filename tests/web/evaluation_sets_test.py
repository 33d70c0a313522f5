"""Runs of words against a slow exact filter, and pieces of real sets."""

import json
import random
import time

import pytest

from llm_jax import files
from llm_jax.web.dedup import hashes
from llm_jax.web.filter import evaluation_sets

CFG = evaluation_sets.Decontamination()
QUESTION = (
  'A train leaves the old station at noon with ninety passengers, and two '
  'thirds of them get off at the first bridge. How many stay?'
)
SHORT = 'Which planet has the tallest mountain of all?'  # 8 words


def build(tmp_path, sets, cfg=CFG):
  paths = []
  for name, items in sets.items():
    text = '\n'.join(map(json.dumps, items)) + '\n'
    paths.append(tmp_path / f'{name}.jsonl')
    paths[-1].write_text(text)
  counts = evaluation_sets.build(cfg, paths, tmp_path / 'index')
  return hashes.read(tmp_path / 'index'), counts


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    (QUESTION, 'evaluation_math'),
    (f'We read: {QUESTION.upper()} And so on.', 'evaluation_math'),
    (QUESTION.replace(' ', '\n* '), 'evaluation_math'),
    (' '.join(QUESTION.split()[3:16]), 'evaluation_math'),
    (' '.join(QUESTION.split()[3:15]), ''),
    (QUESTION.replace('two', '2'), ''),  # 12 words before it, 12 behind
    (f'a {SHORT} b', 'evaluation_quiz'),
    (SHORT.replace('of all', 'of them'), ''),
    ('is it one of these words', ''),
    ('', ''),
  ],
)
def test_by_hand(tmp_path, text, reason):
  index, counts = build(
    tmp_path,
    {
      'math': [{'id': 1, 'q': QUESTION, 'a': ['30', None]}, {'q': 'One?'}],
      'quiz': [{'messages': [{'role': 'user', 'content': SHORT}]}],
    },
  )
  assert counts == {
    'math': {'items': 2, 'not_covered': 1, 'n_grams': 13, 'common_n_grams': 0},
    'quiz': {'items': 1, 'not_covered': 0, 'n_grams': 1, 'common_n_grams': 0},
  }
  assert evaluation_sets.reject(CFG, index, text) == reason
  off = evaluation_sets.Decontamination(enabled=False)
  assert evaluation_sets.reject(off, index, text) == ''


def test_only_named_fields(tmp_path):
  cfg = evaluation_sets.Decontamination(fields=('question', 'content'))
  other = ' '.join(f'w{i}' for i in range(20))
  item = {
    'context': other,
    'question': {'stem': QUESTION},
    'messages': [{'content': [{'text': SHORT * 2}], 'name': other}],
  }
  index, _ = build(tmp_path, {'set': [item]}, cfg)
  assert evaluation_sets.reject(cfg, index, QUESTION)
  assert evaluation_sets.reject(cfg, index, SHORT * 2)
  assert not evaluation_sets.reject(cfg, index, other)


def test_the_wording_of_the_prompt_is_no_item(tmp_path):
  prompt = 'Answer with one letter. Think about it first and show your steps. '
  passage = ' '.join(f'p{i}' for i in range(20))
  items = [
    {'q': f'{prompt * 2}{passage * (i < 12)} {QUESTION} {i}' + ' x' * i}
    for i in range(130)
  ]
  refrain = ' '.join(f'r{i}' for i in range(13))
  items.append({'q': f'{refrain} {refrain} ' * 20})
  index, counts = build(tmp_path, {'set': items})
  assert counts['set']['common_n_grams'] > 12
  assert counts['set']['not_covered'] == 0
  assert not evaluation_sets.reject(CFG, index, prompt * 2)
  assert evaluation_sets.reject(CFG, index, passage)
  assert evaluation_sets.reject(CFG, index, refrain)  # often, in one item
  items = [{'q': f'{prompt * 2}{i}'} for i in range(130)]
  _, counts = build(tmp_path, {'set': items})
  assert counts['set']['not_covered'] == 0
  _, counts = build(tmp_path, {'set': [{'q': prompt * 2}] * 11})
  assert counts['set']['not_covered'] == 11


def test_scripts_without_spaces(tmp_path):
  chinese = '地球上最高的山峰位于哪两个国家的边界'
  index, _ = build(tmp_path, {'set': [{'q': chinese}]})
  assert evaluation_sets.reject(CFG, index, f'问题。{chinese}？答')
  assert not evaluation_sets.reject(CFG, index, chinese[::-1])
  found = evaluation_sets.words_of('한국어 문장, Ünï')
  assert found == ['한국어', '문장', 'ünï']


def slow_reject(n: int, m: int, sets: dict, text: str) -> str:
  """Runs as tuples of words, looked for one by one."""

  def runs(words, k):
    return {tuple(words[i : i + k]) for i in range(len(words) - k + 1)}

  for name, items in sets.items():
    for item in items:
      fields = [value.split() for value in item.values()]
      longest = max(fields, key=len)
      if len(longest) >= n:
        hit = any(runs(f, n) & runs(text.split(), n) for f in fields)
      else:
        k = len(longest)
        hit = k >= m and tuple(longest) in runs(text.split(), k)
      if hit:
        return f'evaluation_{name}'
  return ''


def test_random_texts_equal_the_slow_filter(tmp_path):
  generator = random.Random(0)
  cfg = evaluation_sets.Decontamination(n_gram=5, min_words=3, max_item_share=1)

  def words(size):
    return ' '.join(generator.choices('abcdefgh', k=generator.randrange(size)))

  sets = {
    name: [{'q': words(9), 'a': words(9)} for _ in range(20)]
    for name in ('one', 'two', 'three')
  }
  index, counts = build(tmp_path, sets, cfg)
  assert sum(c['not_covered'] for c in counts.values()) > 0
  reasons = []
  for _ in range(1000):
    text = words(40)
    reasons.append(evaluation_sets.reject(cfg, index, text))
    assert reasons[-1] == slow_reject(5, 3, sets, text), text
  assert min(map(reasons.count, ('', 'evaluation_one', 'evaluation_two'))) > 20
  assert 'evaluation_three' in reasons


def test_bad_sets_are_refused(tmp_path):
  path = tmp_path / 'set.jsonl'
  path.write_text('{}\n{')
  with pytest.raises(ValueError, match=r'line 2 of .*set\.jsonl: .*Expecting'):
    evaluation_sets.build(CFG, [path], tmp_path / 'index')
  with pytest.raises(
    ValueError, match='line 1 of .*: a line is an object, not str'
  ):
    build(tmp_path, {'set': ['text']})
  path.write_text('{}\n')
  with pytest.raises(ValueError, match='two evaluation sets are named'):
    evaluation_sets.build(CFG, [path, path], tmp_path / 'index')
  with pytest.raises(ValueError, match='min_words 14'):
    evaluation_sets.Decontamination(min_words=14)
  index, counts = build(tmp_path, {})
  assert (counts, evaluation_sets.reject(CFG, index, QUESTION)) == ({}, '')


def test_long_text_takes_linear_time(tmp_path):
  index, _ = build(tmp_path, {'set': [{'q': QUESTION}]})
  start = time.process_time()
  for piece in ('a', 'a ', '山', '_', '\ud800 ', f'{SHORT} '):
    text = piece * (300_000 // len(piece))
    assert evaluation_sets.reject(CFG, index, text) == ''
  assert time.process_time() - start < 30


@pytest.mark.parametrize(
  'name', ['mmlu/mmlu-val', 'math-gsm8k/gsm8k-train', 'code-humaneval/*']
)
def test_every_covered_item_of_real_sets_is_found(tmp_path, data, name):
  (path,) = data.glob(f'{name}.jsonl.gz')
  counts = evaluation_sets.build(CFG, [path], tmp_path / 'index')
  index = hashes.read(tmp_path / 'index')
  (count,) = counts.values()
  assert count['not_covered'] < 0.05 * count['items']
  missed = 0
  for item in files.read_jsonl(path, dict):
    texts = [v for v in item.values() if isinstance(v, str)]
    page = ' so '.join([*texts, *map(str, item.get('choices', []))])
    missed += not evaluation_sets.reject(CFG, index, f'Home page {page} end')
  assert missed == count['not_covered']
  news = data / 'web-pages' / 'newspaper-pages.jsonl.gz'
  for row in files.read_jsonl(news, dict):
    assert evaluation_sets.reject(CFG, index, row['text']) == ''
