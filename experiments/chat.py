"""Talk with a checkpoint in the terminal.

  python -m experiments.chat --restore_from runs/speedrun/rl_seed0 --single_turn
  python -m experiments.chat --restore_from runs/speedrun/pretrain --base

With --base the text is continued as it stands, which is what a model that was
only pretrained can do. With --single_turn each message is a conversation of its
own, for a model that was trained on single questions. /help lists the commands.
Nothing is written to disk.
"""

import dataclasses
import readline  # noqa: F401  gives input() editing and a history
import sys

from experiments import command_line
from llm_jax.chat import formats
from llm_jax.infer import generate
from llm_jax.serve import terminal
from llm_jax.tokenizer import loading
from llm_jax.train import checkpoint


@dataclasses.dataclass(frozen=True)
class Config:
  """How answers are made; temperature can be changed in the conversation."""

  # Of one answer, at most half of the context; with --base any number, as the
  # text then slides over the context.
  max_new_tokens: int = 128
  temperature: float = 0.7  # 0 is greedy
  seed: int = 0  # the same seed and messages give the same conversation


def run(
  cfg: Config,
  restore_from: str,
  chat: bool = False,
  base: bool = False,
  single_turn: bool = False,
) -> None:
  """Talk until /quit or the end of the input.

  Args:
    cfg: length, temperature and seed.
    restore_from: folder of the stage whose newest checkpoint is loaded.
    chat: answer messages, whatever the checkpoint was trained on.
    base: continue text instead of answering messages.
    single_turn: forget each message before the next.
  """
  loaded = checkpoint.load_model(restore_from)
  tokenizer = loading.load(loaded.tokenizer_dir)
  context = loaded.model_config.max_length
  is_chat = formats.override(chat, base)
  if is_chat is None and not loaded.is_chat:
    print(
      '[this model was not trained on conversations: it continues text, as '
      'with --base]'
    )
  if is_chat is None:
    is_chat = loaded.is_chat
  base = not is_chat
  limit = cfg.max_new_tokens if base else min(cfg.max_new_tokens, context // 2)
  settings = terminal.Settings(
    context_tokens=context,
    max_new_tokens=limit,
    temperature=cfg.temperature,
    seed=cfg.seed,
    base=base,
    single_turn=single_turn,
  )

  def stream(prompt, max_new_tokens, temperature, seed, stop_ids):
    request = generate.Request(
      max_new_tokens, tuple(stop_ids), temperature, slides=base
    )
    return generate.stream(
      loaded.model_config,
      loaded.params,
      prompt=prompt,
      seed=seed,
      request=request,
    )

  print(
    f'{loaded.stage}, step {loaded.step}, context {context} tokens. '
    '/help lists the commands.'
  )
  chat_format = formats.choose(tokenizer, is_chat)
  session = terminal.Session(
    stream, tokenizer, chat_format=chat_format, settings=settings
  )
  terminal.loop(session, lambda: input('> '), _write)


def _write(piece: str) -> None:
  """Print a piece at once; an answer is read while it is made."""
  sys.stdout.write(piece)
  sys.stdout.flush()


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    chat='answer messages, whatever the checkpoint was trained on',
    base='continue text instead of answering messages',
    single_turn='forget each message before the next',
  )
