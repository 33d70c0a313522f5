"""Shows conversations one after the other, to accept, edit or reject them.

  python -m tools.review runs/synthetic/conversations.jsonl \
    --workdir runs/reviewed

a accepts, e opens $EDITOR, r rejects, u takes the last decision back, q leaves;
so does the end of the input. Each decision is on disk at once, and the same
command goes on, also with a file that has grown. accepted.jsonl in --workdir is
for experiments.sft, review.json says how many were accepted, edited, rejected.
"""

import collections
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import app, flags

from llm_jax import files, journal, locks, visible_text
from llm_jax.chat import conversation

Messages = list[dict[str, Any]]
_DECISIONS = {'a': 'accepted', 'e': 'edited', 'r': 'rejected'}
_ORIGIN = ('model', 'template', 'topic', 'persona', 'document', 'task')
_PROMPT = '[a]ccept, [e]dit, [r]eject, [u]ndo, [q]uit: '
_PROMPT_AT_END = 'all are reviewed. [u]ndo, [q]uit: '


def _define_flags() -> None:
  """When it is the program: another tool has flags of the same names."""
  flags.DEFINE_string('workdir', None, 'Folder of decisions and what is kept.')


class Decision(NamedTuple):
  """What a person said of a conversation."""

  key: str  # of the conversation; '' takes the last decision back
  decision: str
  messages: Messages | None  # as edited


class Review:
  """The conversations, and what was decided; on disk at once."""

  def __init__(self, path: str, workdir: str):
    """Read a file, and what was decided about it earlier.

    Raises:
      ValueError: if the file or the decisions are damaged, or of another file.
      OSError: if there is no such file.
    """
    self.rows: dict[str, dict[str, Any]] = dict(files.read_jsonl(path, _row))
    if not self.rows:
      raise ValueError(f'{path} is empty; give a file of conversations')
    self._folder = pathlib.Path(workdir)
    self._folder.mkdir(parents=True, exist_ok=True)
    locks.lock(self._folder)
    self.made: list[Decision] = []
    for decision in journal.read(self._journal, lambda x: Decision(**x)):
      self._take(decision)
    others = sum(one.key not in self.rows for one in self.made)
    if others:
      raise ValueError(
        f'{self._journal} has {others} decisions about conversations that are '
        f'not in {path}; give the file that they are of, or another --workdir'
      )

  @property
  def _journal(self) -> pathlib.Path:
    return self._folder / 'decisions.jsonl'

  def next(self) -> str | None:
    """The key of the first conversation without a decision."""
    decided = {one.key for one in self.made}
    return next((key for key in self.rows if key not in decided), None)

  def decide(
    self, key: str, decision: str, messages: Messages | None = None
  ) -> None:
    """Keep a decision; without a key the last one is taken back."""
    one = Decision(key, decision, messages)
    journal.append(self._journal, one._asdict())
    self._take(one)

  def _take(self, one: Decision) -> None:
    if one.key:
      self.made.append(one)
    elif self.made:
      self.made.pop()

  def finish(self) -> str:
    """Write accepted.jsonl and review.json; what came of it, in words."""
    made = {one.key: one for one in self.made}
    kept = []
    for key, row in self.rows.items():
      if key in made and made[key].decision != 'rejected':
        messages = made[key].messages or row['messages']
        review = {'review': made[key].decision}
        kept.append({**row, 'messages': messages, **review})
    files.write_jsonl(self._folder / 'accepted.jsonl', kept)
    n = collections.Counter(one.decision for one in self.made)
    counts = {name: n[name] for name in _DECISIONS.values()}
    about = {'conversations': len(self.rows), 'reviewed': len(made), **counts}
    files.write_json(self._folder / 'review.json', about)
    shares = ', '.join(
      f'{count} {name} ({count / max(len(made), 1):.0%})'
      for name, count in counts.items()
    )
    return (
      f'{len(made)} of {len(self.rows)} reviewed: {shares}; '
      f'{self._folder}/accepted.jsonl has {len(kept)}'
    )


