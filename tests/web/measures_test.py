"""Measures of words against plain counts, and those that were met before."""

import random

import numpy as np
import pytest

from llm_jax.web.filter import english_words, measures, words
from tools import make_golden

RARE = ['', 'é', '日本', '\ud800', '…', '١٢', 'x' * 100, '-_-', 'a1', '½']


def equal(a: measures.Words, b: measures.Words) -> bool:
  return all(map(np.array_equal, vars(a).values(), vars(b).values()))


@pytest.fixture(scope='module')
def texts():
  """Real ones, and lines whose words depend on their neighbours."""
  found = [text for text, _, _ in make_golden.read('words')['texts']]
  generator = random.Random(0)
  signs = ['nice:)', '(', '=(', '):', ':', 'o', '-', ')', 'word', 'x:(', 'Mr.']
  for _ in range(2000):
    chunks = generator.choices(signs, k=generator.randrange(1, 9))
    found.append(''.join(c + generator.choice(' \n ') for c in chunks))
  return found


def test_a_text_has_the_measures_of_its_words(texts):
  n_changed = 0
  for text in texts:
    expected = words.split(text)
    assert equal(measures.of_text(text), measures.of_words(expected))
    alone = [w for chunk in text.split() for w in words.cut(chunk)[0]]
    n_changed += expected != alone
  assert n_changed > 20


def test_each_measure():
  strings = RARE + sorted(english_words.symbols())[:99] + ['word', "n't"]
  found = measures.of_words(strings)
  symbols = english_words.symbols()
  assert len(found) == len(strings)
  assert found.lengths.tolist() == list(map(len, strings))
  assert found.is_plain.tolist() == [bool(set(s) - symbols) for s in strings]
  letters = [any(c.isalpha() for c in s) for s in strings]
  assert found.has_letter.tolist() == letters
  assert len(set(found.hashes.tolist())) == len(set(strings))
