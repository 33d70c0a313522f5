"""Questions with short answers in a file here, asked with no source at hand.

A row of JSONL holds a question, its answer or a list of accepted ones, and may
hold the kind of question, by which accuracy is also counted. Who says that it
does not know is not right, and not wrong either.
"""

import dataclasses
import re
from typing import Any

from llm_jax.tasks import protocol, published
from llm_jax.verify import grading

_REFUSAL = re.compile(
  r"(?i)\b(?:do(?:es)? not|don't|cannot|can't|could not|couldn't) "
  r'(?:know|say|tell|answer|find)\b|\bnot (?:sure|known)\b|^unknown\W*$'
)


@dataclasses.dataclass(frozen=True)
class ClosedBook(published.Published):
  """The task, for a file of question and answer."""

  path: str = ''  # JSONL or JSONL.gz
  held_out_path: str = ''  # the questions no stage trains on; '': a tenth
  wrong_cost: float = 0.0  # in RL; 1 makes it pay to refuse
  name: str = 'closed_book'

  def read(self, row: dict[str, Any]) -> protocol.Problem:
    """A row as a problem; its reference is one accepted answer a line."""
    accepted = row['answer']
    accepted = [accepted] if isinstance(accepted, str) else accepted
    for text in (row['question'], *(accepted or [''])):
      if not isinstance(text, str) or not _plain(text):
        raise ValueError(f'question or answer is {text!r}; write text')
    reference = '\n'.join(accepted)
    return protocol.Problem(
      self.name, row['question'], reference, kind=row.get('kind', '')
    )

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """The first accepted answer; there is nothing to think."""
    del think
    return problem.reference.partition('\n')[0]

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """Whether the last answer is an accepted one, but for case and quotes.

    >>> task = ClosedBook(wrong_cost=1.0)
    >>> problem = task.read({'question': 'Codec of latin?', 'answer': 'cp819'})
    >>> [task.score(problem, text).reward for text in (
    ...   '"CP819".', 'I do not know.', 'utf_8')]
    [1.0, 0.0, -1.0]

    Args:
      problem: a problem of this task.
      answer: anything a model wrote.
    """
    text = grading.final(answer)
    if text is None:
      reason = 'the thought does not end'
      return grading.Score(False, reason, reward=-self.wrong_cost)
    mark = grading.marked(text)
    text = text if mark is None else mark
    if _plain(text) in map(_plain, problem.reference.split('\n')):
      return grading.Score(True, 'equal', reward=1.0)
    if _REFUSAL.search(text):
      return grading.Score(False, 'refused', refused=True, reward=0.0)
    wanted = problem.reference.partition('\n')[0]
    reason = f'{text[:40]!r} is not {wanted:.80}'
    return grading.Score(False, reason, reward=-self.wrong_cost)


def _plain(text: str) -> str:
  """Without case, white space around and marks at the ends."""
  return text.casefold().strip().rstrip('.!').strip('"\'` ')
