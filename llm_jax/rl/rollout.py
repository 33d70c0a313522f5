"""Groups of answers, judged while others are still drawn, and their batch.

Token ids end to end: what the model drew is what it is trained on, never
text encoded again. Does not know of advantages.
"""

import dataclasses
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent import futures

import numpy as np
from jax.sharding import Mesh

from llm_jax import types
from llm_jax.chat import prompting
from llm_jax.infer import generate
from llm_jax.model import config
from llm_jax.rl import prompts
from llm_jax.rl import reward as reward_lib
from llm_jax.tasks import protocol
from llm_jax.tokenizer import encoding
from llm_jax.verify import grading


@dataclasses.dataclass(frozen=True)
class Rollouts:
  """How answers are drawn, judged and kept."""

  batch_size: int = 0  # answers drawn together; 0: all of a draw
  max_refills: int = 0  # draws of further problems where groups teach nothing
  n_threads: int = 2  # that judge while others are drawn
  n_written: int = 16  # answers of each step in rollouts.jsonl

  def __post_init__(self):
    for name, least in (
      ('batch_size', 0), ('max_refills', 0), ('n_threads', 1), ('n_written', 0),
    ):  # fmt: skip
      if getattr(self, name) < least:
        raise ValueError(
          f'Rollouts.{name} = {getattr(self, name)}; use {least} or more'
        )


@dataclasses.dataclass(frozen=True)
class Sampler:
  """All that it takes to draw and judge answers, but the parameters."""

  config: config.ModelConfig
  request: generate.Request  # length limit, stop tokens and temperature
  task: protocol.Task
  tokenizer: encoding.Tokenizer
  questions: Sequence[prompts.Question]  # of the run
  n_prompts: int  # questions of a draw
  n_samples: int  # answers to each
  batch_size: int  # answers drawn together; 0: all of a draw
  reward: str  # one of reward.KINDS
  seed: int  # of the run
  mesh: Mesh  # where the parameters live
  pool: futures.Executor  # threads that judge


@dataclasses.dataclass(frozen=True)
class Group:
  """The answers to one prompt, with their verdicts."""

  question: prompts.Question
  answers: list[generate.Answer]
  texts: list[str]
  scores: list[grading.Score]
  score_s: float  # seconds that the verifier took

  @property
  def n_correct(self) -> int:
    """Answers that the verifier found right."""
    return sum(score.correct for score in self.scores)


@dataclasses.dataclass(frozen=True)
class Draw:
  """Answers to n_prompts questions."""

  groups: list[Group]
  reward_PR: np.ndarray
  sample_s: float  # seconds of sampling


def draw(
  sampler: Sampler, params: types.Params, step: int, number: int
) -> Draw:
  """Sample answers, and judge each group while others are still sampled.

  A group goes to a thread of the pool as soon as its last answer is there.

  Args:
    sampler: how.
    params: the very arrays that are trained.
    step: of the run.
    number: of the draw in its step, from 0; the same parameters, seed, step
      and number give the same answers.

  Returns:
    The groups in the order of their questions.
  """
  questions = prompts.of_step(
    sampler.questions, sampler.n_prompts, sampler.seed, step, number
  )
  n_samples = sampler.n_samples
  rows = [q.token_ids for q in questions for _ in range(n_samples)]
  first = number * len(rows)
  seeds = [
    zlib.crc32(f'rollout/{sampler.seed}/{step}/{first + i}'.encode())
    for i in range(len(rows))
  ]
  answers: list[dict[int, generate.Answer]] = [{} for _ in questions]
  verdicts: dict[int, futures.Future[Group]] = {}

  def on_answer(row: int, answer: generate.Answer) -> None:
    index, place = divmod(row, n_samples)
    answers[index][place] = answer
    if len(answers[index]) == n_samples:
      group = [answers[index][i] for i in range(n_samples)]
      verdicts[index] = sampler.pool.submit(
        _judge, sampler, questions[index], group
      )

  started = time.monotonic()
  generate.generate(
    sampler.config, params, rows, seeds, sampler.request,
    sampler.batch_size or len(rows), mesh=sampler.mesh, on_answer=on_answer,
  )  # fmt: skip
  sample_s = time.monotonic() - started
  groups = [verdicts[i].result() for i in range(len(questions))]
  correct = [[score.correct for score in group.scores] for group in groups]
  reward_PR = reward_lib.choose(
    sampler.reward, np.array(correct), sampler.seed, step, number
  )
  return Draw(groups, reward_PR, sample_s)


