"""Which of the code in an answer is its program, by what that program does."""

import textwrap

import pytest

from llm_jax.verify import code_blocks

_CODE = 'def double(x):\n  """Twice\n\n  as much."""\n  return 2 * x'
_INDENTED = textwrap.indent(_CODE, '   ')
_START = 'import math\n\ndef double(x):\n  """Twice as much."""\n'
RIGHT = {
  'code alone': _CODE,
  'carriage returns': _CODE.replace('\n', '\r\n'),
  'a fence': f'Here:\n```python\n{_CODE}\n```\nGood.',
  'python3': f'```python3\n{_CODE}\n```',
  'Python': f'```Python\n{_CODE}\n```',
  'py': f'``` py\n{_CODE}\n```',
  'braces': f'```{{.python}}\n{_CODE}\n```',
  'a title': f'```python title="a.py"\n{_CODE}\n```',
  'no label': f'```\n{_CODE}\n```',
  'tildes': f'~~~python\n{_CODE}\n~~~',
  'four marks': f'````python\n{_CODE}\n````',
  'a list': f'1. So:\n\n   ```python\n{_INDENTED}\n   ```\n2. Done.',
  'an open fence': f'```python\n{_CODE}',
  'an open fence in prose': f'```python\n{_CODE}\n\nThat is all, I hope.',
  'prose around': f'Here is the code, as asked:\n\n{_CODE}\n\nIt is right.',
  'a decorator': f'So:\n\nimport functools\n@functools.cache\n{_CODE}\nYes!',
  'a shell before': f'```bash\npip install x\n```\n```python\n{_CODE}\n```',
  'its use behind': f'```python\n{_CODE}\n```\n```python\nprint(double(2))',
  'output behind': f'```python\n{_CODE}\n```\n```text\n4\n```',
  'a wrong one before': (
    f'```python\ndef double(x):\n  return x\n```\nNo.\n```python\n{_CODE}\n```'
  ),
  'a helper before': (
    '```python\ndef half(x):\n  return x / 2\nassert half(1) == 3\n```\n'
    '```python\ndef double(x):\n  return x + half(2 * x)\n```'
  ),
  'imports before': (
    '```python\nfrom operator import mul\nTWO = 2\n```\n'
    '```python\ndef double(x):\n  return mul(TWO, x)\n```'
  ),
  'a helper behind': (
    '```python\ndef double(x):\n  return twice(x)\n```\nwith\n'
    '```python\ndef twice(x):\n  return 2 * x\n```'
  ),
  'input': f'```python\n{_CODE}\nwhile True:\n  n = int(input("n?"))\n```',
  'a wrong assert': f'```python\n{_CODE}\nassert double(2) == 5\n```',
  'an exit': f'```python\n{_CODE}\nraise SystemExit(double(2))\n```',
  'an unknown name': f'```python\nx = unknown\n{_CODE}\nprint(y)\n```',
  'a main': f'```python\n{_CODE}\nif __name__ == "__main__":\n  main()\n```',
  'a table': (
    'table = {}\nfor n in range(9):\n  table[n] = 2 * n\n'
    'def double(x):\n  return table[x]'
  ),
  'a lambda': '```\ndouble = lambda x: x + x\n```',
  'a method': (
    '```python\nclass Solution:\n  def double(self, x):\n    return 2 * x\n```'
  ),
  'a future': f'```python\nfrom __future__ import annotations\n{_CODE}\n```',
  'a class': (
    'class Two:\n  value = 2\n\ndef double(x):\n  return Two.value * x\n'
  ),
  'thoughts': f'<think>\n```python\ndef double(x): 1/0\n```</think>{_CODE}',
  'an escape': f'{_CODE}\nPATTERN = "\\d"',
}
BODIES = {
  'as it goes on': '  return 2 * x\n',
  'by four': '    y = x\n    return x + y',
  'not indented': 'y = x\nreturn x + y',
  'but for its first line': 'if x:\n    return 2 * x\n    return 0',
  'in a fence': 'So:\n```python\n  return 2 * x\n```',
  'in a fence, not indented': '```python\nreturn math.ceil(2 * x)\n```\nDone',
}
WRONG = {
  'no code': 'Sorry, I can not.',
  'another function': '```python\ndef triple(x):\n  return 3 * x\n```',
  'its use alone': '```python\nprint(double(2))\n```',
  'a thought alone': f'<think>\n```python\n{_CODE}\n```\n</think>\nDone.',
  'a wrong one behind': (
    f'```python\n{_CODE}\n```\nBetter:\n```python\ndef double(x):\n  pass\n```'
  ),
  'nothing': '',
  'a broken one': '```python\ndef double(x:\n  return 2 * x\n```',
}
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
