"""From raw web pages to a model that reasons, in JAX.

`llm_jax.load` opens a model; see api.py. Importing this package imports nothing
else, JAX included.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from llm_jax.api import Model as Model
  from llm_jax.api import load as load

__all__ = ('Model', 'load')


def __getattr__(name: str) -> Any:
  """Imports the interface from Python when it is first used."""
  if name in __all__:
    return getattr(importlib.import_module('llm_jax.api'), name)
  if name == '__version__':
    return importlib.metadata.version('llm_jax')
  raise AttributeError(f'module llm_jax has no attribute {name!r}')


def __dir__() -> list[str]:
  """The interface, though it is not imported yet."""
  return [*globals(), *__all__]
