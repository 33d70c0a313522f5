"""tools.tokens: a text and conversations, for a terminal and for a file."""

import json
import pathlib
import subprocess
import sys

import pytest

from llm_jax.tokenizer import encoding
from tests.evals import tiny_checkpoint
from tools import tokens

ROOT = pathlib.Path(__file__).resolve().parent.parent
# `ab` is one token, all else are bytes.
TOKENIZER = encoding.Tokenizer.from_merges([(97, 98)], 'qwen2')


def test_lines_of_a_text():
  ids = TOKENIZER.encode('abc\x1b')
  assert tokens.show(TOKENIZER, ids, loss_mask=None, in_colour=False) == (
    "    256 'ab'\n     99 'c'\n     27 '\\\\x1b'"
  )


def test_half_a_character_is_shown_as_bytes():
  shown = tokens.show(TOKENIZER, [0xC3, 0xA4], loss_mask=None, in_colour=False)
  assert shown == "    195 '\\\\xc3'\n    164 '\\\\xa4'"


def test_colours_of_a_text():
  shown = tokens.show(TOKENIZER, [256, 10], loss_mask=None, in_colour=True)
  first, second, plain = *tokens._COLOURS[:2], '\033[0m'
  assert shown == (
    f'{first}ab{plain}{second}↵{plain}\n{second}{plain}\n'
    f'{first}256{plain} {second}10{plain}'
  )


def test_a_mask():
  lines = tokens.show(TOKENIZER, [256, 99], loss_mask=[0, 1], in_colour=False)
  assert lines == "      256 'ab'\n+      99 'c'"
  shown = tokens.show(TOKENIZER, [256, 99], loss_mask=[0, 1], in_colour=True)
  assert shown.startswith('\033[2mab\033[0m\033[32mc\033[0m\n')


def _run(*words, stdin=''):
  done = subprocess.run(
    [sys.executable, '-m', 'tools.tokens', *map(str, words)],
    cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=120,
  )  # fmt: skip
  return done.returncode, done.stdout, done.stderr


def test_the_command(tmp_path):
  """A file of conversations; a stage's folder; standard input; no terminal."""
  stage = tiny_checkpoint.write(tmp_path / 'sft', is_chat=True)
  messages = [
    {'role': 'user', 'content': 'Hi'},
    {'role': 'assistant', 'content': 'Yo'},
  ]
  path = tmp_path / 'mine.jsonl'
  rows = [{'messages': messages}, {'messages': messages[:1]}]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  code, out, err = _run('--conversation', path, '--tokenizer', stage)
  assert code == 0, err
  assert 'left out: 1 from row 2 on' in err
  lines = out.splitlines()
  # 3 control tokens a message, `user` and `assistant`, and 2 letters each.
  assert lines[0] == 'row 1: 23 tokens, 3 learnt'
  assert [line.split()[-1] for line in lines if line[0] == '+'] == [
    "'Y'", "'o'", "'<|im_end|>'"
  ]  # fmt: skip
  code, out, _ = _run('-', '--tokenizer', stage / 'vocabulary', stdin='ok')
  assert (code, out) == (0, "    111 'o'\n    107 'k'\n")


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['a', '--tokenizer=nowhere'], 'nowhere: there is no such folder; give t'),
    ([], 'give one text in quotes, or --conversation FILE'),
    (['a', 'b'], 'give one text in quotes'),
  ],
)
def test_what_is_refused(words, message):
  code, out, err = _run(*words)
  assert code
  assert message in out + err
