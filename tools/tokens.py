"""Shows how a text, or conversations, fall into tokens.

  python -m tools.tokens 'The function returns 12+7.' \
    --tokenizer runs/speedrun/tokenizer
  python -m tools.tokens --conversation mine.jsonl --tokenizer runs/mine/sft

A text has a colour for each token, and below it the ids. Of a conversation the
tokens that SFT learns are green and all others dim; of a file of them the first
three are shown, or --n. Without a terminal there is a line for each token: +
where it is learnt, its id, and its text. In place of a text, `-` reads standard
input. --tokenizer is the folder of a tokenizer, a stage or a published model.
"""

import itertools
import os
import pathlib
import sys
from collections.abc import Sequence

from absl import app, flags

from llm_jax import files
from llm_jax.chat import formats, forms
from llm_jax.data import conversations
from llm_jax.interop import tokenizer_files
from llm_jax.tokenizer import loading, text_tokenizer

_COLOURS = ('\033[30;46m', '\033[30;43m', '\033[30;42m', '\033[30;45m')
_LEARNT, _OTHER, _PLAIN = '\033[32m', '\033[2m', '\033[0m'


def _define_flags() -> None:
  """When it is the program: another tool has flags of the same names."""
  flags.DEFINE_string(
    'tokenizer', 'runs/speedrun/tokenizer', 'Folder that holds a tokenizer.'
  )
  flags.DEFINE_string(
    'conversation', None, 'JSON lines of conversations, shown with their mask.'
  )
  flags.DEFINE_integer('n', 3, 'Conversations shown.', lower_bound=1)


def load(folder: str) -> text_tokenizer.TextTokenizer:
  """The tokenizer in a folder, whichever made it.

  Raises:
    ValueError, FileNotFoundError: if there is none.
  """
  inside = pathlib.Path(folder, 'checkpoints')  # of a stage
  if (inside / 'tokenizer').is_dir():
    return loading.load(inside / 'tokenizer')
  config = pathlib.Path(folder, 'config.json')
  if config.is_file():
    size = files.read_json(config).get('vocab_size', 0)
    return tokenizer_files.read(folder, size)
  if not pathlib.Path(folder).is_dir():
    raise FileNotFoundError(
      f'--tokenizer {folder}: there is no such folder; give that of a '
      'tokenizer, a stage or a published model'
    )
  return loading.load(folder)


def show(
  tokenizer: text_tokenizer.TextTokenizer,
  token_ids: Sequence[int],
  loss_mask: Sequence[int] | None,
  in_colour: bool,
) -> str:
  """Tokens for people.

  Args:
    tokenizer: made them.
    token_ids: the tokens.
    loss_mask: 1 where a token is learnt; None: it is a text.
    in_colour: for a terminal; else a line for each token.

  Returns:
    The lines. Bytes that are no text, and control characters, are escaped.
  """
  texts = [tokenizer.shown(token_id) for token_id in token_ids]
  if not in_colour:
    marks = ['+ ' if one else '  ' for one in loss_mask or ()]
    return '\n'.join(
      f'{mark}{token_id:>7} {text!r}'
      for mark, token_id, text in itertools.zip_longest(
        marks or [''] * len(texts), token_ids, texts
      )
    )
  if loss_mask is None:
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(texts))]
  else:
    colours = [_LEARNT if one else _OTHER for one in loss_mask]
  shown = [
    # A colour ends with the line, or it would fill the rest of it.
    f'{colour}{text.replace(chr(10), f"↵{_PLAIN}{chr(10)}{colour}")}{_PLAIN}'
    for colour, text in zip(colours, texts, strict=True)
  ]
  ids = [f'{c}{i}{_PLAIN}' for c, i in zip(colours, token_ids, strict=True)]
  return f'{"".join(shown)}\n{" ".join(ids)}'


def _conversations(
  tokenizer: text_tokenizer.TextTokenizer,
  source: str,
  n_shown: int,
  in_colour: bool,
) -> None:
  layout, tally = formats.choose(tokenizer, is_chat=True), forms.Tally()
  found = (
    read
    for path in conversations.find(source)
    for read in forms.read_rows(
      ((f'row {n}', row) for n, row in conversations.rows(path)), tally
    )
  )
  shown = 0
  for place, messages in itertools.islice(found, n_shown):
    # Some templates learn a row for each answer.
    for row in layout.rows(messages):
      n, n_learnt = len(row.token_ids), sum(row.loss_mask)
      print(f'{place}: {n} tokens, {n_learnt} learnt')
      print(show(tokenizer, *row, in_colour=in_colour))
    shown += 1
  for reason, (count, place) in tally.rejects.items():
    print(f'left out: {count} from {place} on: {reason}', file=sys.stderr)
  if not shown:
    raise ValueError(f'{source} holds no conversation that can be learnt')


def _main(argv: Sequence[str]) -> None:
  given = flags.FLAGS
  text, more = (argv[1], argv[2:]) if argv[1:] else (None, [])
  if more or (text is None) == (given.conversation is None):
    raise app.UsageError('give one text in quotes, or --conversation FILE')
  in_colour = sys.stdout.isatty() and 'NO_COLOR' not in os.environ
  try:
    tokenizer = load(given.tokenizer)
    if text is None:
      _conversations(
        tokenizer, given.conversation, n_shown=given.n, in_colour=in_colour
      )
      return
    text = sys.stdin.read() if text == '-' else text
    ids = tokenizer.encode(text)
    print(show(tokenizer, ids, loss_mask=None, in_colour=in_colour))
    n_bytes = len(text.encode())
    print(f'{len(ids)} tokens, {n_bytes} bytes', file=sys.stderr)
  except (ValueError, OSError) as error:
    raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
  _define_flags()
  app.run(_main)