def _judge(sampler, question, answers) -> Group:
  started = time.monotonic()
  texts = [
    prompting.answer_text(sampler.tokenizer, a.token_ids) for a in answers
  ]
  scores = [sampler.task.score(question.problem, text) for text in texts]
  score_s = time.monotonic() - started
  return Group(question, answers, texts, scores, score_s)


@dataclasses.dataclass(frozen=True)
class Collected:
  """What one step has to learn from."""

  groups: list[Group]  # all that were drawn
  reward_PR: np.ndarray  # of them
  is_dead_P: np.ndarray  # those that teach nothing
  batch_P: np.ndarray  # indices of the groups to train on, ascending
  rollout_s: float  # seconds of drawing
  score_s: float  # seconds of waiting for verdicts beyond that

  @property
  def batch(self) -> tuple[list[Group], np.ndarray]:
    """The groups to train on, and their reward_PR."""
    return [self.groups[i] for i in self.batch_P], self.reward_PR[self.batch_P]


def collect(
  draw_fn: Callable[[int], Draw],
  dead: Callable[[np.ndarray], np.ndarray],
  max_refills: int,
) -> Collected:
  """Draw until as many groups teach something as one draw has.

  Args:
    draw_fn: from the number of a draw, from 0, to the draw.
    dead: from reward_PR to is_dead_P, the groups that teach nothing.
    max_refills: draws beyond the first one, at most.

  Returns:
    All groups; the batch is the first ones that live, filled up with dead ones
    to the size of a draw.

  Source: arXiv:2503.14476 section 3.2, dynamic sampling.
  """
  started = time.monotonic()
  draws = [draw_fn(0)]
  size = len(draws[0].groups)
  reward_PR = draws[0].reward_PR
  is_dead_P = dead(reward_PR)
  while len(draws) <= max_refills and np.count_nonzero(~is_dead_P) < size:
    draws.append(draw_fn(len(draws)))
    reward_PR = np.concatenate([reward_PR, draws[-1].reward_PR])
    is_dead_P = dead(reward_PR)
  rollout_s = sum(one.sample_s for one in draws)
  return Collected(
    [group for one in draws for group in one.groups],
    reward_PR,
    is_dead_P,
    np.sort(np.argsort(is_dead_P, kind='stable')[:size]),
    rollout_s,
    time.monotonic() - started - rollout_s,
  )


def training_batch(
  groups: Sequence[Group], length: int
) -> dict[str, np.ndarray]:
  """Lay prompts and answers out as rows, the loss on drawn tokens only.

  Args:
    groups: of one size, R answers each.
    length: tokens of a row; a static shape.

  Returns:
    inputs_BT, targets_BT, positions_BT, old_logp_BT and loss_mask_BT. The mask
    is 1 where the target was drawn, stop token included.

  Raises:
    ValueError: if a prompt with its answer is longer than length + 1.
  """
  rows = [
    (g.question.token_ids, answer) for g in groups for answer in g.answers
  ]
  tokens_BT = np.zeros((len(rows), length + 1), np.int32)
  old_logp_BT = np.zeros((len(rows), length), np.float32)
  loss_mask_BT = np.zeros((len(rows), length), np.float32)
  for row, (prompt, answer) in enumerate(rows):
    start, end = len(prompt), len(prompt) + len(answer.token_ids)
    if end > length + 1:
      raise ValueError(
        f'a prompt of {start} and an answer of {end - start} tokens do '
        f'not fit a row of {length + 1}; raise the length of the rows'
      )
    tokens_BT[row, :end] = [*prompt, *answer.token_ids]
    old_logp_BT[row, start - 1 : end - 1] = answer.logps
    loss_mask_BT[row, start - 1 : end - 1] = 1
  positions_BT = np.broadcast_to(
    np.arange(length, dtype=np.int32), (len(rows), length)
  )
  return {
    'inputs_BT': tokens_BT[:, :-1],
    'targets_BT': tokens_BT[:, 1:],
    'positions_BT': np.ascontiguousarray(positions_BT),
    'old_logp_BT': old_logp_BT,
    'loss_mask_BT': loss_mask_BT,
  }
