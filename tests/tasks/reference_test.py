"""Entries of real pages of pydoc, held against the objects themselves."""

import bisect
import collections
import inspect
import math

from llm_jax.tasks import reference
from llm_jax.web.extract import html_text
from tools import pydoc_site

CFG = html_text.Extraction('resiliparse', drop_repeated_lines=False)
MODULES = {m.__name__: m for m in (bisect, collections, math)}


def entries(name: str) -> dict[str, reference.Entry]:
  page = pydoc_site.Pages(MODULES).module_page(name)
  found = reference.entries(html_text.extract(CFG, page))
  return {entry.qualified_name: entry for entry in found}


def test_every_public_function_is_found():
  names = [n for n in vars(math) if inspect.isbuiltin(getattr(math, n))]
  found = entries('math')
  assert set(found) == {f'math.{name}' for name in names}
  for name in names:
    doc = inspect.getdoc(getattr(math, name))
    first_line = doc.split('\n')[0]
    if not first_line.startswith(name):
      assert found[f'math.{name}'].summary.startswith(first_line)
  assert found['math.sqrt'] == reference.Entry(
    'math.sqrt', 'sqrt(x, /)', 'Return the square root of x.'
  )


def test_classes_methods_and_aliases():
  found = entries('collections')
  assert found['collections.ChainMap'].signature == 'ChainMap(*maps)'
  update = found['collections.Counter.update']
  assert update.signature == 'update(self, iterable=None, /, **kwds)'
  assert update.summary.startswith('Like dict.update() but add counts')
  # Inherited members stand with their own class, private ones nowhere.
  assert 'collections.OrderedDict.get' not in found
  assert not [name for name in found if '._' in name]
  alias = entries('bisect')['bisect.bisect']
  assert alias.signature == 'bisect(a, x, lo=0, hi=None, *, key=None)'


def test_lines_of_a_docstring_are_no_entries():
  text = (
    'm\t\tindex\n\nFunctions\n\nbeta(x)\nWorks like this:\nzeta(x)\nalpha(1)\n'
    'delta(y) -> int\ndelta(y) -> number\nThe difference\nof two.\n\nMore.\n'
    'gone()\n\nData\n\nomega(x)\nNo function.'
  )
  assert reference.entries(text) == [
    reference.Entry('m.beta', 'beta(x)', 'Works like this: zeta(x) alpha(1)'),
    reference.Entry('m.delta', 'delta(y) -> int', 'The difference of two.'),
  ]


def test_other_text_has_no_entries():
  assert reference.entries('') == []
  assert reference.entries('A story.\n\nFunctions\n\nf(x)\nText.') == []
