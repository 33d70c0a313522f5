"""Ratings by votes: known strengths, published votes, and odd ones."""

import gzip
import itertools
import json
import os
import pathlib

import numpy as np
import pytest

from llm_jax.evals import arena

_STRENGTHS = {'k': 0.6398, 'l': 1.0433, 'm': 0.6598, 'n': 2.2704}
_RATINGS = {'k': 922.43, 'l': 1007.37, 'm': 927.77, 'n': 1142.44}
# Elo by GPT-4's verdicts, arXiv:2305.14314 table 1.
_PUBLISHED = {
  'gpt4': 1348, '65b-guanaco': 1022, '30b-guanaco': 992, 'vicuna-13b': 974,
  'gpt35': 966, '13b-guanaco': 916, 'bard': 902, '7b-guanaco': 879,
}  # fmt: skip


def vote(a, b, won, **more):
  return {'a': a, 'b': b, 'vote': won} | more


def rated(votes):
  return {one.model: one for one in arena.ratings(votes).models}


def test_ratings_are_those_of_known_strengths():
  """Votes in the shares that the strengths say give them back."""
  names = list(_STRENGTHS)
  wins = np.zeros((4, 4))
  for i, j in itertools.permutations(range(4), 2):
    s, t = _STRENGTHS[names[i]], _STRENGTHS[names[j]]
    wins[i, j] = 1000 * s / (s + t)
  found = arena.to_ratings(arena.fit(wins, met=wins))
  # The strengths are known to four digits.
  np.testing.assert_allclose(found, list(_RATINGS.values()), atol=0.011)


def test_published_votes_give_the_published_ratings():
  data = os.environ.get('LLM_JAX_DATA')
  if not data:
    pytest.skip('LLM_JAX_DATA names no folder of shared data')
  folder = pathlib.Path(data) / 'arena-votes'
  votes = []
  with gzip.open(folder / 'qlora-gpt4-pairwise.jsonl.gz', 'rt') as file:
    for row in map(json.loads, file):
      if row['score'] in (1, 2, 3):
        won = {1: 'a', 2: 'b', 3: 'tie'}[row['score']]
        votes.append(vote(row['model_a'], row['model_b'], won))
  found = rated(votes)
  assert list(found) == list(_PUBLISHED)
  for name, published in _PUBLISHED.items():
    assert found[name].low < published < found[name].high
    assert found[name].low < found[name].rating < found[name].high
  assert sum(one.battles for one in found.values()) == 2 * len(votes)


def test_ties_are_equal_and_a_winner_of_all_is_finite():
  ties = [vote('a', 'b', 'tie'), vote('b', 'c', 'both_bad')] * 3
  assert [round(x.rating, 6) for x in rated(ties).values()] == [1000] * 3
  won = rated([vote('a', 'b', 'a')] * 20 + [vote('b', 'c', 'tie')] * 20)
  assert won['a'].rating > won['b'].rating + 400
  assert won['a'].rating < 2500
  assert won['b'].rating == pytest.approx(won['c'].rating)
  # With one vote the other way nothing is added any more.
  votes = [vote('a', 'b', 'a')] * 3 + [vote('a', 'b', 'b')]
  far = rated(votes)['a'].rating - rated(votes)['b'].rating
  assert far == pytest.approx(400 * np.log10(3))


def test_what_no_battle_connects_is_unranked():
  votes = [vote('a', 'b', 'a'), vote('a', 'b', 'b'), vote('c', 'a', 'tie')]
  found = rated([*votes, vote('x', 'y', 'a')])
  assert {n for n, one in found.items() if one.rating is None} == {'x', 'y'}
  assert list(found)[-2:] == ['x', 'y']
  assert arena.ratings([]) == ([], 0)


@pytest.mark.parametrize(
  ('said', 'is_named'),
  [
    ("Hello! I'm Claude, how are you?", True),
    ('My name is small-7b.', True),
    ('I am a GPT-4 model', True),
    ('Claude Monet was a painter.', False),
    ('I am one of them', False),
    ('a small-7b', False),
  ],
)
def test_battles_in_which_a_model_names_itself_do_not_count(said, is_named):
  named = vote('small-7b', 'base', 'a', answers={'a': 'Hi', 'b': said})
  found = arena.ratings([named, vote('small-7b', 'base', 'tie')])
  assert found.n_named == is_named
  assert [one.battles for one in found.models] == [2 - is_named] * 2


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'vote': 'A'}, "vote = 'A'; use one of a, b, tie, both_bad"),
    ({'vote': None}, 'vote = None'),
    ({'b': 'one'}, 'one against itself says nothing'),
    ({'a': ''}, "a = '' is no name of a model"),
  ],
)
def test_what_is_no_vote_is_refused_with_its_line(tmp_path, changed, message):
  path = tmp_path / 'votes.jsonl'
  arena.append(str(path), vote('one', 'two', 'a'))
  with pytest.raises(ValueError, match=message):
    arena.append(str(path), vote('one', 'two', 'a') | changed)
  with path.open('a') as file:
    file.write(json.dumps(vote('one', 'two', 'b') | changed) + '\n')
  with pytest.raises(ValueError, match=rf'line 2 of .*votes.jsonl: {message}'):
    arena.read(str(path))


def test_a_half_written_vote_is_cut_off(tmp_path):
  path = pathlib.Path(tmp_path / 'votes.jsonl')
  arena.append(str(path), vote('one', 'two', 'a'))
  with path.open('ab') as file:
    file.write(b'{"a": "one", "b"')
  assert arena.read(str(path)) == [vote('one', 'two', 'a')]
  arena.append(str(path), vote('one', 'two', 'tie'))
  assert len(arena.read(str(path))) == 2
