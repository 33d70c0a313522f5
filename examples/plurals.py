"""A task of one's own: the plural of a noun, asked and answered in words.

  python -m experiments.rl --workdir runs/smol/rl --restore_from runs/smol \
    --import examples/plurals.py --gin_bindings 'Config.task = @Plurals()'

A small chat model knows most of them and says other things as often.
"""

import dataclasses
import random
import re

from llm_jax.tasks import protocol, splits
from llm_jax.verify import grading

NOUNS = """
  apple baby bag bank beach bear bed bell berry bird boat body book bottle box
  boy branch bridge brush bus bush button cake camera car card carrot cat
  chair church city class clock cloud coat cookie country cow cup daisy day
  desk diary dish doctor dog dollar door dress duck eagle ear egg engine
  family farm fly flower forest fork fox friend game garden girl glass guitar
  hat hero horse hotel house island key king kiss lady lake lamp lemon letter
  lion lorry lunch map match mirror monkey moon mountain nose number ocean
  orange page party pen pencil penny phone photo picture planet plate pony
  potato puppy queen rabbit ring river road robot rocket rose school sea ship
  shoe shop sister snake song spider star stone story street student table tax
  teacher test tiger tomato tower toy train tree uncle valley village wall
  watch window wish witch word actor animal answer arm artist banana beard
  blanket bottom bowl bucket bull butterfly candle captain carpet castle
  cherry coin corner crown cousin curtain dream drum elephant eye face finger
  floor frame giant goat hammer hand hill jacket judge kitchen lawyer leg lip
  lock march nation neck needle nurse painter pocket poem question roof sailor
  saint sandwich scarecrow seed shirt shoulder sky soldier spoon square stick
  stomach suitcase sweater switch tent thumb tooth towel turtle umbrella vase
  violin whale wheel wing zebra
"""
PHRASINGS = (
  'What is the plural of "{}"? Answer with one word.',
  'Answer with one word: what is the plural of "{}"?',
  'What is the plural of the noun "{}"? Say only that word.',
)
ODD = {
  'tooth': 'teeth',
  'hero': 'heroes',
  'potato': 'potatoes',
  'tomato': 'tomatoes',
}


@dataclasses.dataclass(frozen=True)
class Plurals(splits.Made):
  """The last word that is said has to be the plural."""

  name: str = 'plurals'
  think_start: str = grading.THINK_START

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    noun = draw.choice(NOUNS.split())
    prompt = draw.choice(PHRASINGS).format(noun)
    return noun, protocol.Problem(self.name, prompt, plural(noun))

  def _reader(self, problem: protocol.Problem):
    return last_word, 'a word'


def plural(noun: str) -> str:
  """Of a noun of the list."""
  if noun in ODD:
    return ODD[noun]
  if re.search('[^aeiou]y$', noun):
    return f'{noun[:-1]}ies'
  return f'{noun}es' if re.search('(s|x|z|ch|sh)$', noun) else f'{noun}s'


def last_word(text: str) -> str | None:
  """Of an answer, in small letters."""
  words = re.findall('[a-z]+', text.casefold())
  return words[-1] if words else None
