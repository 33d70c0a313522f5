"""Array names end in their dimensions, and einsum agrees with them.

`logits_BTV` is a (batch, tokens, vocabulary) array; the letters are those of
llm_jax.types.DIMENSIONS. Constants (`MAX_LENGTH`) and class names are no
arrays. What the lint cannot see: the shape that an array really has.
"""

import ast
import functools
import io
import pathlib
import re
import tokenize
from collections.abc import Collection, Iterator

import pytest

from llm_jax import types
from tools import house

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ('llm_jax', 'experiments', 'tools', 'tests')

_SUFFIX = re.compile(r'_*[a-z]\w*_([A-Z1]+)')
_SAME_SHAPE_METHODS = ('astype', 'copy', 'conj')
parse = functools.cache(ast.parse)  # several rules read each file


def faults(text: str, dimensions: Collection[str]) -> list[str]:
  """Lints one file.

  Args:
    text: Python source.
    dimensions: the letters that a suffix may hold.

  Returns:
    Lines such as `3: x_BQ: Q is no dimension`.
  """
  tree = parse(text)
  result = []
  for name, line in _named(tree):
    for letter in dict.fromkeys(_suffix(name) or ''):
      if letter not in dimensions:
        result.append(f'{line}: {name}: {letter} is no dimension')
  for node in ast.walk(tree):
    found = list(_einsum_faults(node, dimensions)) if _is_einsum(node) else []
    for target, value in _assigned(node):
      call = _through_methods(value)
      found += _result_faults(call, target) if _is_einsum(call) else []
    result += [f'{node.lineno}: {fault}' for fault in found]
  return result


def _suffix(name: str | None) -> str | None:
  match = _SUFFIX.fullmatch(name or '')
  return match[1] if match else None


def _named(tree: ast.AST) -> Iterator[tuple[str, int]]:
  """Yields names that are given: targets, arguments, fields, keys."""
  for node in ast.walk(tree):
    match node:
      case (
        ast.Name(id=str(name), ctx=ast.Store())
        | ast.Attribute(attr=str(name), ctx=ast.Store())
        | ast.arg(arg=str(name))
        | ast.keyword(arg=str(name))
      ):
        yield name, node.lineno
      case ast.Subscript(slice=ast.Constant(value=str(name))):
        yield name, node.slice.lineno
      case ast.Dict():
        for key in node.keys:
          if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value, key.lineno


def _name_of(node: ast.AST) -> str | None:
  """The name of `x_BT`, `self.x_BT`, `batch['x_BT']`, `x_BT.astype(...)`."""
  match _through_methods(node):
    case ast.Name(id=str(name)) | ast.Attribute(attr=str(name)):
      return name
    case ast.Subscript(slice=ast.Constant(value=name)):
      return str(name)
  return None


def _through_methods(node: ast.AST) -> ast.AST:
  match node:
    case ast.Call(func=ast.Attribute(attr=name, value=inner)):
      return _through_methods(inner) if name in _SAME_SHAPE_METHODS else node
  return node


def _is_einsum(node: ast.AST) -> bool:
  match node:
    case ast.Call(
      func=ast.Attribute(attr='einsum'), args=[ast.Constant(value=str()), *_]
    ):
      return True
  return False


