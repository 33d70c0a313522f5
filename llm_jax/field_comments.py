"""What is written about the fields of a dataclass, read from its source.

It is the one description of a setting: `--explain` prints it, and the reference
of the documentation is made from it. Nothing is evaluated.
"""

import ast
import dataclasses
import functools
import inspect
import io
import re
import textwrap
import tokenize

_MARKS = ('fmt:', 'noqa', 'type:', 'pyright:')  # for tools, not for readers


@functools.cache
def of(cls: type) -> dict[str, str]:
  """What is written about each field of a dataclass.

  A comment stands behind the field, or on lines of its own directly above it,
  or in the docstring under `Attributes:`. A field that a class takes over from
  its base, or defines anew without a word, keeps the words of the base.

  Args:
    cls: a dataclass.

  Returns:
    {field: comment}, without the fields of which nothing is said. Of a class
    typed into an interpreter only the docstring is known.
  """
  found = {}
  for base in reversed(cls.__mro__):
    if not inspect.get_annotations(base):
      continue
    found |= in_docstring(inspect.cleandoc(base.__doc__ or ''))
    try:
      text = textwrap.dedent(inspect.getsource(base))
    except (OSError, TypeError):  # the source is nowhere
      continue
    # Of a class that is in no file Python 3.13 gives other lines.
    if re.search(rf'^class {base.__name__}\b', text, re.MULTILINE):
      found |= in_source(text)
  names = [field.name for field in dataclasses.fields(cls)]
  return {name: found[name] for name in names if name in found}


def in_docstring(text: str) -> dict[str, str]:
  """{field: comment} of the section `Attributes:`, its lines joined.

  >>> in_docstring('''Copies.
  ...
  ... Attributes:
  ...   n_gram: words in one
  ...     shingle.
  ...   seed: of the hashes.
  ... ''')
  {'n_gram': 'words in one shingle.', 'seed': 'of the hashes.'}
  """
  section = re.search(r'^Attributes:\n((?:[ ]+.*\n?|\n)+)', text, re.MULTILINE)
  entries = re.findall(
    r'^  (\w+): (.+(?:\n {3,}.+)*)', section[1] if section else '', re.MULTILINE
  )
  return {name: ' '.join(words.split()) for name, words in entries}


def in_source(text: str) -> dict[str, str]:
  """{field: comment} of the class that a text defines.

  >>> in_source('''
  ... class Optimizer:
  ...   peak_lr: float = 0.1  # of everything else
  ...   # Of the moments,
  ...   # as in Adam.
  ...   b1: float = 0.9
  ... ''')
  {'peak_lr': 'of everything else', 'b1': 'Of the moments, as in Adam.'}
  """
  comments, alone = {}, set()
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    if token.type == tokenize.COMMENT:
      words = token.string.lstrip('#').strip()
      if not words.startswith(_MARKS):
        comments[token.start[0]] = words
      if token.line.lstrip().startswith('#'):
        alone.add(token.start[0])
  found = {}
  (definition,) = ast.parse(text).body
  assert isinstance(definition, ast.ClassDef)
  for node in definition.body:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
      first = node.lineno
      while first - 1 in alone:
        first -= 1
      lines = [*range(first, node.lineno), node.lineno, node.end_lineno]
      words = [comments[n] for n in dict.fromkeys(lines) if n in comments]
      if words:
        found[node.target.id] = ' '.join(words)
  return found
