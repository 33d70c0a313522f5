"""Groups of answers, judged while others are still drawn, and their batch.

Token ids end to end: what the model drew is what it is trained on, never
text encoded again.
"""

import dataclasses
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent import futures

import numpy as np
from jax.experimental import multihost_utils

from llm_jax import dataclass_json
from llm_jax.agent import turns
from llm_jax.infer import generate
from llm_jax.rl import prompts, reward_models
from llm_jax.tasks import protocol
from llm_jax.train import start
from llm_jax.verify import grading

# Whatever accuracy rises under random rewards does not come from the verifier.
REWARDS = ('verifier', 'random', 'model')


@dataclasses.dataclass(frozen=True)
class Rollouts:
  """How answers are drawn, judged and kept."""

  batch_size: int = 0  # answers drawn together; 0: all of a draw
  max_refills: int = 0  # draws of further problems where groups teach nothing
  spread_weight: float = 0.0  # of several reward models, taken off their mean
  n_threads: int = 2  # that judge while others are drawn
  n_written: int = 16  # answers of each step in rollouts.jsonl

  def __post_init__(self):
    names = 'batch_size max_refills n_written spread_weight'
    dataclass_json.require_at_least(self, names, 0)
    dataclass_json.require_at_least(self, 'n_threads', 1)


@dataclasses.dataclass(frozen=True)
class Sampler:
  """All that it takes to draw and judge answers, but the parameters."""

  # Its cfg says what a draw is: task, n_prompts, n_samples, reward, rollouts.
  stage: start.Stage
  problems: Sequence[prompts.Prompt]  # of the run
  request: generate.Request  # length limit, stop tokens and temperature
  dead_groups: Callable[[np.ndarray], np.ndarray]  # reward_PR -> is_dead_P
  pool: futures.Executor  # threads that judge
  reward_fn: reward_models.RewardFn | None = None  # in place of verdicts


def check_reward(name: str, task: protocol.Task) -> None:
  """Refuse what is none of REWARDS, or what the task does not have."""
  if name not in REWARDS:
    raise ValueError(f'Config.reward = {name!r}; use one of {REWARDS}')
  if name == 'verifier' and not protocol.has_verifier(task):
    raise ValueError(
      f"the task {task.name} has no verifier; set Config.reward = 'model' and "
      'give --reward_model'
    )


def make_request(
  max_new_tokens: int, stop_ids: tuple[int, ...], temperature: float
) -> generate.Request:
  """How answers are drawn: from the whole distribution that is trained.

  Args:
    max_new_tokens: of the longest answer.
    stop_ids: any of them ends an answer.
    temperature: divisor of the logits, of the sampler and of the trainer.

  Raises:
    ValueError: for a number out of range, and for a temperature of 0, at which
      all answers to a prompt are equal.
  """
  if temperature == 0:
    raise ValueError('temperature 0 draws equal answers to a prompt; use 1.0')
  return generate.Request(max_new_tokens, stop_ids, temperature)


@dataclasses.dataclass(frozen=True)
class Group:
  """The answers to one prompt, with their verdicts."""

  prompt: prompts.Prompt
  answers: list[turns.Answer]
  texts: list[str]
  scores: list[grading.Score]
  score_s: float  # seconds that the verifier took

  @property
  def n_correct(self) -> int:
    """Answers that the verifier found right."""
    return sum(score.correct for score in self.scores)


@dataclasses.dataclass(frozen=True)
class Draw:
  """Answers to n_prompts prompts."""

  groups: list[Group]
  reward_PR: np.ndarray
  sample_s: float  # seconds of sampling


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
  def trained_groups(self) -> list[Group]:
    """The groups to train on."""
    return [self.groups[i] for i in self.batch_P]

  @property
  def trained_reward_PR(self) -> np.ndarray:
    """Their rewards."""
    return self.reward_PR[self.batch_P]


def collect(sampler: Sampler, model: turns.Model, step: int) -> Collected:
  """Draw until as many groups teach something as one draw has.

  Args:
    sampler: how, and how often at most.
    model: with the very arrays that are trained.
    step: of the run.

  Returns:
    All groups; the batch is the first ones that live, filled up with dead ones
    to the size of a draw.

  Source: arXiv:2503.14476 section 3.2, dynamic sampling.
  """
  cfg, started, draws = sampler.stage.cfg, time.monotonic(), []
  for number in range(1 + cfg.rollouts.max_refills):
    draws.append(draw(sampler, model, step=step, number=number))
    reward_PR = np.concatenate([one.reward_PR for one in draws])
    is_dead_P = sampler.dead_groups(reward_PR)
    if np.count_nonzero(~is_dead_P) >= cfg.n_prompts:
      break
  rollout_s = sum(one.sample_s for one in draws)
  return Collected(
    groups=[group for one in draws for group in one.groups],
    reward_PR=reward_PR,
    is_dead_P=is_dead_P,
    batch_P=np.sort(np.argsort(is_dead_P, kind='stable')[: cfg.n_prompts]),
    rollout_s=rollout_s,
    score_s=time.monotonic() - started - rollout_s,
  )


