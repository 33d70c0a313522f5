"""Multiple choice by likelihood: which choice a model gives most probability.

Nothing is generated, so that a base model can be asked what it has never been
taught to answer. Asked twice: by the letter, behind the question with its
lettered choices (as MMLU is); and by the text of each choice, behind the
question alone (as ARC and HellaSwag are). A text is judged by its whole
probability, which favours short ones, and by the means over its tokens and
over its bytes, which do not; lm-evaluation-harness calls the first acc and the
last acc_norm. Ties go to the first choice. No figure here is about sampling.
"""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from llm_jax.agent import turns
from llm_jax.chat import formats
from llm_jax.evals import statistics
from llm_jax.infer import reading
from llm_jax.tasks import protocol

_ANSWER = '\nAnswer:'


def evaluate(
  model: turns.Model, problems: Sequence[protocol.Problem], batch_size: int
) -> dict[str, Any]:
  """Measure accuracy by likelihood.

  Args:
    model: the checkpoint.
    problems: of one task, with choices; `reference` is the right choice, with
      its letter or without.
    batch_size: choices computed together.

  Returns:
    JSON-able: task, mode ('likelihood'), n, chance, tokens (all that were
    judged), and accuracy and interval (95%) by `letter`, `text`,
    `text_per_token` and `text_per_byte`.

  Raises:
    ValueError: for a problem that does not fit into the model, or whose
      reference is none of its choices.
  """
  asked: list[tuple[list[int], list[int]]] = []
  for problem in problems:
    text = problem.question + _ANSWER
    asked += [pair(model, problem.prompt, c) for c, _ in _lettered(problem)]
    asked += [pair(model, text, choice) for _, choice in _lettered(problem)]
  logp = reading.logp(
    model.config, model.params, pairs=asked, batch_size=batch_size
  )
  right: dict[str, list[bool]] = {}
  start = 0
  for problem in problems:
    n, texts = len(problem.choices), problem.choices
    letters, found = logp[start : start + n], logp[start + n : start + 2 * n]
    start += 2 * n
    sums = np.array([x.sum() for x in found])
    n_tokens = np.array([len(x) for x in found])
    n_bytes = np.array([len(text.encode()) for text in texts])
    for name, scores in {
      'letter': np.array([x.sum() for x in letters]),
      'text': sums,
      'text_per_token': sums / n_tokens,
      'text_per_byte': sums / n_bytes,
    }.items():
      is_right = int(scores.argmax()) == _right(problem)
      right.setdefault(name, []).append(is_right)
  n = len(problems)
  return {
    'task': problems[0].task,
    'mode': 'likelihood',
    'n': n,
    'chance': sum(1 / len(p.choices) for p in problems) / n,
    'tokens': sum(map(len, logp)),
    'accuracy': {name: sum(values) / n for name, values in right.items()},
    'interval': {
      name: list(statistics.wilson_interval(sum(values), n))
      for name, values in right.items()
    },
  }


def _lettered(problem: protocol.Problem) -> list[tuple[str, str]]:
  return list(zip(string.ascii_uppercase, problem.choices, strict=False))


def _right(problem: protocol.Problem) -> int:
  for index, (letter, choice) in enumerate(_lettered(problem)):
    if problem.reference in (choice, f'{letter}. {choice}'):
      return index
  raise ValueError(
    f'{problem.prompt[:60]!r}: the reference {problem.reference!r} is none of '
    f'the choices {problem.choices}'
  )


def pair(
  model: turns.Model, text: str, continuation: str, joint: str = ' '
) -> tuple[list[int], list[int]]:
  """Ids that are read, and those that are judged, of which there are some.

  All choices of a problem have the same ids before them. Where the tokenizer
  would merge the last letters of the text with the first of the choice, the
  choice is encoded by itself.

  Args:
    model: the checkpoint.
    text: what is asked.
    continuation: an answer.
    joint: what is between them, where the text is no message.
  """
  prompt = model.chat_format.prompt(formats.question(text), direct=True)
  encode = model.tokenizer.encode
  if model.chat_format.is_chat:
    return prompt, encode(continuation)
  alone, both = encode(text), encode(text + joint + continuation)
  if both[: len(alone)] == alone and len(both) > len(alone):
    return prompt, both[len(alone) :]
  return prompt, encode(joint + continuation)
