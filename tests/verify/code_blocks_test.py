"""Which of the code in an answer is its program, by what that program does."""

import textwrap

import pytest

from llm_jax.verify import code_blocks
from tests.verify import sandbox_attacks

_CODE = 'def double(x):\n  """Twice\n\n  as much."""\n  return 2 * x'
_INDENTED = textwrap.indent(_CODE, '   ')
_START = 'import math\n\ndef double(x):\n  """Twice as much."""\n'


def _filled(texts):
  """The answers of a part of the file."""
  return {
    name: text.replace('CODE', _CODE).replace('INDENTED', _INDENTED)
    for name, text in texts.items()
  }


RIGHT, BODIES, WRONG = map(
  _filled, sandbox_attacks.programs('code_blocks.txt').values()
)
RIGHT['carriage returns'] = _CODE.replace('\n', '\r\n')
WRONG['nothing'] = ''
M = 10**6
HOSTILE = [
  '(' * 9999, '-' * 9999 + '1', '1+' * 9999 + '1', '[' * M, '```\n' * (M // 4),
  '~' * M, '`' * M, '\n' * M, '@a\n' * (M // 3), 'def double(\n' * 9999, '\x00',
  '\ud800', 'x = "\ud800"', f'{_CODE}\nx = {"-" * 9999}1', '```' + 'a' * M,
  f'{_CODE}\n{"x." * 6000}x', 'class A:\n  def double(self): pass\n' * 500,
]  # fmt: skip


def _doubles(answer, start=''):
  """Whether the program of an answer, which is written here, doubles."""
  code = code_blocks.program(answer, 'double', start)
  module = {'__name__': 'solution'}
  try:
    exec(code, module)
    return module['double'](3) == 6
  except (SyntaxError, NameError, KeyError, TypeError):
    return False


@pytest.mark.parametrize('name', RIGHT)
@pytest.mark.parametrize('start', ['', _START])
def test_right(name, start):
  assert _doubles(RIGHT[name], start)
  assert code_blocks.program('<think>' + RIGHT[name], 'double') is None or (
    name == 'thoughts'
  )


@pytest.mark.parametrize('name', BODIES)
def test_what_goes_on_from_a_beginning(name):
  assert _doubles(BODIES[name], _START)


@pytest.mark.parametrize('name', WRONG)
def test_wrong(name):
  assert not _doubles(WRONG[name])
  assert not _doubles(WRONG[name], _START)


@pytest.mark.parametrize('answer', HOSTILE, ids=lambda text: text[:9])
def test_hostile_text_is_read_in_no_time(answer):
  assert isinstance(code_blocks.program(answer, 'double'), str)