def _row(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
  _check(row['messages'])
  text = json.dumps(row['messages'], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest(), row


def _check(messages: Messages) -> None:
  conversation.check(messages)
  learnt = filter(conversation.is_learnt, messages)
  if not any(m['content'].strip() or m.get('tool_calls') for m in learnt):
    raise ValueError('the assistant says nothing that is learnt')


def as_text(messages: Sequence[Mapping[str, Any]], mark: str) -> str:
  """Messages for an editor, each behind a line with its role."""
  return ''.join(
    f'{mark} {message["role"]} {mark}\n{message["content"]}\n'
    for message in messages
  )


def mark_for(messages: Sequence[Mapping[str, Any]]) -> str:
  """A mark that no line of the messages looks like."""
  mark, said = '===', '\n'.join(message['content'] for message in messages)
  while re.search(rf'^{mark} \w+ {mark}$', said, re.MULTILINE):
    mark += '='
  return mark


def from_text(text: str, mark: str, before: Messages) -> Messages:
  """What an editor made of messages.

  Raises:
    ValueError: if it is no conversation, or calls of tools lost their place.
  """
  head, *parts = re.split(rf'^{mark} (\w+) {mark}\n', text, flags=re.MULTILINE)
  if head.strip():
    raise ValueError(f'the text begins without a line {mark} user {mark}')
  roles = parts[::2]
  said = [text.removesuffix('\n') for text in parts[1::2]]
  if roles != [message['role'] for message in before]:
    if any(message.keys() - {'role', 'content'} for message in before):
      raise ValueError('messages with calls or weights stay as many')
    before = [{'role': role} for role in roles]
  messages = [
    {**message, 'content': text}
    for message, text in zip(before, said, strict=True)
  ]
  _check(messages)
  return messages


def edit(text: str) -> str:
  """Opens $EDITOR on a text; what it is then.

  Raises:
    ValueError: if there is no editor, or it ends with an error.
  """
  editor = shlex.split(os.environ.get('EDITOR', ''))
  if not editor:
    raise ValueError(
      'there is no EDITOR in the environment; set it, as to nano'
    )
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'conversation.txt')
    path.write_text(text, encoding='utf-8')
    try:
      code = subprocess.run([*editor, str(path)], check=False).returncode
    except OSError as error:
      raise ValueError(f'EDITOR {editor[0]} does not start: {error}') from None
    if code:
      raise ValueError(f'{editor[0]} ended with the code {code}')
    return files.decode(path.read_bytes(), first_line=1)


def show(row: Mapping[str, Any]) -> str:
  """A conversation for a terminal."""
  shown = [f'{m["role"]}: {m["content"]}' for m in row['messages']]
  origin = row.get('origin', {})
  made_of = [f'{k}: {origin[k]}' for k in _ORIGIN if k in origin]
  return visible_text.visible('\n\n'.join([*shown, '  '.join(made_of)]))


def loop(review: Review, read_fn: Callable[[str], str]) -> None:
  """Asks about one conversation after the other, until q or the end.

  Args:
    review: the conversations.
    read_fn: what a person types behind a prompt; raises EOFError at the end.
  """
  drafts: dict[str, str] = {}  # texts that were edited, and are none yet
  shown = None
  while True:
    key = review.next()
    if key and key != shown:
      number = len(review.made) + 1
      print(f'\n--- {number} of {len(review.rows)}\n{show(review.rows[key])}\n')
    shown = key
    try:
      typed = read_fn(_PROMPT if key else _PROMPT_AT_END).strip()
    except (EOFError, KeyboardInterrupt):
      print()
      return
    if typed == 'q':
      return
    if typed == 'u' and review.made:
      review.decide('', 'undone')
    elif typed in _DECISIONS and key:
      messages = None
      if typed == 'e':
        before = review.rows[key]['messages']
        mark = mark_for(before)
        old = as_text(before, mark)
        try:
          drafts[key] = edit(drafts.get(key, old))
          messages = from_text(drafts[key], mark, before)
        except ValueError as error:
          print(f'{error}; nothing is decided')
          continue
        if messages == before:
          print('nothing was changed; nothing is decided')
          continue
      review.decide(key, _DECISIONS[typed], messages)
    else:
      print(f'{typed!r} is nothing that can be done here')


def _main(argv: Sequence[str]) -> None:
  if len(argv) != 2 or not flags.FLAGS.workdir:
    raise app.UsageError('give one file of conversations, and --workdir')
  try:
    review = Review(argv[1], flags.FLAGS.workdir)
    try:
      loop(review, input)
    finally:
      print(review.finish())
  except (ValueError, OSError) as error:
    raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
  _define_flags()
  app.run(_main)
