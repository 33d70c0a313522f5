"""Keys of config.json that change no logits, whatever wrote them.

They stand in config_keys.toml. All others are known to a class (families.py)
or refused by name.
"""

import re
from typing import Any

from llm_jax import files

_EMPTY = {
  'pruned_heads': {},
  'num_nextn_predict_layers': 0,
  'no_rope_layers': [],
}
# Of fine-tuning tools and of converters, whatever they say.
_TOOLS = re.compile(r'unsloth|axolotl|llamafactory|peft|transformers\.js|mlx')


def _words(kind: str) -> list[str]:
  return files.tables_of(__file__)[kind].split()


def is_ignored(key: str) -> bool:
  """Whether a key is so usual that it need not be named."""
  return key in _words('ignored')


def is_neutral(key: str, value: Any) -> bool:
  """Whether a key that no class knows changes nothing at its value."""
  if key in _words('any') or _TOOLS.match(key.lstrip('_')):
    return True
  neutral: dict[str, Any] = dict.fromkeys(_words('off'), False)
  neutral |= dict.fromkeys(_words('one'), 1.0) | _EMPTY
  # In Python False == 0 and True == 1.0; a switch is no number.
  same_kind = isinstance(neutral.get(key), bool) == isinstance(value, bool)
  return key in neutral and same_kind and neutral[key] == value
