"""Sums, differences and products of long numbers, which a program computes.

A small Transformer cannot do them in its head, and needs no columns: it may
call the tool `python`. What it has to learn is to copy, into the call and out
of its result.
"""

import dataclasses
import random
import re

from llm_jax.chat import calls
from llm_jax.tasks import addition, protocol, splits
from llm_jax.verify import grading

_KINDS = {'sum': '+', 'difference': '-', 'product': '*'}


@dataclasses.dataclass(frozen=True)
class Arithmetic(splits.Made):
  """The task for numbers of one length; demonstrated by calls or by columns.

  A pair of numbers is of one split in both orders, whatever is asked of it.
  """

  kinds: tuple[str, ...] = tuple(_KINDS)  # sum, difference, product
  by: str = 'python'  # how it thinks; 'columns': sums, written out
  n_digits: int = 6  # of the numbers in sums and differences
  n_factor_digits: int = 4  # in products
  learns_results: bool = False  # a control: tokens of the tool are learnt too
  name: str = 'arithmetic'

  def __post_init__(self):
    known = {'python': {*_KINDS}, 'columns': {'sum'}}.get(self.by, set())
    if not self.kinds or {*self.kinds} - known:
      raise ValueError(
        f'Arithmetic.kinds = {self.kinds} by {self.by!r}; use {(*_KINDS,)} by '
        "'python', or ('sum',) by 'columns'"
      )

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    kind = draw.choice(self.kinds)
    n = self.n_factor_digits if kind == 'product' else self.n_digits
    a, b = (draw.randrange(10 ** (n - 1), 10**n) for _ in range(2))
    if kind == 'difference':
      a, b = max(a, b), min(a, b)
    right = {'sum': a + b, 'difference': a - b, 'product': a * b}[kind]
    prompt = f'What is {a}{_KINDS[kind]}{b}?'
    key = f'{min(a, b)} {max(a, b)}'
    return key, protocol.Problem(self.name, prompt, f'{right}', kind=kind)

  def conversation(
    self, problem: protocol.Problem, think: bool
  ) -> list[protocol.Message]:
    """The problem with its answer; if thinking, after a call or columns.

    >>> task = Arithmetic()
    >>> problem = protocol.Problem('arithmetic', 'What is 12*34?', '408')
    >>> for message in task.conversation(problem, think=True)[1:]:
    ...   print(message)
    {'role': 'assistant', 'content': '', 'tool_calls': [{'type': 'function', \
'function': {'name': 'python', 'arguments': '{"code": "print(12*34)"}'}}]}
    {'role': 'tool', 'content': '408'}
    {'role': 'assistant', 'content': '408'}
    """
    if not think:
      return protocol.exchange(problem.prompt, problem.reference)
    asked = re.sub('[^0-9+*-]', '', problem.prompt)
    if self.by == 'columns':
      lines = addition.columns(*asked.split('+'))
      answer = grading.with_thought(lines, problem.reference)
      return protocol.exchange(problem.prompt, answer)
    call = calls.Call('python', {'code': f'print({asked})'})
    weight = {'weight': 1} if self.learns_results else {}
    return [
      *protocol.exchange(problem.prompt, '')[:1],
      {'role': 'assistant', 'content': '', 'tool_calls': [call.message()]},
      {'role': 'tool', 'content': problem.reference, **weight},
      {'role': 'assistant', 'content': problem.reference},
    ]
