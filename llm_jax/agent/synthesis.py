"""Conversations that a model writes: what it is asked, and what is kept.

The model writes a question with its answer from documents, topics and personas,
or answers the questions of a task. Does not ask the model.

Source: Self-Instruct, Wang et al. 2022, arXiv:2212.10560, section 2.2: a
question like an earlier one, by ROUGE-L, is left out.
"""

import dataclasses
import heapq
import pathlib
import random
import re
import tomllib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from llm_jax import endpoint, files
from llm_jax.chat import formats
from llm_jax.data import readers
from llm_jax.tasks import protocol
from llm_jax.verify import grading
from llm_jax.web.dedup import deduplication
from llm_jax.web.filter import personal_data

_PLACE = re.compile(r'\{(\w+)\}')
_PLACES = {'document', 'topic', 'persona'}
_PAIR = re.compile(
  r'Question:(.*?)^[ \t]*Answer:(.*)', re.DOTALL | re.MULTILINE
)
_MARK = re.compile(r'^[ \t]*(?:Question|Answer):', re.MULTILINE)
_EXAMPLE = re.compile(r'^Question:(.+)', re.MULTILINE)
_WORD = re.compile(r'\w+')


@dataclasses.dataclass(frozen=True)
class Rules:
  """Which questions and answers are kept.

  Attributes:
    question_chars: least and most characters of a question.
    answer_chars: the same of an answer.
    max_rouge: a question is rejected whose ROUGE-L with one that is kept is
      higher; 1: none is.
    minhash: question and answer together that share a band with kept ones are
      rejected, whatever their true similarity.
    pii: personal data of these kinds rejects.
  """

  question_chars: tuple[int, int] = (10, 1000)
  answer_chars: tuple[int, int] = (1, 4000)
  max_rouge: float = 0.7
  minhash: deduplication.MinHash = deduplication.MinHash()
  pii: personal_data.Pii = personal_data.Pii(
    phones=True, ssns=True, cards=True, ibans=True, street_addresses=True
  )


class Prompt(NamedTuple):
  """What is asked once."""

  messages: list[protocol.Message]
  seed: int  # of the answer
  origin: dict[str, Any]  # what it was made of, for the record
  problem: protocol.Problem | None = None  # whose answer is wanted


class Reject(Exception):
  """Why an answer is not kept, in words that are equal for equal faults."""


def read_templates(path: str = '') -> dict[str, Any]:
  """Templates of a TOML file, and signs of a refusal.

  Args:
    path: of a file of a user's own; what it does not say, and all where there
      is none, is as in synthesis.toml.

  Raises:
    ValueError: if it is of another form, or names what nobody gives.
    OSError: if it cannot be read.
  """
  tables = files.tables_of(__file__)
  try:
    text = files.decode(pathlib.Path(path).read_bytes()) if path else ''
    found = {**tables, **tomllib.loads(text)}
    named = _PLACE.findall('\n'.join(found['prompts'].values()))
    ''.join(found['refusals'])
    if unknown := sorted({*named} - _PLACES | found.keys() - tables.keys()):
      raise ValueError(f'{unknown[0]!r} is not known')
  except (AttributeError, TypeError, ValueError) as error:
    raise ValueError(
      f'--templates {path}: {error}; TOML has a table [prompts] of texts '
      'that name {document}, {topic} or {persona}, and a list refusals'
    ) from None
  return found


def read_lines(flag: str, path: str) -> list[str]:
  """Topics or personas, one a line of text files.

  Raises:
    ValueError, OSError: if there is none; see readers.find.
  """
  texts = [
    document.text
    for file in readers.find(path, flag, kinds=('text',))
    for document in readers.read_file(file)
  ]
  lines = [line.strip() for text in texts for line in text.splitlines()]
  if not any(lines):
    raise ValueError(f'--{flag} {path} is empty; write one a line')
  return [*filter(None, lines)]


def sample(
  corpus: str, form: readers.Form, count: int, seed: int
) -> list[readers.Document]:
  """As many documents of the split train, drawn evenly; all if fewer.

  One without a URL has its number in the split in its place.

  Raises:
    ValueError: if there is none.
  """
  every = enumerate(readers.read(corpus, 'train', form))
  return heapq.nsmallest(
    count,
    (page._replace(url=page.url or f'document {i}') for i, page in every),
    key=lambda document: zlib.crc32(f'{seed}/{document}'.encode()),
  )


def prompts(
  templates: Mapping[str, str],
  documents: Sequence[readers.Document],
  lists: Mapping[str, Sequence[str]],
  document_chars: int,
  seed: int,
) -> Iterator[Prompt]:
  """What is asked for questions with answers, without end.

  Args:
    templates: each names a document or topic that is given, or is not used.
    documents: shown in turn.
    lists: texts for the places 'topic' and 'persona', as far as there are.
    document_chars: of a document that are shown, drawn anew each time.
    seed: of all that is drawn.

  Raises:
    ValueError: if nothing is given, or something that no template names.
  """
  given = {*lists, *(['document'] if documents else [])}
  if not given:
    raise ValueError('nothing to ask about; give --documents or --topics')
  places = {name: {*_PLACE.findall(x)} for name, x in templates.items()}
  # Who asks is not enough for one that names what is asked about.
  fits = {k: x for k, x in places.items() if (x - {'persona'} or x) & given}
  if unused := given - set().union(*fits.values()):
    raise ValueError(
      f'no template that could be used names {{{min(unused)}}}; write one'
    )
  number = 0
  while True:
    draw = random.Random(f'{seed}/{number}')
    name = draw.choice([*fits])
    shown = {place: draw.choice(texts) for place, texts in lists.items()}
    origin = dict(shown)
    if documents:
      text, origin['document'] = documents[number % len(documents)]
      if len(text) > document_chars:
        start = draw.randrange(len(text) - document_chars + 1)
        # Without the words that are cut.
        text = text[start : start + document_chars]
        text = re.sub(r'^\S+\s|\s\S+$', '', text)
      shown['document'] = text.strip()
    lines = [
      _PLACE.sub(lambda match: shown[match[1]], line)  # noqa: B023
      for line in templates[name].splitlines()
      if {*_PLACE.findall(line)} <= shown.keys()
    ]
    messages = formats.question('\n'.join(lines).strip())
    origin = {place: x for place, x in origin.items() if place in places[name]}
    yield Prompt(messages, _seed(seed, number), {'template': name, **origin})
    number += 1


