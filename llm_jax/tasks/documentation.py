"""Questions about a reference manual, built from its own pages.

Each entry of the manual gives two questions: its signature, and its summary.
Does not crawl or parse; entries come from tasks/reference.py.
"""

import random
from collections.abc import Sequence

from llm_jax.tasks import protocol, reference


def conversations(
  entries: Sequence[reference.Entry], count: int, seed: int
) -> list[list[dict[str, str]]]:
  """Draw questions about entries, with the manual's own words as answers.

  Args:
    entries: what the manual documents.
    count: conversations; fewer entries than needed are asked again.
    seed: of the draw.

  Returns:
    Conversations of one question and one answer in OpenAI's message form.

  Raises:
    ValueError: if there are no entries.
  """
  if not entries:
    raise ValueError(
      'no documented function was found in the documents; give --documents a '
      'crawl of a reference manual, or set Config.n_documentation = 0'
    )
  draw = random.Random(f'documentation/{seed}')
  result = []
  for _ in range(count):
    entry = draw.choice(entries)
    if draw.random() < 0.5:
      question = f'What is the signature of {entry.qualified_name}?'
      answer = entry.signature
    else:
      question = f'What does {entry.qualified_name} do?'
      answer = entry.summary
    result.append(protocol.exchange(question, answer))
  return result
