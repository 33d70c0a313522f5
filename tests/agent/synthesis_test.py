"""What a model is asked to write, and what of it is kept."""

import itertools
import random
import re

import pytest

from llm_jax import endpoint, files
from llm_jax.agent import synthesis
from llm_jax.data import readers
from llm_jax.tasks import addition
from llm_jax.web.dedup import deduplication

TEMPLATES = {'prompts': {'t': 'Of {topic}.'}, 'refusals': ['as an ai,']}
PROMPT = synthesis.Prompt([], 0, {})
PARAGRAPH = 'A river delta forms where a river slows and drops what it carries'


def reply(question, answer):
  return endpoint.Reply(f'Question: {question}\nAnswer: {answer}', '')


def judged(judge, *pairs):
  """Of each pair '' if it is kept, else why it is not."""
  found = []
  for question, answer in pairs:
    try:
      judge.conversation(PROMPT, reply(question, answer))
      found.append('')
    except synthesis.Reject as reason:
      found.append(str(reason))
  return found


@pytest.mark.parametrize(
  ('a', 'b', 'wanted'),
  [
    # Of Lin 2004, section 3.1, whose words are these.
    ('police killed the gunman', 'police kill the gunman', 3 / 4),
    ('police killed the gunman', 'the gunman kill police', 2 / 4),
    ('a b c d', 'd c b a', 1 / 4),
    ('a b', 'a b', 1.0),
    ('a a b', 'a b b b', 2 * 2 / 7),
    ('a', 'b', 0.0),
    ('', '', 0.0),
    ('', 'a', 0.0),
  ],
)
def test_rouge_l_by_hand(a, b, wanted):
  assert synthesis.rouge_l(a.split(), b.split()) == wanted


def test_rouge_l_is_that_of_a_table():
  draw = random.Random(0)
  for _ in range(300):
    a, b = (draw.choices('abcd', k=draw.randrange(90)) for _ in range(2))
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a)), range(len(b))):
      longest = max(table[i][j + 1], table[i + 1][j])
      table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else longest
    wanted = 2 * table[-1][-1] / max(len(a) + len(b), 1)
    assert synthesis.rouge_l(a, b) == wanted


@pytest.mark.parametrize(
  ('text', 'wanted'),
  [
    ('\n Question: Why?\n\nAnswer:\nIt is.\n- so\n', ('Why?', 'It is.\n- so')),
    ('<think>Question: no</think>Question: a\nAnswer: b', ('a', 'b')),
    ('Question: the Answer: of\n  Answer: b', ('the Answer: of', 'b')),
  ],
)
def test_one_question_with_one_answer_is_read(text, wanted):
  assert synthesis.pair(text) == wanted


@pytest.mark.parametrize(
  'text',
  [
    '',
    'Sure! Question: a\nAnswer: b',
    'Sure!\nQuestion: a\nAnswer: b',
    'Question: a',
    'Question: a Answer: b',
    'Answer: a\nQuestion: b',
    'Question: a\nAnswer: b\nQuestion: c\nAnswer: d',
    'Question: a\nAnswer: b\nAnswer: c',
    '**Question:** a\n**Answer:** b',
  ],
)
def test_all_else_is_rejected(text):
  with pytest.raises(synthesis.Reject, match='not of the form of one question'):
    synthesis.pair(text)


def test_a_thought_without_end_is_rejected():
  with pytest.raises(synthesis.Reject, match='the thought does not end'):
    synthesis.pair('<think>Question: a\nAnswer: b')


def test_what_is_kept_is_a_conversation():
  judge = synthesis.Judge(synthesis.Rules(), TEMPLATES)
  assert judge.conversation(PROMPT, reply('Why is the sky blue?', 'Air.')) == [
    {'role': 'user', 'content': 'Why is the sky blue?'},
    {'role': 'assistant', 'content': 'Air.'},
  ]
  with pytest.raises(synthesis.Reject, match='no end within'):
    judge.conversation(PROMPT, endpoint.Reply('Question', endpoint.NO_END))


@pytest.mark.parametrize(
  ('question', 'answer', 'reason'),
  [
    ('Why?', 'So.', 'the question is not 10 to 1000 characters long'),
    ('w' * 1001, 'So.', 'the question is not 10 to 1000'),
    ('Why is that so?', '', 'the answer is not 1 to 4000'),
    ('Why is that so?', 'As an AI, I do not know.', 'a refusal'),
    ('Why is that so?', 'Ask bob@mail.org.', 'personal data: email$'),
    ('Who is at 8.8.8.8?', 'Call +1 212 555 2368.', 'data: ip_address, phone'),
  ],
)
def test_rules_reject(question, answer, reason):
  judge = synthesis.Judge(synthesis.Rules(), TEMPLATES)
  (found,) = judged(judge, (question, answer))
  assert re.search(reason, found)
  # What is rejected is not compared with.
  good = 'Why is that so?', 'Because of the wind.'
  assert judged(judge, good) == ['']


