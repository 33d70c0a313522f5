"""Talk with a checkpoint in the terminal.

  python -m experiments.chat --restore_from runs/speedrun/rl_seed0
  python -m experiments.chat --restore_from runs/speedrun/pretrain --base

With --base the text is continued as it stands, which is what a model that was
only pretrained can do. With --single_turn each message is a conversation of its
own; a model never sees more questions than the longest of its training had.
--prompt TEXT prints one answer and ends. /help lists the commands. Nothing is
written to disk.

With --fim a model that was pretrained with Config.fim_rate fills in what is
missing in a text, typed, piped or given by --prompt, where <FILL> stands:

  python -m experiments.chat --restore_from runs/fim --fim --prompt 'a <FILL> b'
"""

import contextlib
import dataclasses
import functools
import readline
import sys
from collections.abc import Sequence

from experiments import command_line
from llm_jax import visible_text
from llm_jax.agent import toolbox, turns
from llm_jax.chat import formats
from llm_jax.serve import terminal
from llm_jax.train import checkpoint


@dataclasses.dataclass(frozen=True)
class Config:
  """How answers are made; temperature can be changed in the conversation."""

  # Of one answer, at most a quarter of the context, or half with tools; with
  # --base any number, as the text then slides over the context.
  max_new_tokens: int = 128
  temperature: float = 0.7  # 0 is greedy
  seed: int = 0  # the same seed and messages give the same conversation
  tools: toolbox.Toolbox = toolbox.Toolbox()


def run(
  cfg: Config,
  restore_from: str,
  chat: bool = False,
  base: bool = False,
  single_turn: bool = False,
  fim: bool = False,
  prompt: str | None = None,
  tools: Sequence[str] = (),
  documents: str = '',
) -> None:
  """Talk until /quit or the end of the input.

  Args:
    cfg: length, temperature and seed.
    restore_from: folder of the stage whose newest checkpoint is loaded.
    chat: answer messages, whatever the checkpoint was trained on.
    base: continue text instead of answering messages.
    single_turn: forget each message before the next.
    fim: fill in the middle of texts, one piped or each that is typed.
    prompt: answer this alone and end.
    tools: that the model may call; see Toolbox.
    documents: that the tool `search` searches.
  """
  loaded = checkpoint.load_model(restore_from)
  context = loaded.model_config.max_length
  is_chat = formats.override(chat, base or fim)
  notices = []
  if is_chat is None and not loaded.is_chat:
    notices.append(
      '[this model was not trained on conversations: it continues text, as '
      'with --base]'
    )
  if is_chat is None:
    is_chat = loaded.is_chat
  base = not is_chat
  max_turns = 1 if single_turn else loaded.usage.max_turns
  if is_chat and max_turns and not single_turn:
    questions = f'{max_turns} questions' if max_turns > 1 else 'one question'
    notices.append(
      f'[this model was trained on conversations of up to {questions}: older '
      'ones are forgotten]'
    )
  box = dataclasses.replace(
    cfg.tools,
    names=tuple(','.join(tools).split(',')) if tools else cfg.tools.names,
    documents=documents or cfg.tools.documents,
  )
  # That leaves room for the turns before; results of tools count.
  limit = min(cfg.max_new_tokens, context // (2 if box.names else 4))
  if base and not fim:  # it slides
    limit = cfg.max_new_tokens
  model = turns.of_checkpoint(loaded, is_chat, box.schemas())
  published = model.tokenizer.published
  if fim and not loaded.usage.fills and published is None:
    raise ValueError(
      f'the model of {restore_from} was not trained to fill in a middle; leave '
      'out --fim, or pretrain with Config.fim_rate = 0.5'
    )
  if fim:
    model = dataclasses.replace(
      model, chat_format=formats.Infill(model.tokenizer)
    )
    if prompt is None and not sys.stdin.isatty():
      prompt = sys.stdin.read()
  stack = contextlib.ExitStack()
  model = dataclasses.replace(model, using=stack.enter_context(box.opened()))
  session = terminal.Session(
    functools.partial(turns.stream, model),
    model.tokenizer,
    model.chat_format,
    context_tokens=context,
    max_new_tokens=limit,
    temperature=cfg.temperature,
    seed=cfg.seed,
    max_turns=max_turns,
  )
  if prompt is not None:
    with stack:
      for piece in session.answer(prompt):
        _write(piece)
    return
  print(
    f'{loaded.stage}, step {loaded.step}, context {context} tokens. '
    '/help lists the commands.'
  )
  print(*notices, sep='\n', end='\n' * bool(notices))
  if loaded.usage.examples:
    print('Things to try:')
    for text in loaded.usage.examples:
      print(f'  {visible_text.visible(text)}')
  # A paste of several lines is one message; Python turns this off by default.
  readline.parse_and_bind('set enable-bracketed-paste on')
  with stack:
    terminal.loop(
      session,
      lambda: input('> ').rstrip('\n'),
      write=_write,
      dims=sys.stdout.isatty(),
    )


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
    fim='fill in the middle of a text, which is typed or piped, at its <FILL>',
    prompt='answer this message, or continue this text, and end',
    tools='that the model may call: python, search, or functions of --import',
    documents='that search searches: a folder, a file, or an index',
  )