def _assigned(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
  if isinstance(node, ast.Assign) and len(node.targets) == 1:
    yield node.targets[0], node.value
  elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value:
    yield node.target, node.value


def _einsum_faults(call, dimensions: Collection[str]) -> Iterator[str]:
  spec = call.args[0].value.replace(' ', '')
  if '->' not in spec:
    yield f'einsum {spec!r}: write the result too, `...->BT`'
  for letter in dict.fromkeys(re.sub(r'->|\.\.\.|,', '', spec)):
    if letter not in dimensions:
      yield f'einsum {spec!r}: {letter} is no dimension'
  operands = spec.split('->')[0].split(',')
  if len(operands) != len(call.args) - 1 and not any(
    isinstance(argument, ast.Starred) for argument in call.args
  ):
    yield f'einsum {spec!r} has {len(call.args) - 1} operands'
    return
  for letters, argument in zip(operands, call.args[1:], strict=False):
    name = _name_of(argument)
    if _contradict(_suffix(name), letters):
      yield f'{name} used as {letters}'


def _result_faults(call, target: ast.AST) -> Iterator[str]:
  spec = call.args[0].value.replace(' ', '')
  letters, name = spec.split('->')[-1], _name_of(target)
  if '->' in spec and _contradict(_suffix(name), letters):
    yield f'{name} assigned from {letters}'


def _contradict(suffix: str | None, letters: str) -> bool:
  """Whether a name's suffix and an operand's letters cannot both be true."""
  if suffix is None:
    return False
  if letters.startswith('...'):
    tail = letters[3:]
    suffix, letters = suffix[len(suffix) - len(tail) :], tail
  if len(suffix) != len(letters):
    return True
  return any(a not in (b, '1') for a, b in zip(suffix, letters, strict=True))


# ----------------------------------------------------------------------------


def test_repository():
  found = [
    f'{path.relative_to(ROOT)}:{fault}'
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob('*.py'))
    for fault in faults(path.read_text(encoding='utf-8'), types.DIMENSIONS)
  ]
  assert not found, '\n'.join(found)


def test_dimensions_are_single_letters():
  assert all(re.fullmatch('[A-Z1]', letter) for letter in types.DIMENSIONS)


@pytest.mark.parametrize(
  'text',
  [
    'logits_BTV = head(x_BTD)',
    'MAX_LENGTH, n_heads, _CACHE, MiB = 1, 2, 3, 4',
    'class Model_BQ: pass',
    "s_BHTS = jnp.einsum('BTHK,BSHK->BHTS', q_BTHK, k_BSHK)",
    "y_BTD = jnp.einsum('BTD,DF->BTF', self.x_BTD, w_DF)[..., :4]",
    "jnp.einsum('BT,BT->B', mask_B1, logp)",
    "jnp.einsum('...D,DF->...F', x_BTD.astype(f), params['w_DF'])",
    "jnp.einsum('BT,BT->B', x_BTD[:, :, 0], y)",
    'jnp.einsum(spec, x_BT)',
  ],
)
def test_sound(text):
  assert faults(text, 'BTSDHKFV1') == []


@pytest.mark.parametrize(
  ('text', 'fault'),
  [
    ('x_BQ = 1', '1: x_BQ: Q is no dimension'),
    ('def f(x_QQ): pass', '1: x_QQ: Q is no dimension'),
    ('f = lambda x_Q: 0', '1: x_Q: Q is no dimension'),
    ('f(mask_BQ=1)', '1: mask_BQ: Q is no dimension'),
    ('for x_BQ in y: pass', '1: x_BQ: Q is no dimension'),
    ('self.x_BQ = 1', '1: x_BQ: Q is no dimension'),
    ('class A:\n  x_BQ: int', '2: x_BQ: Q is no dimension'),
    ("batch = {'x_BQ': 1}", '1: x_BQ: Q is no dimension'),
    ("f(batch['x_BQ'])", '1: x_BQ: Q is no dimension'),
    (
      "jnp.einsum('BTHK,BTHK->BHTS', q_BTHK, k_BSHK)",
      '1: k_BSHK used as BTHK',
    ),
    ("jnp.einsum('BT,BT->B', x_BT, y_BTD)", '1: y_BTD used as BT'),
    ("jnp.einsum('BT,B->T', x_BT.astype(f), y_T)", '1: y_T used as B'),
    ("jnp.einsum('BT,T->B', a.x_TB, y)", '1: x_TB used as BT'),
    ("jnp.einsum('...F,FD->...D', x_BTD, w_FD)", '1: x_BTD used as F'),
    ("x_BT = jnp.einsum('BT->TB', y_BT)", '1: x_BT assigned from TB'),
    ("x_BT = np.einsum('BT->TB', y).astype(f)", '1: x_BT assigned from TB'),
    ("jnp.einsum('BTd->B', x)", "1: einsum 'BTd->B': d is no dimension"),
    ("jnp.einsum('BT,BT', x, y)", "1: einsum 'BT,BT': write the result too"),
    ("jnp.einsum('BT,BT->B', x)", "1: einsum 'BT,BT->B' has 1 operands"),
  ],
)
def test_planted_fault(text, fault):
  found = faults(text, 'BTSDHKFV1')
  assert len(found) == 1, found
  assert fault in found[0].replace('...F', 'F')