def test_every_refusal_of_ours_is_found():
  templates = synthesis.read_templates()
  assert len(templates['refusals']) > 20
  judge = synthesis.Judge(synthesis.Rules(), templates)
  for text in templates['refusals']:
    said = text.capitalize().replace("'", '’')
    (found,) = judged(judge, ('Why is that so?', f'{said} you.'))
    assert found.startswith('a refusal')


def test_copies_and_what_is_like_an_earlier_question_are_rejected():
  ten = 'a1 b2 c3 d4 e5 f6 g7 h8 i9 j10'
  seven = ' '.join([*ten.split()[:7], 'x', 'y', 'z'])  # 2*7/20 is not above
  eight = ' '.join([*ten.split()[:8], 'v', 'w'])
  judge = synthesis.Judge(synthesis.Rules(), TEMPLATES)
  pairs = [(ten, 'A'), (f' {ten.upper()}', 'B'), (seven, 'C'), (eight, 'D')]
  assert judged(judge, *pairs) == [
    '',
    'the question is a copy of an earlier one',
    '',
    'the question is like an earlier one, by ROUGE-L',
  ]
  every = synthesis.Judge(synthesis.Rules(max_rouge=1), TEMPLATES)
  assert judged(every, *pairs)[2:] == ['', '']


def test_near_copies_are_rejected_by_minhash():
  pairs = [
    ('How is a delta made?', f'{PARAGRAPH}, sand first and mud last.'),
    ('Tell me about deltas!', f'{PARAGRAPH}, sand first and mud last!'),
    ('What moves sand in a desert?', 'Wind lifts it, grain by grain.'),
  ]
  rules = synthesis.Rules(minhash=deduplication.MinHash(n_gram=3))
  judge = synthesis.Judge(rules, TEMPLATES)
  reason = 'a near copy of an earlier one, by MinHash'
  assert judged(judge, *pairs) == ['', reason, '']
  off = synthesis.Rules(minhash=deduplication.MinHash(enabled=False))
  assert judged(synthesis.Judge(off, TEMPLATES), *pairs) == ['', '', '']


def test_examples_of_templates_are_never_kept():
  text = 'Like this:\nQuestion: How long is a day on Mars?\nOn {topic}.'
  judge = synthesis.Judge(
    synthesis.Rules(), {**TEMPLATES, 'prompts': {'a': 'Ask.', 'b': text}}
  )
  assert judged(judge, ('How long is a day on mars?', 'Long.')) == [
    'the question is a copy of an earlier one'
  ]


def test_the_verifier_says_which_answers_of_a_task_are_kept():
  task = addition.Addition()
  asked = list(synthesis.of_task(task, 20, seed=1, is_chat=True))
  assert [x.problem for x in asked] == list(task.problems('train', 20, 1))
  assert len({x.seed for x in asked}) == 20
  judge = synthesis.Judge(synthesis.Rules(), TEMPLATES, task)
  for number, prompt in enumerate(asked):
    right = prompt.problem.reference
    wrong = endpoint.Reply(f'{int(right) + 1}', '')
    with pytest.raises(synthesis.Reject, match='wrong, says the verifier'):
      judge.conversation(prompt, wrong)
    *_, question, answer = judge.conversation(
      prompt, endpoint.Reply(f' {right}\n', '')
    )
    assert question['content'] == prompt.problem.prompt
    assert answer == {'role': 'assistant', 'content': right}
    with pytest.raises(synthesis.Reject, match='copy of an earlier'):
      judge.conversation(prompt, endpoint.Reply(right, ''))
    assert prompt.origin == {'task': task.name}, number
  assert 'verifier' in judge.rules


def first(count, *arguments, **more):
  settings = {'document_chars': 40, 'seed': 0, **more}
  return list(
    itertools.islice(synthesis.prompts(*arguments, **settings), count)
  )


def test_prompts_show_what_is_given_and_nothing_twice_filled():
  templates = {
    'both': 'Read: {document}\nAs {persona}, on {topic}.\nAsk {{"x"}}.',
    'other': 'On {topic}.',
  }
  words = [f'w{i}' for i in range(30)]
  documents = [
    readers.Document(' '.join(words), 'http://a/'),
    readers.Document('short {topic}', 'http://b/'),
  ]
  lists = {'topic': ['tides', '{persona}'], 'persona': ['a child']}
  asked = first(40, templates, documents, lists)
  seen = set()
  for number, prompt in enumerate(asked):
    (message,) = prompt.messages
    topic = prompt.origin['topic']
    seen.add((prompt.origin['template'], topic))
    if prompt.origin['template'] == 'other':
      assert message['content'] == f'On {topic}.'
      assert prompt.origin == {'template': 'other', 'topic': topic}
      continue
    assert prompt.origin['document'] == f'http://{"ab"[number % 2]}/'
    assert prompt.origin['persona'] == 'a child'
    line, rest = message['content'].split('\n', 1)
    assert rest == f'As a child, on {topic}.\nAsk {{{{"x"}}}}.'
    shown = line.removeprefix('Read: ')
    if number % 2:
      assert shown == 'short {topic}'
    else:  # whole words of the document, one behind the other
      assert 20 < len(shown) <= 40
      assert shown in ' '.join(words)
      assert set(shown.split()) <= set(words)
  assert len(seen) == 4
  assert asked == first(40, templates, documents, lists)
  assert asked != first(40, templates, documents, lists, seed=1)


