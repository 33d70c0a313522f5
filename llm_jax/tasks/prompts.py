"""Prompts without right answers, from a file; their reward is a model's.

A row holds a prompt, as text or messages, or messages; what else it holds, such
as answers, is not read, so that a file of preferences serves too.
"""

import dataclasses
from typing import Any

from llm_jax.chat import conversation, forms
from llm_jax.tasks import protocol, published
from llm_jax.verify import grading


@dataclasses.dataclass(frozen=True)
class Prompts(published.Published):
  """The task for the prompts of a file."""

  path: str = ''  # JSONL or JSONL.gz
  held_out_path: str = ''  # '': a tenth of path
  name: str = 'prompts'
  has_verifier = False  # no answer is right or wrong

  def read(self, row: dict[str, Any]) -> protocol.Problem:
    """A row as a problem without a reference."""
    given = row['prompt'] if 'prompt' in row else row['messages']
    if isinstance(given, str):
      given = [{'role': conversation.USER, 'content': given}]
    messages = [*map(forms.to_message, forms.to_list(given, 'prompt'))]
    conversation.check_answerable(messages)
    if len(messages) % 2 == 0 or messages[0]['role'] != conversation.USER:
      raise ValueError('a prompt is questions and answers by turns')
    *before, question = [message['content'] for message in messages]
    turns = tuple(zip(before[::2], before[1::2], strict=True))
    return protocol.Problem(self.name, question, reference='', before=turns)

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """No verdict."""
    del problem, answer
    return grading.Score(False, 'prompts have no verifier')