def of_task(
  task: protocol.Task, count: int, seed: int, is_chat: bool
) -> Iterator[Prompt]:
  """Problems of a task's split train, as a model is asked for their answers."""
  for number, problem in enumerate(task.problems('train', count, seed)):
    messages = formats.question(problem.prompt, problem.before, is_chat)
    yield Prompt(
      messages, _seed(seed, number), origin={'task': task.name}, problem=problem
    )


def _seed(seed: int, number: int) -> int:
  return zlib.crc32(f'{seed}/{number}'.encode()) >> 1  # 31 bits, for servers


def pair(text: str) -> tuple[str, str]:
  r"""The question and the answer in what a model wrote.

  >>> pair('Question: Why?\nAnswer: Because.')
  ('Why?', 'Because.')

  Args:
    text: in this form alone; a thought before it is passed over.

  Raises:
    Reject: it is something else.
  """
  said = grading.final(text)
  if said is None:
    raise Reject('the thought does not end')
  found = _PAIR.fullmatch(said)
  if not found or len(_MARK.findall(said)) != 2:
    raise Reject('not of the form of one question and one answer')
  return found[1].strip(), found[2].strip()


class Judge:
  """Keeps or rejects one answer after the other."""

  def __init__(
    self,
    cfg: Rules,
    templates: Mapping[str, Any],
    task: protocol.Task | None = None,
  ):
    self._cfg = cfg
    self._refusals = templates['refusals']
    self._task = task
    # Questions of a task are alike on purpose.
    more = ['verifier'] if task else ['near copies', 'ROUGE-L']
    # What is kept has passed.
    self.rules = ['length', 'refusal', 'personal data', 'copies', *more]
    # Words of the questions that are kept, or examples in the templates, and
    # the keys of what is kept.
    examples = ''.join(templates['prompts'].values())
    self._kept = dict(map(_normal, _EXAMPLE.findall(examples)))
    self._keys: set[int] = set()

  def conversation(
    self, prompt: Prompt, reply: endpoint.Reply
  ) -> list[protocol.Message]:
    """What is kept of an answer; later ones are compared with it.

    Raises:
      Reject: it is not kept.
    """
    cfg, problem = self._cfg, prompt.problem
    if reply.fault:
      raise Reject(reply.fault)
    if problem:
      question, answer = problem.prompt, reply.text.strip()
      wrote = answer
    else:
      question, answer = pair(reply.text)
      wrote = f'{question}\n{answer}'
      _check_length('question', question, cfg.question_chars)
    _check_length('answer', answer, cfg.answer_chars)
    plain = wrote.casefold().replace('’', "'")
    if any(refusal in plain for refusal in self._refusals):
      raise Reject('a refusal, or talk of the prompt')
    if kinds := personal_data.replace(cfg.pii, wrote)[1]:
      raise Reject(f'personal data: {", ".join(sorted(kinds))}')
    normal, words = _normal(question)
    if normal in self._kept:
      raise Reject('the question is a copy of an earlier one')
    keys = set()
    if problem and self._task:
      if not self._task.score(problem, answer).correct:
        raise Reject('wrong, says the verifier')
    else:
      keys = {*deduplication.keys(cfg.minhash, wrote).tolist()}
      if keys & self._keys:
        raise Reject('a near copy of an earlier one, by MinHash')
      if cfg.max_rouge < 1 and any(
        rouge_l(words, kept) > cfg.max_rouge for kept in self._kept.values()
      ):
        raise Reject('the question is like an earlier one, by ROUGE-L')
    self._kept[normal] = words
    self._keys |= keys
    said = {'role': 'assistant', 'content': answer}
    before = problem.before if problem else ()
    return [*formats.question(question, before), said]


def _normal(question: str) -> tuple[str, list[str]]:
  """A question as exact copies are compared, and its words."""
  normal = ' '.join(question.casefold().split())
  return normal, _WORD.findall(normal)


def _check_length(what: str, text: str, chars: tuple[int, int]) -> None:
  least, most = chars
  if not least <= len(text) <= most:
    raise Reject(f'the {what} is not {least} to {most} characters long')


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
  """ROUGE-L's F-measure, 2 LCS(a, b) / (|a| + |b|); 0 of nothing.

  >>> rouge_l('the cat sat'.split(), 'the cat has sat down'.split())
  0.75

  Source: Lin 2004, "ROUGE", section 3.1, with beta = 1; the longest common
  subsequence by the bits of one integer, Hyyrö 2004.
  """
  places: dict[str, int] = {}
  for i, word in enumerate(a):
    places[word] = places.get(word, 0) | 1 << i
  row = every = (1 << len(a)) - 1
  for word in b:
    found = row & places.get(word, 0)
    row = (row + found | row - found) & every
  return 2 * (len(a) - row.bit_count()) / max(len(a) + len(b), 1)
