"""Give a checkpoint the problems of a task and count the right answers.

Every checkpoint gets the same problems and the same seeds, so differences are
between models and not between draws. Does not choose checkpoints, does not
write files, and does not look at thoughts: only the final answer is scored.
"""

import dataclasses
import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from llm_jax.agent import turns
from llm_jax.chat import formats
from llm_jax.evals import statistics
from llm_jax.infer import generate
from llm_jax.tasks import protocol
from llm_jax.tokenizer import text_tokenizer
from llm_jax.verify import grading

_MAX_EXAMPLES_OF_A_KIND = 4
_N_MADE = 400  # problems, where nothing says how many


@dataclasses.dataclass(frozen=True)
class Scoring:
  """How many problems there are, how many answers to each, and how long."""

  n_problems: int = 0  # 0: all of a file, 400 where they are made
  n_samples: int = 8  # answers sampled for each problem
  temperature: float = 1.0  # of the sampled answers, beside the greedy one
  max_new_tokens: int = 64  # an answer that has not ended by then is wrong
  max_direct_tokens: int = 16  # the same without thinking
  batch_size: int = 200  # answers generated together
  seed: int = 0  # of the problems, the samples and the bootstrap

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if value <= 0 and name not in ('n_problems', 'seed'):
        raise ValueError(f'Scoring.{name} = {value}; use more than 0')


def problems(
  task: protocol.Task, cfg: Scoring, split: str = 'held_out'
) -> Sequence[protocol.Problem]:
  """The problems of an evaluation.

  Args:
    task: whose.
    cfg: how many.
    split: 'held_out', or 'all' of a task that reads them from a file.

  Raises:
    ValueError: if there are none, or fewer than asked for.
  """
  is_made = not protocol.file_of(task)
  count = cfg.n_problems or (_N_MADE if is_made else 0)
  found = task.problems('held_out' if is_made else split, count, cfg.seed)
  if not found:
    raise ValueError(
      f'{protocol.file_of(task) or task.name} has no problem of the split '
      f'{split}; give a larger file'
    )
  return found


def evaluate(
  model: turns.Model,
  task: protocol.Task,
  cfg: Scoring,
  direct: bool,
  split: str = 'held_out',
) -> dict[str, Any]:
  """Measure greedy and sampled accuracy on held-out problems.

  Args:
    model: the checkpoint.
    task: the task.
    cfg: how many, how often.
    direct: forbid thinking, and calls of tools. No token that could open a
      thought or a call is ever drawn, so this is the model's own distribution
      given that it does neither.
    split: of the problems; see `problems`.

  Returns:
    JSON-able: task, about (it, in words), mode ('free' or 'direct'), n,
    n_samples, temperature, greedy, sampled, pass_at_k by k, interval of these
    three (95%), refused_share, think_share, call_share
    and mean_length (tokens) and stopped_share of sampled answers, tokens (all
    that were generated), kinds (of each kind of problem: n, greedy with its
    interval, sampled, and the shares refused and called of greedy ones),
    samples.
  """
  asked = problems(task, cfg, split)
  ask = functools.partial(
    answers, model, task, asked=asked, cfg=cfg, direct=direct
  )
  greedy = [answer for (answer,) in ask(n_samples=0)]
  sampled = ask(n_samples=cfg.n_samples)
  verdicts = [[answer['correct'] for answer in answers] for answers in sampled]
  passes = {
    str(k): estimates
    for k, estimates in statistics.pass_at_powers(
      cfg.n_samples, [*map(sum, verdicts)]
    ).items()
  }
  every = [answer for answers in sampled for answer in answers]
  n_greedy = sum(answer['correct'] for answer in greedy)

  def interval(values):
    return list(statistics.bootstrap_interval(values, cfg.seed))

  return {
    'task': task.name,
    'about': protocol.about(task),
    'mode': 'direct' if direct else 'free',
    'n': len(asked),
    'n_samples': cfg.n_samples,
    'temperature': cfg.temperature,
    'greedy': n_greedy / len(asked),
    'sampled': sum(map(sum, verdicts)) / len(every),
    'interval': {
      'greedy': list(statistics.wilson_interval(n_greedy, len(asked))),
      'sampled': interval(verdicts),
      'pass_at_k': {k: interval([[x] for x in v]) for k, v in passes.items()},
    },
    'pass_at_k': {k: sum(v) / len(asked) for k, v in passes.items()},
    'refused_share': sum(a['refused'] for a in every) / len(every),
    'think_share': sum(task.thinks(a['answer']) for a in every) / len(every),
    'call_share': sum(a['n_calls'] > 0 for a in every) / len(every),
    'mean_length': sum(a['n_tokens'] for a in every) / len(every),
    'stopped_share': sum(a['stopped'] for a in every) / len(every),
    'tokens': sum(a['n_tokens'] for a in [*every, *greedy]),
    'judge_tokens': sum(a['judge_tokens'] for a in [*every, *greedy]),
    'kinds': _by_kind(asked, greedy, sampled),
    'samples': _examples(every),
  }


