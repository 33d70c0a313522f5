"""Prompts of a file, as questions without right answers."""

import json

import pytest

from llm_jax.tasks import prompts


def test_every_form_of_a_prompt(tmp_path):
  talk = [
    {'role': ('user', 'assistant')[i % 2], 'content': text}
    for i, text in enumerate(('a', 'b', 'c'))
  ]
  rows = [
    {'prompt': 'q', 'chosen': 'x', 'rejected': 'y'},
    {'prompt': talk},
    {'messages': talk[:1]},
  ]
  path = tmp_path / 'prompts.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  task = prompts.Prompts(path=str(path))
  found = {(p.prompt, p.before) for p in task.problems('all', 0, seed=0)}
  assert found == {('q', ()), ('c', (('a', 'b'),)), ('a', ())}
  assert not task.score(None, 'any').correct
  for row, fault in (
    ({'prompt': talk[:2]}, 'last message is of the assistant'),
    ({'prompt': [{'role': 'system', 'content': 's'}, *talk[:1]]}, 'by turns'),
    ({'text': 't'}, 'line 1'),
  ):
    path.write_text(json.dumps(row))
    with pytest.raises(ValueError, match=fault):
      task.problems('all', 0, seed=0)
