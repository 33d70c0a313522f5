"""The control tokens: their names, and their ids in each vocabulary.

Only names and numbers; that text can never make one is up to the tokenizers.
"""

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

# The order decides ids in saved vocabularies: only ever append.
NAMES = (
  END_OF_TEXT, IM_START, IM_SEP, IM_END, FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX,
  SEARCH_START, SEARCH_END, PYTHON_START, PYTHON_END,
)  # fmt: skip
N_SLOTS = 64  # names and reserved ones, so that new names move no id


def own_special_ids(first_id: int) -> dict[str, int]:
  """The control tokens of a vocabulary of our own: NAMES, then reserved ones.

  Args:
    first_id: of the first, one above the last ordinary token.

  Returns:
    N_SLOTS ids without gaps, by name.
  """
  reserved = [f'<|reserved_{i}|>' for i in range(N_SLOTS - len(NAMES))]
  return {name: first_id + i for i, name in enumerate([*NAMES, *reserved])}


# Of published ranks files, by name: the sha256, and the control tokens.
# Hashes and ids as in openai/tiktoken, tiktoken_ext/openai_public.py. The im_
# tokens are not in it: they are the chat layout of the same models. The tools'
# tokens fill four of the thirteen ids that cl100k leaves unused.
SHA256 = {
  'cl100k': '223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7',
  'o200k': '446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d',
  'gpt2': '306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930',
}
PUBLISHED_IDS = {
  'cl100k': {
    END_OF_TEXT: 100257, FIM_PREFIX: 100258, FIM_MIDDLE: 100259,
    FIM_SUFFIX: 100260, IM_START: 100264, IM_END: 100265, IM_SEP: 100266,
    SEARCH_START: 100267, SEARCH_END: 100268, PYTHON_START: 100269,
    PYTHON_END: 100270, '<|endofprompt|>': 100276,
  },
  'o200k': {
    END_OF_TEXT: 199999, '<|endofprompt|>': 200018, FIM_PREFIX: 200019,
    FIM_MIDDLE: 200020, FIM_SUFFIX: 200021, SEARCH_START: 200022,
    SEARCH_END: 200023, PYTHON_START: 200024, PYTHON_END: 200025,
    IM_START: 200264, IM_END: 200265, IM_SEP: 200266,
  },
  'gpt2': {END_OF_TEXT: 50256},
}  # fmt: skip
