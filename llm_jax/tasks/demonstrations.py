"""Conversations that nobody wrote: of a task, an identity, a manual.

Everything is off unless a number asks for it. What users bring is read by
data/conversations.py.
"""

import random
from collections.abc import Sequence

from llm_jax.data import conversations, readers
from llm_jax.tasks import documentation, identity, protocol, reference

Conversation = conversations.Conversation


def check(
  n_task: int, n_identity: int, n_documentation: int, documents: str | None
) -> bool:
  """Whether anything is to be made.

  Raises:
    ValueError: for questions about no documents, or documents for no question.
  """
  if bool(documents) != bool(n_documentation):
    raise ValueError(
      f'Config.n_documentation = {n_documentation} questions about '
      f'--documents {documents}: give both, or none of them'
    )
  return bool(n_task or n_identity or n_documentation)


def make(
  task: protocol.Task | None,
  n_task: int,
  think_share: float,
  n_identity: int,
  n_documentation: int,
  documents: str | None,
  text_column: str,
  max_turns: int,
  seed: int,
) -> list[Conversation]:
  """Draw all of them, mixed.

  Args:
    task: whose demonstrations there are; None: none.
    n_task: as many.
    think_share: share of them with a thought.
    n_identity: questions about the assistant.
    n_documentation: questions about the manual in the documents.
    documents: a corpus, see data/readers.py.
    text_column: of its rows.
    max_turns: neighbours are joined to conversations of 1 to so many questions.
    seed: of all draws.

  Returns:
    The messages of each conversation.
  """
  draw = random.Random(f'conversations/{seed}')
  result = identity.conversations(n_identity, seed)
  if task:
    result += protocol.conversations(
      task, n_task, seed=seed, think_share=think_share, draw=draw
    )
  if documents:
    entries = [
      entry
      for page in readers.read(documents, 'train', readers.Form(text_column))
      for entry in reference.entries(page.text)
    ]
    result += documentation.conversations(entries, n_documentation, seed)
  draw.shuffle(result)
  return conversations.join_turns(result, max_turns, draw)


def usage(
  task: protocol.Task | None, dataset: Sequence[Conversation]
) -> tuple[Sequence[str], int]:
  """What a model of these conversations can be asked.

  Args:
    task: whose demonstrations are among them; its `examples` come first.
    dataset: the conversations.

  Returns:
    Three questions, and how many the longest conversation has.
  """
  questions = [
    [message['content'] for message in messages if message['role'] == 'user']
    for messages in dataset
  ]
  first = [asked[0] for asked in questions[:3] if asked]
  examples = getattr(task, 'examples', None) or first
  return examples, max(map(len, questions))