def draw(sampler: Sampler, model: turns.Model, step: int, number: int) -> Draw:
  """Sample answers, and judge each group while others are still sampled.

  A group goes to a thread of the pool as soon as its last answer is there.

  Args:
    sampler: how.
    model: with the very arrays that are trained.
    step: of the run.
    number: of the draw in its step, from 0; the same parameters, seed, step
      and number give the same answers.

  Returns:
    The groups in the order of their prompts.
  """
  cfg = sampler.stage.cfg
  seed, n_samples = cfg.seed, cfg.n_samples
  chosen = prompts.of_step(
    sampler.problems, cfg.n_prompts, seed=seed, step=step, draw=number
  )
  rows = [prompt.token_ids for prompt in chosen for _ in range(n_samples)]
  first = number * len(rows)
  seeds = [
    zlib.crc32(f'rollout/{seed}/{step}/{first + i}'.encode())
    for i in range(len(rows))
  ]
  answers: list[dict[int, turns.Answer]] = [{} for _ in chosen]
  judged: dict[int, futures.Future[Group]] = {}

  def on_answer(row: int, answer: turns.Answer) -> None:
    index, sample = divmod(row, n_samples)
    answers[index][sample] = answer
    if len(answers[index]) == n_samples:
      group = [answers[index][i] for i in range(n_samples)]
      judged[index] = sampler.pool.submit(
        _judge, sampler, prompt=chosen[index], answers=group
      )

  started = time.monotonic()
  turns.answers(
    model,
    rows,
    seeds,
    request=sampler.request,
    batch_size=cfg.rollouts.batch_size or len(rows),
    on_answer=on_answer,
  )
  sample_s = time.monotonic() - started
  groups = [judged[i].result() for i in range(len(chosen))]
  if cfg.reward == 'random':
    shape = len(groups), n_samples
    reward_PR = coins(shape, seed=seed, step=step, draw=number)
  elif sampler.reward_fn is not None:
    pairs = [
      (g.prompt.token_ids, a.token_ids) for g in groups for a in g.answers
    ]
    reward_PR = sampler.reward_fn(pairs).reshape(len(groups), n_samples)
  else:
    reward_PR = verdicts(groups)
  return Draw(groups, reward_PR, sample_s)


def _judge(sampler, prompt, answers) -> Group:
  started = time.monotonic()
  chat_format = sampler.stage.chat_format
  texts = [chat_format.text(answer.token_ids) for answer in answers]
  judged = [  # of what called tools, the last answer alone
    text
    if answer.last_ids is answer.token_ids
    else chat_format.text(answer.last_ids)
    for answer, text in zip(answers, texts, strict=True)
  ]
  task = sampler.stage.cfg.task
  scores = [task.score(prompt.problem, text) for text in judged]
  score_s = time.monotonic() - started
  return Group(prompt, answers, texts=texts, scores=scores, score_s=score_s)


def verdicts(groups: Sequence[Group]) -> np.ndarray:
  """reward_PR, float32: the verifier's, by default 1 for what is right.

  Of several processes the first one's verdicts count for all: an answer that
  runs into a time limit may be judged otherwise elsewhere.
  """
  rewards = [
    [float(s.correct if s.reward is None else s.reward) for s in group.scores]
    for group in groups
  ]
  reward_PR = np.array(rewards, np.float32)
  return np.asarray(multihost_utils.broadcast_one_to_all(reward_PR))


def coins(
  shape: tuple[int, int], seed: int, step: int, draw: int
) -> np.ndarray:
  """reward_PR, float32, by the toss of a coin, whatever was answered.

  Args:
    shape: prompts and answers to each.
    seed: of the run.
    step: of the run; the same seed, step and draw toss the same coins.
    draw: of the step.
  """
  name = f'reward/{seed}/{step}' + (f'/{draw}' if draw else '')
  source = np.random.default_rng(zlib.crc32(name.encode()))
  return source.integers(2, size=shape).astype(np.float32)


def training_batch(
  groups: Sequence[Group], length: int
) -> dict[str, np.ndarray]:
  """Lay prompts and answers out as rows, the loss on drawn tokens only.

  Args:
    groups: of one size, R answers each.
    length: tokens of a row, a static shape: no less than a prompt has with its
      answer, but for the last token, which nothing follows.

  Returns:
    inputs_BT, targets_BT, positions_BT, old_logp_BT and loss_mask_BT. The mask
    is 1 where the target was drawn, stop token included, and 0 on what tools
    gave.
  """
  rows = [(g.prompt.token_ids, answer) for g in groups for answer in g.answers]
  tokens_BT = np.zeros((len(rows), length + 1), np.int32)
  old_logp_BT = np.zeros((len(rows), length), np.float32)
  loss_mask_BT = np.zeros((len(rows), length), np.float32)
  for row, (prompt, answer) in enumerate(rows):
    start, end = len(prompt), len(prompt) + len(answer.token_ids)
    tokens_BT[row, :end] = [*prompt, *answer.token_ids]
    old_logp_BT[row, start - 1 : end - 1] = answer.logps
    loss_mask_BT[row, start - 1 : end - 1] = answer.drawn
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
