"""A conversation with one checkpoint in a terminal, streamed as it is made.

Keeps the history in memory only and writes no file. Serves one person on one
terminal. What the model and its tools write never reaches the terminal raw:
control characters are shown as escapes.
"""

import dataclasses
import itertools
import math
import signal
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from llm_jax import visible_text
from llm_jax.agent import tools
from llm_jax.chat import formats, template
from llm_jax.infer import generate
from llm_jax.tokenizer import stream, text_tokenizer
from llm_jax.verify import grading

HELP = """\
/system TEXT       set the system message and start over; without TEXT, none
/temperature T     0 is greedy, 1 is the model's own distribution, at most 2
/reset             forget the conversation
/help              this list
/quit              leave (so does Ctrl-D); Ctrl-C stops an answer
Anything else is said to the model; begin with // for a message with one /."""


# Intensity of text on a terminal.
_DIM, _NORMAL = '\x1b[2m', '\x1b[22m'
_FOLDED = 60  # characters of a call, and of its result


# Yields the ids that continue a prompt, for a seed, as they are made, and the
# results of tools where the model calls some; the stop token ends an answer.
StreamFn = Callable[
  [list[int], generate.Request, int], Iterator[int | tools.Result]
]


@dataclasses.dataclass
class Session:
  """The state of one conversation: messages, system text, temperature."""

  stream_fn: StreamFn
  tokenizer: text_tokenizer.TextTokenizer
  chat_format: template.Format
  context_tokens: int  # prompt and answer together
  # Of one answer; this much of the context is kept free. A continuation of
  # plain text may be longer than the context, over which it slides.
  max_new_tokens: int
  temperature: float = 0.7
  seed: int = 0
  max_turns: int = 0  # that the model sees, the new one with them; 0: any
  system: str = ''
  # Each a question and all that was said to it.
  turns: list[list[dict[str, Any]]] = dataclasses.field(default_factory=list)
  n_answers: int = 0
  is_stopping: bool = False

  def __post_init__(self):
    limit, context = self.max_new_tokens, self.context_tokens
    if self.chat_format.is_chat and not 0 < limit < context:
      raise ValueError(
        f'max_new_tokens {limit} leaves no room for a prompt in a context of '
        f'{context} tokens; use 1 to {context - 1}'
      )

  def respond(self, line: str) -> Iterator[str]:
    """Act on what the user entered.

    Args:
      line: a command that begins with one slash, or a message; what has
        several lines is a message.

    Yields:
      Pieces of text to print as they come, safe for a terminal. A notice of
      the program, and not of the model, is in square brackets.
    """
    self.is_stopping = False
    if line.startswith('/') and not line.startswith('//') and '\n' not in line:
      yield self._command(line)
      return
    yield from self.answer(line[1:] if line.startswith('//') else line)

  def answer(self, text: str) -> Iterator[str]:
    """Answer a message, whatever it begins with; yields as `respond` does."""
    while self.max_turns and len(self.turns) >= self.max_turns:
      del self.turns[0]
    try:
      prompt, n_dropped = self._prompt(text)
    except ValueError as error:
      yield f'[{error}]\n'
      return
    if n_dropped:
      yield (
        f'[the context of {self.context_tokens} tokens is full: '
        f'the {n_dropped} oldest turn{"s" * (n_dropped > 1)} dropped]\n'
      )
    yield from filter(None, self._answer(prompt, text))

  def stop(self) -> bool:
    """Ask the running answer to end after its next token.

    Returns:
      Whether this had been asked before, so that the caller may insist.
    """
    asked_before, self.is_stopping = self.is_stopping, True
    return asked_before

  def _command(self, line: str) -> str:
    """Run a command and give what it says."""
    name, _, value = line.partition(' ')
    value = value.strip()
    if name == '/help':
      return HELP + '\n'
    if name == '/reset':
      self.turns.clear()
      return '[the conversation is forgotten]\n'
    if name == '/system':
      if not self.chat_format.is_chat:
        return '[plain continuation knows no system message; leave --base]\n'
      self.system = value
      self.turns.clear()
      return f'[system message {"set" if value else "removed"}; started over]\n'
    if name == '/temperature':
      try:
        temperature = float(value)
      except ValueError:
        temperature = math.nan
      if not 0 <= temperature <= 2:
        shown = visible_text.visible(value)
        return f'[temperature {shown!r} is not a number from 0 to 2]\n'
      self.temperature = temperature
      return f'[temperature {temperature:g}]\n'
    shown = visible_text.visible(name)
    return f'[{shown} is no command; /help lists them]\n'

  def _prompt(self, text: str) -> tuple[list[int], int]:
    """Ids to continue, after dropping the oldest turns that do not fit.

    Turns are dropped whole, question and answer together: half a turn would
    put words in the wrong mouth.

    Raises:
      ValueError: the message does not fit even alone; nothing is dropped.
    """
    kept, context = self.max_new_tokens, self.context_tokens
    if not self.chat_format.is_chat:
      kept = min(kept, context // 2)
    room = context - kept
    system = [{'role': 'system', 'content': self.system}] * bool(self.system)

    def encode(turns: Sequence[Sequence[dict[str, Any]]]) -> list[int]:
      said = itertools.chain(system, *turns, formats.question(text))
      return self.chat_format.prompt([*said])

    if (n_alone := len(encode([]))) > room:
      raise ValueError(
        f'the message is {n_alone} tokens with its frame, but the context of '
        f'{context} less {kept} for the answer takes {room}; '
        'shorten it' + (' or the system message' if self.system else '')
      )
    n_dropped = 0
    while len(prompt := encode(self.turns)) > room:
      del self.turns[0]
      n_dropped += 1
    return prompt, n_dropped

  def _answer(self, prompt: list[int], text: str) -> Iterator[str]:
    """Stream an answer and keep the turn, also where it was stopped."""
    limit, stop_ids = self.max_new_tokens, self.chat_format.stop_ids
    request = generate.Request(
      limit, stop_ids, self.temperature, slides=not self.chat_format.is_chat
    )
    decoder = stream.StreamDecoder(self.tokenizer)
    drawn: list[int] = []
    said: list[dict[str, Any]] = [{'role': 'user', 'content': text}]
    is_call = False
    yield self.chat_format.opening
    notice = f'[stopped: the answer reached its limit of {limit} tokens]'
    self.n_answers += 1
    seed = self.seed + self.n_answers
    cut = notice
    for token in self.stream_fn(prompt, request, seed):
      if isinstance(token, tools.Result):
        if drawn:  # the answer that called it, and maybe others
          said.append(self.chat_format.message(drawn))
          drawn, is_call, notice = [], False, cut
        said.append({'role': 'tool', 'content': token.text})
        yield f'{_folded(token)}\n'
        continue
      drawn.append(token)
      if token in stop_ids:
        notice = ''
        continue
      is_call |= token in self.chat_format.call_ids
      if not is_call and token not in self.chat_format.hidden_ids:
        yield visible_text.visible(decoder.push(token))
      if self.is_stopping:
        notice = '[stopped]'
        break
    yield visible_text.visible(decoder.flush())
    if is_call and not notice:  # nothing may be silent that was hidden
      for call in self.chat_format.split_calls(drawn)[1]:
        yield f'{_folded(tools.Result(call, "not done", is_error=True))}\n'
    if self.chat_format.is_chat:
      self.turns.append([*said, self.chat_format.message(drawn)])
    yield f'\n{notice}\n' if notice else '\n'


def _folded(result: tools.Result) -> str:
  """A call with its result on one line."""
  call = result.call
  said = ' '.join(map(str, call.arguments.values())) or call.fault
  parts = [f'{call.name or "?"}: {said}', result.text]
  short = [textwrap.shorten(p, _FOLDED, placeholder='...') for p in parts]
  return visible_text.visible(f'[{short[0]} -> {short[1]}]')


def dim_thoughts(pieces: Iterable[str]) -> Iterator[str]:
  r"""Set what is inside of thoughts dim, with the codes of a terminal.

  >>> print(''.join(dim_thoughts(['<thi', 'nk>a</think>', 'b'])).split('\x1b'))
  ['', '[2m<think>a</think>', '[22mb']

  Args:
    pieces: of one answer, as they come; a tag may be cut anywhere.

  Yields:
    Pieces; the last one ends a thought that does not end.
  """
  held, is_dim = '', False  # held: what may begin the tag that is next
  for piece in pieces:
    text, held, shown = held + piece, '', ''
    while text:
      tag = grading.THINK_END if is_dim else grading.THINK_START
      before, found, text = text.partition(tag)
      if found:
        is_dim = not is_dim
        shown += before + (_DIM + found if is_dim else found + _NORMAL)
        continue
      n_held = next(
        n for n in range(len(tag), -1, -1) if before.endswith(tag[:n])
      )
      shown += before[: len(before) - n_held]
      held = tag[:n_held]
    if shown:
      yield shown
  if held or is_dim:
    yield held + _NORMAL * is_dim


def loop(
  session: Session,
  read_line: Callable[[], str],
  write: Callable[[str], object],
  dims: bool = False,
) -> None:
  """Read lines and print answers until /quit or the end of the input.

  Args:
    session: the conversation.
    read_line: gives the next line; raises EOFError at the end of the input.
    write: prints a piece at once, without waiting for the line to end.
    dims: set thoughts dim, with the codes of a terminal.
  """
  show = dim_thoughts if dims else iter

  def interrupt(signum, frame):
    # A flag and not an exception: an exception could land between a token and
    # its text and lose the turn. A second Ctrl-C does not wait for a token.
    if session.stop():
      signal.default_int_handler(signum, frame)

  while True:
    try:
      line = read_line()
    except KeyboardInterrupt:
      write('\n[/quit or Ctrl-D leaves]\n')
      continue
    except EOFError:
      write('\n')
      return
    if line.strip() == '/quit':
      return
    if not line.strip():
      continue
    previous = signal.signal(signal.SIGINT, interrupt)
    try:
      for piece in show(session.respond(line)):
        write(piece)
    except KeyboardInterrupt:
      write(_NORMAL * dims)
      write('\n[stopped at once; this turn is forgotten]\n')
    finally:
      signal.signal(signal.SIGINT, previous)
