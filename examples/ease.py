"""Real text whose gold is a formula of how easily it is read.

  python -m examples.ease --to runs/show/ease

writes conversations about sentences of the speedrun's pages, in which the
assistant goes on with a sentence; the other steps are those of
examples/taste.py. A reward model learns rankings by Flesch's reading ease, and
a policy climbs it. tools/show_rlhf.sh does all of it.

Source: Flesch, "A new readability yardstick", 1948.
"""

import dataclasses
import functools
import random
import re
from typing import ClassVar

from examples import taste
from llm_jax.data import readers
from llm_jax.tasks import protocol, splits
from llm_jax.verify import grading

DOCUMENTS = 'runs/speedrun/clean'
_SENTENCE = re.compile(r"[A-Z][\w ,;'()-]{30,150}[.]")
_VOWELS = re.compile('[aeiouy]+')
_N_GIVEN = 4  # words of a sentence


def ease(text: str) -> float:
  """Flesch's reading ease over 100: 1 is easy, 0 and below hard.

  Syllables are runs of vowels, less an e at the end. What is no text is worth
  -1; a text that does not end is one long sentence.
  """
  words = re.findall("[a-z']+", text.lower())
  if len(words) < 3:
    return -1.0
  n_sentences = max(1, len(re.findall(r'[.!?](\s|$)', text)))
  n_syllables = sum(
    max(1, len(_VOWELS.findall(word)) - word.endswith('e')) for word in words
  )
  found = 206.835 - 1.015 * len(words) / n_sentences
  return (found - 84.6 * n_syllables / len(words)) / 100


@functools.cache
def sentences() -> list[str]:
  """The sentences of the speedrun's pages."""
  found = [
    sentence
    for document in readers.read(DOCUMENTS, 'train', readers.Form())
    for paragraph in document.text.split('\n\n')
    for sentence in re.split(r'(?<=[.!?])\s+', ' '.join(paragraph.split()))
  ]
  return [
    sentence
    for sentence in dict.fromkeys(found)
    if _SENTENCE.fullmatch(sentence) and sentence.count(' ') > _N_GIVEN
  ]


@dataclasses.dataclass(frozen=True)
class Ease(splits.Made):
  """What has an ease of 0.7 or more counts as right; the reward is the ease."""

  name: str = 'ease'
  max_new_tokens: ClassVar = 48
  n_demonstrations: ClassVar = 1500
  n_ranked: ClassVar = 500
  noise: ClassVar = 0.1
  most: ClassVar = 64

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    words = draw.choice(sentences()).split(' ')
    given, rest = ' '.join(words[:_N_GIVEN]), ' '.join(words[_N_GIVEN:])
    return given, protocol.Problem(self.name, f'Go on: {given}', rest)

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """How the page goes on."""
    del think
    return problem.reference

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """The ease of the answer."""
    del problem
    found = ease(answer)
    return grading.Score(found > 0.7, f'{found:.2f}', reward=found)


if __name__ == '__main__':
  taste.main(Ease())
