"""The control tokens: their names, and their ids in each vocabulary.

Only names and numbers; that text can never make one is up to the tokenizers.
"""

import functools

from llm_jax import files

END_OF_TEXT = '<|endoftext|>'
IM_START = '<|im_start|>'
IM_SEP = '<|im_sep|>'
IM_END = '<|im_end|>'
FIM_PREFIX = '<|fim_prefix|>'
FIM_MIDDLE = '<|fim_middle|>'
FIM_SUFFIX = '<|fim_suffix|>'
SEARCH_START = '<SEARCH_START>'
SEARCH_END = '<SEARCH_END>'
PYTHON_START = '<PYTHON_START>'
PYTHON_END = '<PYTHON_END>'
CALL_START = '<CALL_START>'
CALL_END = '<CALL_END>'

# The order decides ids in saved vocabularies: only ever append.
NAMES = (
  END_OF_TEXT, IM_START, IM_SEP, IM_END, FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX,
  SEARCH_START, SEARCH_END, PYTHON_START, PYTHON_END, CALL_START, CALL_END,
)  # fmt: skip
# Those of prefix, suffix and middle: ours, which cl100k and Qwen have too, then
# StarCoder's and DeepSeek's.
FIM_NAMES = (
  (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE),
  ('<fim_prefix>', '<fim_suffix>', '<fim_middle>'),
  ('<｜fim▁begin｜>', '<｜fim▁hole｜>', '<｜fim▁end｜>'),
)
N_SLOTS = 64  # names and reserved ones, so that new names move no id
# `sha256` of published ranks files and `ids` of their control tokens, each by
# the file's name.
published = functools.partial(files.tables_of, __file__)


def own_special_ids(first_id: int) -> dict[str, int]:
  """The control tokens of a vocabulary of our own: NAMES, then reserved ones.

  Args:
    first_id: of the first, one above the last ordinary token.

  Returns:
    N_SLOTS ids without gaps, by name.
  """
  reserved = [f'<|reserved_{i}|>' for i in range(N_SLOTS - len(NAMES))]
  return {name: first_id + i for i, name in enumerate([*NAMES, *reserved])}
