"""Review in a real terminal and by a pipe, with real editors."""

import json
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from llm_jax.tasks import given
from tools import review

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def row(number, **more):
  messages = [
    {'role': 'user', 'content': f'question {number}'},
    {'role': 'assistant', 'content': f'answer {number}'},
  ]
  return {'messages': messages, 'origin': {'model': 'm1'}, **more}


def write(path, *rows):
  path.write_text(''.join(json.dumps(x) + '\n' for x in rows))
  return path


def command(path, workdir):
  return [sys.executable, '-m', 'tools.review', path, '--workdir', workdir]


def typed(path, workdir, *keys, editor='', code=0):
  """The output of the program for keys, each with Return."""
  done = subprocess.run(
    command(path, workdir),
    input='\n'.join([*keys, '']),
    env={**os.environ, 'EDITOR': editor},
    cwd=_ROOT,
    capture_output=True,
    text=True,
    check=False,
    timeout=60,
  )
  assert done.returncode == code, done.stderr
  return done.stdout + done.stderr


def kept(workdir):
  lines = (workdir / 'accepted.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_each_decision_counts_and_sft_reads_what_is_accepted(tmp_path):
  path, workdir = write(tmp_path / 'c.jsonl', *map(row, range(4))), tmp_path
  out = typed(
    path, workdir, 'a', 'e', 'r', 'q', editor="sed -i 's/answer 1/better/'"
  )
  assert out.index('question 0') < out.index('question 1')
  assert 'model: m1' in out
  assert (
    '3 of 4 reviewed: 1 accepted (33%), 1 edited (33%), 1 rejected (33%); '
    f'{workdir}/accepted.jsonl has 2'
  ) in out
  found = kept(workdir)
  assert found[0] == row(0, review='accepted')
  assert found[1]['review'] == 'edited'
  assert found[1]['origin'] == {'model': 'm1'}
  assert [x['content'] for x in found[1]['messages']] == [
    'question 1',
    'better',
  ]
  assert json.loads((workdir / 'review.json').read_text()) == {
    'conversations': 4,
    'reviewed': 3,
    'accepted': 1,
    'edited': 1,
    'rejected': 1,
  }
  # The same command goes on, and can take back what was decided before.
  out = typed(path, workdir, 'u', 'a', 'r', 'u', 'a', 'x')
  assert 'question 3' in out
  assert 'question 0' not in out
  assert "'x' is nothing that can be done here" in out
  assert '4 of 4 reviewed: 3 accepted (75%), 1 edited (25%)' in out
  assert [x['review'] for x in kept(workdir)] == [
    'accepted', 'edited', 'accepted', 'accepted'
  ]  # fmt: skip
  source = {'mine': str(workdir / 'accepted.jsonl')}
  assert [x.messages[1]['content'] for x in given.read(source)] == [
    'answer 0', 'better', 'answer 2', 'answer 3'
  ]  # fmt: skip


def test_undo_at_the_beginning_and_the_end(tmp_path):
  path = write(tmp_path / 'c.jsonl', row(0))
  out = typed(path, tmp_path, 'u', 'a', 'u', 'r')
  assert "'u' is nothing that can be done here" in out
  assert 'all are reviewed. [u]ndo, [q]uit' in out
  assert '0 accepted (0%), 0 edited (0%), 1 rejected (100%)' in out


@pytest.mark.parametrize(
  ('editor', 'reason'),
  [
    ('', 'there is no EDITOR in the environment'),
    ('/no/such/editor', 'EDITOR /no/such/editor does not start'),
    ('false', 'false ended with the code 1'),
    ('true', 'nothing was changed'),
    ("sed -i 's/assistant/robot/'", "role 'robot'"),
    ('truncate -s 0', 'the conversation has no messages'),
    ("sed -i '$d'", 'the assistant says nothing'),
    ("sed -i '1s/^/x/'", 'begins without a line'),
    (r"sed -i '2s/.*/\xff/'", '0xff, which is not UTF-8'),
    ('"', 'No closing quotation'),
  ],
)
def test_an_edit_that_fails_decides_nothing(
  editor, reason, tmp_path, monkeypatch, capfd
):
  monkeypatch.setenv('EDITOR', editor)
  keys = iter('e')
  one = review.Review(str(write(tmp_path / 'c.jsonl', row(0))), str(tmp_path))
  review.loop(one, lambda _: next(keys, 'q'))
  out = capfd.readouterr().out
  assert re.search(f'{reason}.*; nothing is decided', out), out
  assert '0 of 1 reviewed' in one.finish()


def test_what_was_edited_wrongly_is_edited_further(tmp_path, monkeypatch):
  """The second edit mends the role that the first one broke."""
  edits = 's/robot/assistant/;t;s/assistant/robot/;s/answer 0/kept/'
  monkeypatch.setenv('EDITOR', f"sed -i '{edits}'")
  keys = iter('ee')
  one = review.Review(str(write(tmp_path / 'c.jsonl', row(0))), str(tmp_path))
  review.loop(one, lambda _: next(keys, 'q'))
  one.finish()
  assert kept(tmp_path)[0]['messages'][1]['content'] == 'kept'


def test_messages_survive_the_editor_whatever_they_hold():
  messages = [
    {'role': 'system', 'content': ''},
    {'role': 'user', 'content': '=== user ===\na\r\n\n'},
    {'role': 'assistant', 'content': '\n==== x ====\n', 'weight': 1},
  ]
  mark = review.mark_for(messages)
  assert mark == '====='
  text = review.as_text(messages, mark)
  assert review.from_text(text, mark, messages) == messages
  shorter = review.as_text(messages[1:], mark)
  with pytest.raises(ValueError, match='calls or weights stay as many'):
    review.from_text(shorter, mark, messages)
  plain = [{k: m[k] for k in ('role', 'content')} for m in messages]
  assert review.from_text(shorter, mark, plain) == plain[1:]


def test_what_is_shown_does_not_act_on_the_terminal(tmp_path):
  one = row(0)
  one['messages'][1]['content'] = 'red \x1b[31m'
  out = typed(write(tmp_path / 'c.jsonl', one), tmp_path, 'a')
  assert 'red \\x1b[31m' in out
  assert kept(tmp_path)[0]['messages'] == one['messages']


@pytest.mark.parametrize(
  ('lines', 'reason'),
  [
    (['{"messages": []}'], 'line 1 of .*no messages'),
    ([json.dumps(row(0)), '{}'], "line 2 of .*KeyError\\('messages'"),
    (['[1]'], 'a line is an object'),
    ([], 'c.jsonl is empty; give a file of conversations'),
    (
      [json.dumps({'messages': row(0)['messages'][:1]})],
      'the assistant says nothing',
    ),
  ],
)
def test_what_holds_no_conversations_is_refused(lines, reason, tmp_path):
  path = tmp_path / 'c.jsonl'
  path.write_text('\n'.join(lines))
  with pytest.raises(ValueError, match=reason):
    review.Review(str(path), str(tmp_path / 'w'))


def test_decisions_of_another_file_are_refused(tmp_path):
  first = write(tmp_path / 'a.jsonl', row(0), row(1))
  typed(first, tmp_path / 'w', 'a', 'r')
  longer = write(tmp_path / 'b.jsonl', row(2), row(1), row(0))
  out = typed(longer, tmp_path / 'w', 'q')
  assert 'question 2' in out  # the others are decided
  other = write(tmp_path / 'c.jsonl', row(0), row(3))
  out = typed(other, tmp_path / 'w', code=1)
  assert 'error: ' in out
  assert 'has 1 decisions about conversations that are not in' in out
  assert 'error: ' in typed(tmp_path / 'none', tmp_path / 'v', code=1)


def test_killed_in_a_terminal_it_goes_on(tmp_path):
  """The half line of a decision that a kill left is not one."""
  path = write(tmp_path / 'c.jsonl', *map(row, range(3)))
  main, terminal = pty.openpty()
  process = subprocess.Popen(
    command(path, tmp_path),
    stdin=terminal,
    stdout=terminal,
    stderr=terminal,
    cwd=_ROOT,
    env={**os.environ, 'TERM': 'dumb'},
    start_new_session=True,
  )
  os.close(terminal)
  screen, deadline_s = '', time.monotonic() + 60

  def wait_for(text):
    nonlocal screen
    while text not in screen:
      assert select.select([main], [], [], deadline_s - time.monotonic())[0]
      screen += os.read(main, 4096).decode()
    screen = screen.partition(text)[2]

  for number in range(2):
    wait_for(f'question {number}')
    wait_for('[q]uit: ')
    os.write(main, b'a\n')
  wait_for('question 2')
  process.kill()
  process.wait()
  os.close(main)
  journal = tmp_path / 'decisions.jsonl'
  data = journal.read_bytes()
  assert data.count(b'\n') == 2
  journal.write_bytes(data[:-9])
  out = typed(path, tmp_path, 'r', 'a')
  assert 'question 0' not in out
  assert '2 accepted (67%), 0 edited (0%), 1 rejected (33%)' in out
  assert [x['messages'][1]['content'] for x in kept(tmp_path)] == [
    'answer 0', 'answer 2'
  ]  # fmt: skip