# Calls, comments, names of imports, and size ----------------------------------


def fmt_skips(text: str) -> list[str]:
  """Calls that no longer look as the formatter has them: `1: f(...)`."""
  if 'fmt: skip' not in text:
    return []
  skipped = {
    token.start[0]
    for token in tokenize.generate_tokens(io.StringIO(text).readline)
    if token.type == tokenize.COMMENT and 'fmt: skip' in token.string
  }
  return [
    f'{node.lineno}: {ast.unparse(node.func)}(...) under fmt: skip'
    for node in ast.walk(parse(text))
    if isinstance(node, ast.Call) and node.end_lineno in skipped
  ]


def lib_aliases(text: str) -> list[str]:
  """`1: update as update_lib`."""
  return [
    f'{node.lineno}: {alias.name} as {alias.asname}'
    for node in ast.walk(parse(text))
    if isinstance(node, (ast.Import, ast.ImportFrom))
    for alias in node.names
    if (alias.asname or '').endswith('_lib')
  ]


@pytest.mark.parametrize(
  ('rule', 'folders'), [(fmt_skips, FOLDERS[:3]), (lib_aliases, FOLDERS)]
)
def test_repository_follows(rule, folders):
  found = [
    f'{path.relative_to(ROOT)}:{fault}'
    for folder in folders
    for path in sorted((ROOT / folder).rglob('*.py'))
    for fault in rule(path.read_text(encoding='utf-8'))
  ]
  assert not found, '\n'.join(found)


def test_more_than_three_arguments_are_named():
  found = house.positional_calls(ROOT)
  assert not found, '\n'.join(found)


_LIBRARY_LINES = 20_931  # that stand; a change may lower it, and not raise it


@pytest.mark.xfail(reason='the library is larger than its bound; see LOG.md')
def test_library_is_small():
  """With every room in it."""
  assert house.rooms(ROOT)['llm_jax'][0] <= 20_000


def test_library_does_not_grow():
  assert house.rooms(ROOT)['llm_jax'][0] <= _LIBRARY_LINES


_CALLS = """from llm_jax import b as g
from others import h
def f(a, b, c, d): pass
class C: pass
f(1, 2, 3, 4)
g.f(1, 2, 3, 4)
C(1, 2, 3, 4)
self.f(1, 2, 3, 4)
f(1, 2, 3, d=4), f(*[1, 2, 3], 4, 5, 6), other(1, 2, 3, 4)
h.f(1, 2, 3, 4), self.x.f(1, 2, 3, 4), x.f(1, 2, 3, 4), g.other(1, 2, 3, 4)
"""


def test_planted_faults_of_calls(tmp_path):
  sound = 'TABLE = [\n  1,\n]  # fmt: skip\nfrom a import b as c\n'
  assert fmt_skips(sound) == lib_aliases(sound) == []
  assert fmt_skips('x = f(\n  1,\n)  # fmt: skip') == [
    '1: f(...) under fmt: skip'
  ]
  assert lib_aliases('from a import b as b_lib') == ['1: b as b_lib']
  (tmp_path / 'llm_jax').mkdir()
  (tmp_path / 'llm_jax' / 'a.py').write_text(_CALLS)
  (tmp_path / 'llm_jax' / 'b.py').write_text('def f(a, b, c, d): pass\n')
  calls = house.positional_calls(tmp_path)
  assert [call.partition(' unnamed')[0] for call in calls] == [
    f'llm_jax/a.py:{line} with 4'
    for line in ('5: f', '6: g.f', '7: C', '8: self.f')
  ]