def thought_ids(
  tokenizer: text_tokenizer.TextTokenizer, think_start: str
) -> tuple[int, ...]:
  """Every token without which a thought cannot be opened.

  Merges may have made any piece of that text a token, so these are all tokens
  that hold its first character.

  Args:
    tokenizer: the vocabulary.
    think_start: the text that opens a thought.

  Returns:
    Ids; of the control tokens only the one of that text.
  """
  opening, mark = think_start[:1].encode(), think_start.encode()
  used = set(range(tokenizer.vocab_size)) - set(tokenizer.unused_ids)
  texts = {token: tokenizer.token_bytes(token) for token in sorted(used)}
  return tuple(
    token
    for token, text in texts.items()
    if opening in text and (text == mark or token not in tokenizer.special_ids)
  )


def answers(
  model: turns.Model,
  task: protocol.Task,
  asked: Sequence[protocol.Problem],
  cfg: Scoring,
  direct: bool,
  n_samples: int,
) -> list[list[dict[str, Any]]]:
  """Scored answers to each problem; n_samples 0 gives the greedy one.

  Returns:
    For each problem its answers: prompt, answer, correct, reason, refused,
    reward, logp (mean, nats a token), n_tokens, n_calls, stopped.
  """
  n_answers = max(n_samples, 1)
  prompts, seeds = [], []
  for problem in asked:
    messages = formats.question(
      problem.prompt, problem.before, model.chat_format.is_chat
    )
    ids = model.chat_format.prompt(messages, direct)
    prompts += [ids] * n_answers
    # Seeds by name and not by index: the answers to a problem do not depend
    # on which other problems there are.
    names = [f'{cfg.seed}/{problem.prompt}/{n}' for n in range(n_answers)]
    seeds += [zlib.crc32(name.encode()) for name in names]
  banned: set[int] = set()
  if direct:
    for mark in {task.think_start, model.chat_format.think_start}:
      banned.update(thought_ids(model.tokenizer, mark))
    if model.using:
      banned.update(model.chat_format.call_ids)
  request = generate.Request(
    max_new_tokens=cfg.max_direct_tokens if direct else cfg.max_new_tokens,
    stop_ids=model.chat_format.stop_ids,
    temperature=cfg.temperature if n_samples else 0.0,
    banned_ids=tuple(sorted(banned)),
  )
  asked_model = dataclasses.replace(model, using=None) if direct else model
  drawn = turns.answers(
    asked_model, prompts, seeds, request=request, batch_size=cfg.batch_size
  )
  scored = []
  for index, answer in enumerate(drawn):
    problem, n_tokens = asked[index // n_answers], len(answer.token_ids)
    text = model.chat_format.text(answer.last_ids, direct)
    score = grading.Score(False, f'no end within {n_tokens} tokens')
    if answer.stopped:
      score = task.score(problem, text)
    scored.append(
      {
        'prompt': problem.prompt,
        'answer': text,
        **dataclasses.asdict(score),
        'logp': sum(answer.logps) / n_tokens,
        'n_tokens': n_tokens,
        'n_calls': len(answer.results),
        'stopped': answer.stopped,
      }
    )
  return [
    scored[start : start + n_answers]
    for start in range(0, len(scored), n_answers)
  ]


def sentence(row: Mapping[str, Any]) -> str:
  """What an evaluation found, in words.

  Args:
    row: as `evaluate` returns it.
  """
  how = ' without thinking' if row['mode'] == 'direct' else ''
  low, high = (f'{100 * x:.1f}' for x in row['interval']['sampled'])
  return (
    f'{row["n"]} problems of {row["task"]}{how}: right are '
    f'{row["sampled"]:.1%} of sampled answers (95%: {low} to {high}) and '
    f'{row["greedy"]:.1%} of greedy ones; {row["think_share"]:.0%} think'
    + (f'. {row["about"]}' if row['judge_tokens'] else '')
  )


def _by_kind(
  problems: Sequence[protocol.Problem],
  greedy: Sequence[dict[str, Any]],
  sampled: Sequence[Sequence[dict[str, Any]]],
) -> dict[str, dict[str, Any]]:
  """Accuracy on the problems of each kind, in the order of the names."""
  result = {}
  for kind in sorted({problem.kind for problem in problems} - {''}):
    chosen = [i for i, problem in enumerate(problems) if problem.kind == kind]
    n_greedy = sum(greedy[i]['correct'] for i in chosen)
    drawn = [answer['correct'] for i in chosen for answer in sampled[i]]
    result[kind] = {
      'n': len(chosen),
      'greedy': n_greedy / len(chosen),
      'interval': list(statistics.wilson_interval(n_greedy, len(chosen))),
      'sampled': sum(drawn) / len(drawn),
      'refused': sum(greedy[i]['refused'] for i in chosen) / len(chosen),
      'called': sum(greedy[i]['n_calls'] > 0 for i in chosen) / len(chosen),
    }
  return result


def _examples(answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """A few right and a few wrong answers, each of another problem."""
  result = []
  for correct in (True, False):
    chosen = {a['prompt']: a for a in answers if a['correct'] is correct}
    result += list(chosen.values())[:_MAX_EXAMPLES_OF_A_KIND]
  return [
    {key: a[key] for key in ('prompt', 'answer', 'correct', 'reason')}
    for a in result
  ]