def test_lines_that_name_what_is_not_given_are_left_out():
  templates = {
    'a': 'Read {document}\nOn {topic}.\nAsk.',
    'b': 'Read {document}',
  }
  asked = first(9, templates, [], {'topic': ['tides']})
  assert {x.messages[0]['content'] for x in asked} == {'On tides.\nAsk.'}
  with pytest.raises(
    ValueError, match='nothing to ask about; give --documents'
  ):
    first(1, templates, [], {})
  with pytest.raises(
    ValueError, match=r'no template that .* names \{persona\}'
  ):
    first(1, templates, [], {'persona': ['a child'], 'topic': ['tides']})


def test_a_persona_is_not_what_is_asked_about():
  ours = synthesis.read_templates()['prompts']
  documents = [readers.Document('Of tides.', '')]
  asked = first(40, ours, documents, {'persona': ['a child']})
  assert {x.origin['template'] for x in asked} == {'document', 'document_why'}
  for prompt in asked:
    (message,) = prompt.messages
    assert 'this text' in message['content']
    assert message['content'].endswith('would ask.\n\nText: Of tides.')
  with pytest.raises(ValueError, match=r'names \{persona\}; write one'):
    first(1, ours, [], {'persona': ['a child']})


def test_documents_are_drawn_evenly_and_none_that_is_held_out(tmp_path):
  path = tmp_path / 'texts.txt'
  path.write_text('\n\n'.join(f'document {i}' for i in range(400)))
  form = readers.Form(blank_lines=True)
  pages = enumerate(readers.read(str(path), 'train', form))
  train = {page._replace(url=f'document {i}') for i, page in pages}
  assert 300 < len(train) < 400
  some = synthesis.sample(str(path), form, 100, seed=0)
  assert len({*some}) == 100
  assert {*some} < train
  numbers = [int(x.text.split()[1]) for x in some]
  assert 150 < sum(numbers) / 100 < 250
  assert numbers != sorted(numbers)
  assert some != synthesis.sample(str(path), form, 100, seed=1)
  assert {*synthesis.sample(str(path), form, 999, seed=0)} == train


def test_a_document_is_named_by_its_url(tmp_path):
  path = tmp_path / 'pages.jsonl'
  rows = [f'{{"text": "a", "url": "http://a/{i}"}}\n' for i in range(60)]
  path.write_text(''.join(rows))
  found = synthesis.sample(str(path), readers.Form(), 60, seed=0)
  assert len({page.url for page in found}) == len(found) > 40
  assert all(page.url.startswith('http://a/') for page in found)


def test_templates_of_a_users_own(tmp_path):
  ours, path = synthesis.read_templates(), tmp_path / 'own.toml'
  path.write_text('refusals = ["no"]')
  found = synthesis.read_templates(str(path))
  assert found == {'refusals': ['no'], 'prompts': ours['prompts']}
  path.write_text('[prompts]\na = "On {topic}."')
  found = synthesis.read_templates(str(path))
  assert found == {**ours, 'prompts': {'a': 'On {topic}.'}}
  assert files.tables_of(synthesis.__file__) == ours  # and is not changed


@pytest.mark.parametrize(
  ('data', 'reason'),
  [
    (b'[prompts]\na = "{topics}"', "'topics' is not known"),
    (b'[prompt]\na = "{topic}"', "'prompt' is not known"),
    (b'prompts = "x"', 'no attribute'),
    (b'[prompts]\na = 1', 'expected str'),
    (b'refusals = 1', 'iterable'),
    (b'[prompts', 'Expected'),
    (b'\xff', 'not UTF-8'),
  ],
)
def test_templates_of_another_form_are_refused(data, reason, tmp_path):
  path = tmp_path / 'own.toml'
  path.write_bytes(data)
  match = rf'(?s)--templates .*own\.toml: .*{reason}.*; TOML has a table'
  with pytest.raises(ValueError, match=match):
    synthesis.read_templates(str(path))


def test_topics_stand_one_a_line(tmp_path):
  path = tmp_path / 'topics.txt'
  path.write_bytes('\ufefftides\r\n\n  the Moon \n'.encode())
  assert synthesis.read_lines('topics', str(path)) == ['tides', 'the Moon']
  path.write_text(' \n\n')
  with pytest.raises(
    ValueError, match='--topics .* is empty; write one a line'
  ):
    synthesis.read_lines('topics', str(path))
  path.write_bytes(b'a\n\xff\n')
  with pytest.raises(ValueError, match='topics.txt, line 2, byte 1 is 0xff'):
    synthesis.read_lines('topics', str(path))
  with pytest.raises(FileNotFoundError, match='--topics .*nowhere'):
    synthesis.read_lines('topics', str(tmp_path / 'nowhere.txt'))
