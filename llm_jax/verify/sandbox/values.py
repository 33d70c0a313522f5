"""Plain Python values as JSON and back, between a program and its judge.

A value is rebuilt from the JSON, so nothing that a program can redefine comes
along. All other types are refused, subclasses too, but for the dictionaries of
the standard library. Does NOT check that a value is right.
"""

import json
import math
from collections import Counter, OrderedDict, defaultdict
from typing import Any

_DEPTH = 32  # deeper values are refused: comparing them would recurse
# All are rebuilt as dict.
_DICTS = (dict, Counter, OrderedDict, defaultdict)
_COLLECTIONS = {'tuple': tuple, 'set': set, 'frozenset': frozenset}


def encode(value: Any, depth: int = _DEPTH) -> Any:
  """A value as what JSON can say.

  >>> encode({'a': (1, {2.5}), 'b': [None, True]})
  {'dict': [['a', {'tuple': [1, {'set': [2.5]}]}], ['b', [None, True]]]}

  Args:
    value: None, bool, int, float, complex, str, or a list, tuple, set,
      frozenset or dict of such; of exactly these types.
    depth: how deeply it may be nested.

  Raises:
    ValueError: if it is anything else, or nested too deeply.
  """
  kind = type(value)
  if depth == 0:
    raise ValueError(f'a value is nested more than {_DEPTH} deep')
  if value is None or kind in (bool, int, str):
    return value
  if kind is float:
    return value if math.isfinite(value) else {'float': str(value)}
  if kind is complex:
    return {'complex': [str(value.real), str(value.imag)]}
  if kind is list:
    return [encode(item, depth - 1) for item in value]
  if kind in _DICTS:
    pairs = map(list, value.items())
    return {'dict': [encode(pair, depth) for pair in pairs]}
  for name, collection in _COLLECTIONS.items():
    if kind is collection:
      return {name: [encode(item, depth - 1) for item in value]}
  raise ValueError(f'a value is of type {kind.__name__}, which is not plain')


def decode(encoded: Any, depth: int = _DEPTH) -> Any:
  """The value that `encode` was given.

  Raises:
    ValueError: if `encode` does not write such.
  """
  if depth == 0:
    raise ValueError(f'a value is nested more than {_DEPTH} deep')
  if isinstance(encoded, list):
    return [decode(item, depth - 1) for item in encoded]
  if not isinstance(encoded, dict):
    return encoded
  try:
    ((name, content),) = encoded.items()
    if name == 'float':
      return float(content)
    if name == 'complex':
      real, imaginary = content
      return complex(float(real), float(imaginary))
    if name == 'dict':
      return {
        decode(key, depth - 1): decode(value, depth - 1)
        for key, value in content
      }
    return _COLLECTIONS[name](decode(item, depth - 1) for item in content)
  # Not hashable, not iterable, no tag, an integer too large for a float.
  except (TypeError, KeyError, OverflowError) as error:
    raise ValueError(f'{error!r} in an encoded value') from error


def dumps(message: Any) -> bytes:
  """A message as one line of JSON."""
  return json.dumps(message, allow_nan=False).encode() + b'\n'


def loads(line: bytes) -> Any:
  """A message from one line of JSON that anyone may have written.

  Raises:
    ValueError: if it is not JSON, or nested too deeply to be read.
  """
  try:
    return json.loads(line, parse_constant=_refuse)
  except RecursionError as error:
    raise ValueError('JSON nested too deeply') from error


def _refuse(constant: str):
  raise ValueError(f'{constant} is not JSON')
