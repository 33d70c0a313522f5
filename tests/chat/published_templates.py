"""Short chat templates in the shapes of published ones, with a vocabulary.

In the folder templates: chatml, with a system message by default, as SmolLM2
and Qwen2; headers, with text that is trimmed and a token of its own that ends
the turn; thinking, where thoughts are dropped from earlier turns and the last
turn always has one; opened, whose prompt opens the thought, and no thought is
ever shown; words instead of tokens, which merge with what is said; no_system
message, and the assistant is called model; generation marks what is learnt.
"""

import functools
import json
import pathlib
from collections.abc import Sequence

from llm_jax.chat import imported
from llm_jax.tokenizer import (
  bpe,
  huggingface,
  patterns,
  published,
  published_json,
  text_tokenizer,
)

FOLDER = pathlib.Path(__file__).parent / 'templates'
ALL = {path.stem: path.read_text() for path in sorted(FOLDER.iterdir())}
CHATML = ALL['chatml']
EOS = ('<|im_end|>', '<|end_of_text|>', '<|eot_id|>', '<end_of_turn>')
SPECIAL = (
  '<|begin_of_text|>', *EOS, '<|im_start|>', '<|start_header_id|>',
  '<|end_header_id|>', '<start_of_turn>', '<|spare|>',
)  # fmt: skip
# Text by their entry in tokenizer.json, though templates write some of them.
TEXTS = (
  '<think>', '</think>', '<tool_response>', '<|User|>', '<|Assistant|>', '   ',
)  # fmt: skip
TOKEN_NAMES = {'bos_token': '<|begin_of_text|>', 'eos_token': '<|end_of_text|>'}
_TEXT = (
  'What is the sum of these? User: Assistant: The answer is this one.\n\n'
  'You help. A user asks and the assistant says that it does not know.\n'
) * 3


@functools.cache
def _ranks() -> dict[bytes, int]:
  split = patterns.by_name('qwen2').split
  counts = bpe.count_pretokens([_TEXT], split)
  return bpe.token_ranks(bpe.learn_merges(counts, 60))


def tokenizer(
  template: str, eos: Sequence[str] = EOS
) -> published_json.JsonTokenizer:
  """A vocabulary of a published model with a template.

  Args:
    template: the template.
    eos: tokens that end texts, as far as the template does not leave them out.
  """
  first = len(_ranks())
  names = [*SPECIAL, *TEXTS]
  ids = {name: first + i for i, name in enumerate(names)}
  values = huggingface.tokenizer_json(_ranks(), 'qwen2', {})
  for some, is_special in ((SPECIAL, True), (TEXTS, False)):
    values = huggingface.with_added_tokens(
      values, {name: ids[name] for name in some}, is_special
    )
  return published_json.JsonTokenizer(
    values,
    vocab_size=first + len(names),
    published=published.Published(
      prefix_ids=(ids['<|begin_of_text|>'],),
      eos_ids=tuple(
        ids[name] for name in eos if name in template or len(eos) == 1
      )
      or (ids['<|end_of_text|>'],),
      chat_templates={'default': template},
      token_names=TOKEN_NAMES,
    ),
  )


def chat_format(template: str) -> imported.Imported:
  """The format of that model."""
  return imported.Imported(tokenizer(template), template)


def written(tokenizer: text_tokenizer.TextTokenizer, text: str) -> list[int]:
  """Ids of a text that a template wrote itself, so that it makes tokens."""
  tokenizer.published = published.Published(token_names={'bos_token': text})
  template = imported.Imported(tokenizer, '{{ bos_token }}')
  return template.prompt([{'role': 'user', 'content': ''}])


def oracle(template: str):
  """transformers' tokenizer of the same model."""
  import tokenizers  # not with the others: it is not installed everywhere
  import transformers

  values = huggingface.tokenizer_json(_ranks(), 'qwen2', {})
  fast = tokenizers.Tokenizer.from_str(json.dumps(values))
  for names, is_special in ((SPECIAL, True), (TEXTS, False)):
    fast.add_tokens(
      [
        tokenizers.AddedToken(name, special=is_special, normalized=False)
        for name in names
      ]
    )
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=fast, chat_template=template, **TOKEN_NAMES
  )
