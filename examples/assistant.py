"""What the speedrun's assistant is asked, in the first turn or a later one.

  python -m experiments.sft --workdir runs/speedrun/sft \
    --gin_file gin_configs/sft_tiny.gin --import examples/assistant.py \
    --restore_from runs/speedrun/pretrain

Sums, who it is, and what it cannot do, which it says in one sentence. Sums and
refused questions have a held-out split; who it is, is learnt by heart.
"""

import dataclasses
import random
from typing import ClassVar

from llm_jax.tasks import addition, protocol, questions, splits
from llm_jax.verify import grading

_ADDITION = addition.Addition()
CANNOT = 'I cannot do that: I only add two numbers of up to three digits.'


@dataclasses.dataclass(frozen=True)
class Assistant(protocol.Thinking):
  """The task: questions of three kinds, in conversations of 1 to max_turns.

  The question of a problem is its last one; what was said before are a
  demonstrator's answers.
  """

  max_turns: int = 1  # questions of the longest conversation
  identity_share: float = 0.15  # of the questions
  refused_share: float = 0.2  # of the questions, that it cannot answer
  think_share: float = 0.4  # of the sums in the turns before
  name: str = 'assistant'  # in records
  examples: ClassVar = (
    'What is 12 + 7?', 'Who are you?', 'Write a poem about the moon.',
  )  # fmt: skip

  def problems(self, split: str, count: int, seed: int) -> protocol.Problems:
    """Problems of one split, in an order that the seed decides.

    Raises:
      ValueError: if the split is unknown or has too few sums.
    """
    splits.check(split)
    draw = random.Random(f'{self.name}/{split}/{seed}')
    sums = iter(_ADDITION.problems(split, count, seed))
    n_before = count * (self.max_turns - 1)
    before = iter(_ADDITION.problems('train', n_before, seed + 1))
    result = []
    for _ in range(count):
      turns = []
      for _ in range(draw.randint(0, self.max_turns - 1)):
        asked = self._one(draw, before, 'train')
        think = draw.random() < self.think_share
        turns.append((asked.prompt, self.demonstrate(asked, think)))
      last = self._one(draw, sums, split)
      kind = f'{last.kind}, turn {len(turns) + 1}'
      last = dataclasses.replace(last, before=tuple(turns), kind=kind)
      result.append(last)
    return result

  def _one(self, draw, sums, split: str) -> protocol.Problem:
    """A question of any kind."""
    u = draw.random()
    if u < self.identity_share:
      question, answer = draw.choice(questions.identity())
      question = addition.varied(question, draw)
      return protocol.Problem(self.name, question, answer, kind='who it is')
    if u < self.identity_share + self.refused_share:
      while True:
        question = addition.varied(_beyond(draw), draw)
        if splits.is_held_out(question.lower()) == (split == 'held_out'):
          return protocol.Problem(
            self.name, question, CANNOT, kind='what it cannot'
          )
    return dataclasses.replace(next(sums), task=self.name, kind='a sum')

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """The answer, after a thought if it is a sum and think is true."""
    if problem.reference.isdecimal():
      return _ADDITION.demonstrate(problem, think)
    return problem.reference

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """A sum as in Addition; a sentence must be the one that was learnt."""
    if problem.reference.isdecimal():
      return _ADDITION.score(problem, answer)
    return grading.compare(
      answer, reference=problem.reference, read=str, what='a sentence'
    )


def _beyond(draw: random.Random) -> str:
  """A question that is refused."""
  refused = questions.of('refused')
  u = draw.random()
  if u < 0.1:
    return draw.choice(refused['other'])
  if u < 0.6:
    topic = draw.choice(refused['topics'])
    if draw.random() < 0.3:
      topic = questions.word(draw, n_syllables=4)
    return draw.choice(refused['about']).format(topic)
  lengths = [draw.randint(1, 3) for _ in 'abc']
  texts = refused['sums']
  if draw.random() < 0.3:  # a sum as those that it can add, but longer
    lengths[draw.randrange(2)] = draw.randint(4, 6)
    texts = [
      text for kind in questions.of('addition').values() for text in kind
    ]
  a, b, c = (draw.randrange(10 ** (n - 1), 10**n) for n in lengths)
  return draw.choice(texts).format(a=a, b=b, c=c)
