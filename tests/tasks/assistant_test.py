"""The assistant: its questions, its turns, its split and its verifier."""

import collections
import random
import re

import pytest

from examples import assistant
from llm_jax.chat import conversation, formats
from llm_jax.tasks import protocol
from llm_jax.tokenizer import encoding

TASK = assistant.Assistant(max_turns=3)


def test_each_turn_has_every_kind():
  kinds = collections.Counter(p.kind for p in TASK.problems('train', 900, 0))
  assert set(kinds) == {
    f'{kind}, turn {turn}'
    for kind in ('a sum', 'who it is', 'what it cannot')
    for turn in (1, 2, 3)
  }
  alone = assistant.Assistant().problems('train', 100, 0)
  assert not [p for p in alone if p.before]


def test_held_out_sums_and_refused_questions_are_in_no_conversation():
  def asked(split, count):
    turns = []
    for problem in TASK.problems(split, count, 0):
      turns.append((problem.prompt, problem.reference))
      turns += problem.before if split == 'train' else ()
    answered = [(text, answer.split('\n')[-1]) for text, answer in turns]
    sums = {
      tuple(sorted(re.findall('[0-9]+', text)))
      for text, answer in answered
      if answer.isdecimal()
    }
    refused = {
      t.lower() for t, answer in answered if answer == assistant.CANNOT
    }
    return sums, refused

  for train, held_out in zip(
    asked('train', 2000), asked('held_out', 300), strict=True
  ):
    assert len(held_out) > 20
    assert not train & held_out


def test_demonstrations_are_right_and_other_sentences_wrong():
  for problem in TASK.problems('train', 300, 1):
    for think in (False, True):
      answer = TASK.demonstrate(problem, think)
      assert TASK.score(problem, answer).correct
      assert TASK.thinks(answer) == (think and problem.reference.isdecimal())
    assert not TASK.score(problem, answer + '!').correct
    assert not TASK.score(problem, '').correct
    if not problem.reference.isdecimal():
      assert not TASK.score(problem, '12').correct


def test_refused_questions_are_no_sum_that_it_can_add():
  for problem in TASK.problems('train', 2000, 2):
    if problem.reference != assistant.CANNOT:
      continue
    numbers = re.findall('[0-9]+', problem.prompt)
    other = re.search('[-*/x]|minus|times|ivide|roduct|large', problem.prompt)
    assert (
      len(numbers) != 2
      or other
      or max(map(len, numbers)) > 3
      or ('ultiply' in problem.prompt or 'ubtract' in problem.prompt)
    )


def test_conversations_are_whole_and_a_prompt_holds_what_was_said():
  drawn = protocol.conversations(
    TASK, 50, seed=0, think_share=0.5, draw=random.Random(0)
  )
  for messages in drawn:
    conversation.check(messages)
  tokenizer = encoding.Tokenizer.from_merges([], 'qwen2')
  problem = next(p for p in TASK.problems('train', 50, 0) if len(p.before) == 2)
  messages = formats.question(problem.prompt, problem.before)
  ids = formats.choose(tokenizer, is_chat=True).prompt(messages)
  said = [text for turn in problem.before for text in turn]
  text = tokenizer.decode([i for i in ids if i not in tokenizer.special_ids])
  roles = ['user', 'assistant', 'user', 'assistant', 'user', 'assistant']
  expected = [*said, problem.prompt, '']
  assert text == ''.join(r + c for r, c in zip(roles, expected, strict=True))
  with pytest.raises(ValueError, match='that continues one text; give one'):
    formats.choose(tokenizer, is_chat=False).prompt(messages)
