"""The example of facts: they are true, apart, and demonstrated as found."""

import collections
import json
import subprocess
import sys

import pytest

from examples import facts
from llm_jax.agent import search
from llm_jax.tasks import protocol

MIXED = facts.SearchFacts(made_share=0.5, given_share=0.3)
STEPS = facts.SearchFacts(made_share=0.5, n_calls=(1, 2, 3))


@pytest.fixture(name='find', scope='module')
def _find(tmp_path_factory):
  """A search of the documents that the command writes, for real facts."""
  folder = tmp_path_factory.mktemp('documents')
  command = [sys.executable, '-m', 'examples.facts', '--to', str(folder)]
  subprocess.run(command, check=True, capture_output=True, timeout=120)
  tool = search.make(search.build(str(folder)), n_snippets=1)
  return lambda query: tool.run({'query': query}, [])


@pytest.mark.parametrize(
  ('query', 'value'),
  [
    ('code point euro', '8364'),
    ('signal SIGTERM', '15'),
    ('errno ENOENT', '2'),
    ('status Not Found', '404'),
    ('HTTP 503', 'Service Unavailable'),
    ('MIME type .svg', 'image/svg+xml'),
    ('codec latin1', 'latin_1'),
    ('coordinates Vienna', '+4813+01620'),
    ('country AT', 'Austria'),
  ],
)
def test_what_is_so_is_found(find, query, value):
  assert find(query) == f'{query}: {value}'


def test_each_relation_has_facts_of_both_kinds():
  """Made-up ones of each, or what they have to teach is not taught."""
  for found, least in ((facts.known(), 30), (facts.made(), 300)):
    counts = collections.Counter(fact.relation for fact in found)
    assert {*counts} == {*facts.QUESTIONS}
    assert min(counts.values()) >= least
  names = {fact.query.casefold() for fact in facts.known()}
  assert not names & {fact.query.casefold() for fact in facts.made()}


def test_held_out_facts_are_real_and_stand_in_no_training_prompt():
  held_out = {fact.text for fact in facts.known() if fact.is_held_out}
  asked = {fact.question: fact for fact in facts.known()}
  for problem in MIXED.problems('held_out', 150, seed=0):
    assert asked[problem.prompt].text in held_out
    assert asked[problem.prompt].value == problem.reference
  for problem in MIXED.problems('train', 400, seed=0):
    *page, question = problem.prompt.split('\n')
    assert not held_out & {*page}
    assert question not in asked or not asked[question].is_held_out


@pytest.mark.parametrize('task', [MIXED, STEPS])
def test_demonstrations_are_what_the_tools_give(find, task):
  n_calls = collections.Counter()
  for problem in task.problems('train', 120, seed=1):
    question, *turns, answer = task.conversation(problem, think=True)
    assert question['content'] == problem.prompt
    for call, result in zip(turns[::2], turns[1::2], strict=True):
      ((entry,), given) = call['tool_calls'], result['content']
      arguments = json.loads(entry['function']['arguments'])
      if 'code' in arguments:
        said = str(eval(arguments['code'].removeprefix('print')))
        assert given == said == problem.reference
      else:
        assert given.startswith(f'{arguments["query"]}: ')
        if given in {fact.text for fact in facts.known()}:
          assert find(arguments['query']) == given
        assert arguments['query'].split()[-1] in problem.prompt
    n_calls[problem.kind if task is STEPS else '', len(turns) // 2] += 1
    assert task.score(problem, answer['content']).correct
    assert not task.score(problem, f'{answer["content"]}1').correct
    direct = task.conversation(problem, think=False)
    assert direct == protocol.exchange(problem.prompt, answer['content'])
  if task is STEPS:
    assert {*n_calls} == {('1 call', 1), ('2 calls', 2), ('3 calls', 3)}
  else:
    assert {*n_calls} == {('', 0), ('', 1)}


def test_pages_say_what_is_asked_or_something_else():
  true = {fact.question: fact for fact in facts.known()}
  for given in ('right', 'wrong', 'other'):
    task = facts.SearchFacts(given=given, n_snippets=3)
    for problem in task.problems('held_out', 40, seed=0):
      *page, question = problem.prompt.split('\n')
      fact = true[question]
      lines = dict(line.split(': ', 1) for line in page)
      assert len(lines) <= 3
      assert (problem.reference == fact.value) == (given == 'right')
      assert (fact.query in lines) == (given != 'other')
      assert problem.reference in lines.values()
      assert len(task.conversation(problem, think=True)) == 2


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'given': 'left'}, "given = 'left'; use"),
    ({'n_calls': (4,)}, r'n_calls = \(4,\); use 1, 2 and 3'),
    ({'n_calls': (1, 2), 'given': 'right'}, 'as a page says one fact'),
  ],
)
def test_what_is_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    facts.SearchFacts(**fields)
