"""What the speedrun's assistant is asked, in the first turn or a later one.

Sums, who it is, and what it cannot do, which it says in one sentence. Sums and
refused questions have a held-out split; who it is, is learnt by heart.
"""

import dataclasses
import itertools
import random
from typing import ClassVar

from llm_jax.tasks import addition, identity, letters, protocol, splits
from llm_jax.verify import grading

_ADDITION = addition.Addition()
CANNOT = 'I cannot do that: I only add two numbers of up to three digits.'

# Questions that are refused: a template and its fillings, made-up words too.
_TOPICS = (
  'a poem', 'music', 'love', 'the moon', 'the weather', 'Paris', 'Germany',
  'football', 'history', 'a cat', 'dogs', 'chess', 'cooking', 'bread', 'money',
  'physics', 'Python', 'a list', 'files', 'strings', 'JAX', 'a story', 'art',
  'the sea', 'trees', 'my friend', 'your dreams', 'politics', 'a car', 'rain',
  'Mozart', 'Einstein', 'the president', 'China', 'London', 'winter', 'a joke',
  'the universe', 'coffee', 'a dictionary', 'classes', 'the sun', 'birds',
)  # fmt: skip
_ABOUT = (
  'What is {}?', 'Tell me about {}.', 'Write {}.', 'Explain {}.', 'Who is {}?',
  'What do you know about {}?', 'Do you like {}?', 'Where is {}?',
  'How does {} work?', 'Why is {} important?', 'Can you tell me {}?',
  'What is the capital of {}?', 'Translate {} into French.', 'Describe {}.',
  'Write a poem about {}.', 'Tell me a joke about {}.', 'When was {} born?',
  'How do I use {}?', 'What does {} mean?', 'What is the meaning of {}?',
  'Write a function about {}.', 'How old is {}?', 'What colour is {}?',
  'Summarize {}.', 'Give me an example of {}.', 'I want to talk about {}.',
  'Help me with {}.', 'What is the best way to learn {}?', 'Spell {}.',
  'I think {} is great.', 'Should I buy {}?', 'How many letters has {}?',
  'Sing {}.', 'Make a plan for {}.', 'Is {} good?', 'What about {}?',
)  # fmt: skip
_OTHER = (
  'Tell me a joke.', 'Tell me a story.', 'What time is it?', 'Write a poem.',
  'What day is it?', 'How is the weather?', 'Why is the sky blue?',
  'What is the capital of France?', 'How old are you?', 'Where do you live?',
  'Do you have feelings?', 'What is the meaning of life?', 'Write some code.',
  'Can you sing?', 'Who is the president?', 'Sort a list.', 'I am sad.',
  'Say something.', 'Are you happy?', 'What are you thinking?',
)  # fmt: skip
_SUMS = (
  '{a} - {b}', '{a}-{b}', 'What is {a} - {b}?', '{a} minus {b}', '{a} * {b}',
  '{a}*{b}=', 'What is {a} times {b}?', '{a} x {b}', '{a} / {b}', '{a}/{b}',
  'Multiply {a} by {b}.', 'Subtract {b} from {a}.', 'Divide {a} by {b}.',
  'What is {a} divided by {b}?', 'Is {a} larger than {b}?',
  'What is {a} * {b}?', 'What is the square root of {a}?', 'Count to {a}.',
  'What is the product of {a} and {b}?', 'Is {a} a prime?', '{a}', '{a}+',
  '{a} + {b} + {c}', '{a}+{b}+{c}=', 'What is {a} + {b} + {c}?',
  'Add {a}, {b} and {c}.',
)  # fmt: skip
# Sums as those that it can add, for numbers that are too long.
_LONG = tuple(itertools.chain.from_iterable(addition.PHRASINGS.values()))


@dataclasses.dataclass(frozen=True)
class Assistant:
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
  # Text that starts a thought; banned for direct answers.
  think_start: str = grading.THINK_START

  def problems(
    self, split: str, count: int, seed: int
  ) -> list[protocol.Problem]:
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
      question, answer = draw.choice(identity.PAIRS)
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

  thinks = staticmethod(grading.thinks)


def _beyond(draw: random.Random) -> str:
  """A question that is refused."""
  u = draw.random()
  if u < 0.1:
    return draw.choice(_OTHER)
  if u < 0.6:
    topic = draw.choice(_TOPICS)
    if draw.random() < 0.3:
      topic = letters.word(draw, n_syllables=4)
    return draw.choice(_ABOUT).format(topic)
  lengths = [draw.randint(1, 3) for _ in 'abc']
  texts = _SUMS
  if draw.random() < 0.3:
    lengths[draw.randrange(2)] = draw.randint(4, 6)
    texts = _LONG
  a, b, c = (draw.randrange(10 ** (n - 1), 10**n) for n in lengths)
  return draw.choice(texts).format(a=a, b=b, c=c)
