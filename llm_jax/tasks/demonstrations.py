"""Conversations that nobody wrote: of a task, and of an identity.

Everything is off unless a setting asks for it. What users bring is read by
given.py.
"""

import random
from collections.abc import Sequence
from typing import Any

from llm_jax.data import conversations
from llm_jax.tasks import protocol, questions

Item = conversations.Item
NAMES = ('identity',)  # of sources, beside the task's own


def check(cfg: Any, given: Sequence[str]) -> None:
  """Refuse a run without conversations.

  Args:
    cfg: the recipe's configuration, with what `make` reads of it.
    given: sources of conversations that the user brings.

  Raises:
    ValueError: with the settings.
  """
  if (cfg.task is None) != (cfg.n_task == 0):
    raise ValueError(
      f'Config.n_task = {cfg.n_task} with Config.task = {cfg.task}: set both, '
      'as in Config.task = @Addition() and Config.n_task = 1000, or none'
    )
  others = getattr(cfg.task, 'identity_share', 0)
  if cfg.persona and (others or not cfg.n_identity):
    raise ValueError(
      f'--persona {cfg.persona} is learnt from Config.n_identity = '
      f'{cfg.n_identity} questions, beside {others} of the task that say who '
      'llm_jax is; set n_identity to 500, and Assistant.identity_share to 0'
    )
  if not (given or cfg.n_task or cfg.n_identity):
    raise ValueError(
      'there is no conversation to train on; give --conversations, or set '
      'Config.task and Config.n_task, or Config.n_identity'
    )


def make(cfg: Any) -> list[Item]:
  """Draw all that settings ask for, mixed.

  Args:
    cfg: the recipe's configuration: a task and n_task of its demonstrations, of
      which think_share hold a thought; n_identity questions about the
      assistant; neighbours are joined to conversations of 1 to max_turns
      questions.

  Returns:
    The conversations, by the name of the task or of NAMES.
  """
  draw = random.Random(f'conversations/{cfg.seed}')
  made = {'identity': identity(cfg.n_identity, cfg.seed, cfg.persona)}
  if cfg.task:
    made[cfg.task.name] = protocol.conversations(
      cfg.task,
      cfg.n_task,
      seed=cfg.seed,
      think_share=cfg.think_share,
      draw=draw,
    )
  result = [Item(name, '', talk) for name, own in made.items() for talk in own]
  draw.shuffle(result)
  return conversations.join_turns(result, cfg.max_turns, draw)


def identity(
  count: int, seed: int, persona: str = ''
) -> list[list[dict[str, str]]]:
  """Draw questions about the assistant, with their answers.

  Args:
    count: conversations.
    seed: of the draw.
    persona: file of who it is; '': ours.

  Returns:
    Conversations of one question and one answer in OpenAI's message form.
  """
  draw = random.Random(f'identity/{seed}')
  pairs = questions.identity(persona)
  return [protocol.exchange(*draw.choice(pairs)) for _ in range(count)]


def usage(
  task: protocol.Task | None, dataset: Sequence[Item]
) -> tuple[Sequence[str], int]:
  """What a model of these conversations can be asked.

  Args:
    task: whose demonstrations are among them; its `examples` come first.
    dataset: the conversations.

  Returns:
    Three questions, and how many the longest conversation has.
  """
  asked = [
    [talk['content'] for talk in item.messages if talk['role'] == 'user']
    for item in dataset
  ]
  first = [texts[0] for texts in asked[:3] if texts]
  return getattr(task, 'examples', None) or first, max(map(len, asked))
