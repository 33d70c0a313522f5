"""The tokenizer.json of Hugging Face's `tokenizers` for a byte-level BPE.

What is written gives the same ids for text as ours when loaded with
`encode_special_tokens = True`. Without that, `tokenizers` turns text that
looks like a control token into one; the file format cannot forbid it.
"""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from llm_jax import files
from llm_jax.tokenizer import patterns, text_tokenizer

Pair = tuple[bytes, bytes]


def tokenizer_json(
  ranks: Mapping[bytes, int],
  form: patterns.Pattern,
  special_ids: Mapping[str, int],
) -> dict[str, Any]:
  """The contents of tokenizer.json.

  Args:
    ranks: ids of ordinary tokens by their bytes.
    form: how text is cut; without possessive quantifiers.
    special_ids: ids of the control tokens by name, in rising order.

  Returns:
    What json.dump writes. Where a token cannot be reached by merging, as in
    Llama 3, whole pre-tokens are looked up first, as tiktoken does.
  """
  printable = byte_characters()
  merges = find_merges(ranks)
  looks_up = merges is None
  merges = all_merges(ranks) if looks_up else merges

  def spell(token: bytes) -> str:
    return ''.join([printable[value] for value in token])

  values = empty_json(form)
  values['model'] |= {
    'ignore_merges': looks_up,
    'vocab': {spell(token): rank for token, rank in ranks.items()},
    'merges': [f'{spell(left)} {spell(right)}' for left, right in merges],
  }
  return with_added_tokens(values, special_ids)


def empty_json(form: patterns.Pattern) -> dict[str, Any]:
  """The tokenizer.json of a byte-level BPE without any token."""
  path = pathlib.Path(__file__).with_name('empty_tokenizer.json')
  return files.read_json(path) | {'pre_tokenizer': _pre_tokenizer(form)}


def begins_with(values: Mapping[str, Any], name: str) -> dict[str, Any]:
  """A tokenizer.json that puts a control token before every text.

  Args:
    values: its contents so far.
    name: of the control token.
  """
  first = {'SpecialToken': {'id': name, 'type_id': 0}}
  texts = [{'Sequence': {'id': x, 'type_id': i}} for i, x in enumerate('AB')]
  token_id = values['model']['vocab'][name]
  token = {'id': name, 'ids': [token_id], 'tokens': [name]}
  return {
    **values,
    'post_processor': {
      'type': 'TemplateProcessing',
      'single': [first, texts[0]],
      'pair': [first, *texts],
      'special_tokens': {name: token},
    },
  }


def with_added_tokens(
  values: Mapping[str, Any], ids: Mapping[str, int], is_special: bool = True
) -> dict[str, Any]:
  """A tokenizer.json with more added tokens, each under its id.

  They stand in the model's vocabulary too: `tokenizers` numbers the added ones
  anew where the ids before them have gaps.
  """
  old = values.get('added_tokens') or []
  flags = 'single_word lstrip rstrip normalized'
  off = dict.fromkeys(flags.split(), False)
  known = {token['content'] for token in old}
  new = [
    {'id': token_id, 'content': name, **off, 'special': is_special}
    for name, token_id in ids.items()
    if name not in known
  ]
  vocab = values['model']['vocab'] | {x['content']: x['id'] for x in new}
  in_order = dict(sorted(vocab.items(), key=lambda item: item[1]))
  return {
    **values,
    'added_tokens': sorted([*old, *new], key=lambda token: token['id']),
    'model': {**values['model'], 'vocab': in_order},
  }


class Parts(NamedTuple):
  """What a tokenizer.json is made of; see `encoding.Tokenizer`.

  Attributes:
    ranks: ids of ordinary tokens by their bytes.
    pattern: name of the split pattern.
    special_ids: ids of the control tokens by name.
    rules: what is done to text before it is cut.
  """

  ranks: dict[bytes, int]
  pattern: str
  special_ids: dict[str, int]
  rules: text_tokenizer.TextRules


def read_parts(
  values: Mapping[str, Any], control_names: Collection[str] = ()
) -> Parts:
  """Take apart a tokenizer.json that we can represent exactly.

  Args:
    values: its contents.
    control_names: added tokens that are control tokens whatever it says.

  Returns:
    The parts of a tokenizer of ours that gives the same ids.

  Raises:
    ValueError: for another algorithm, split pattern or normalizer, or merges
      that do not follow from the ids, by name.
  """
  model = values['model']
  form = _normal_form(values.get('normalizer') or {})
  keys = 'byte_fallback continuing_subword_prefix end_of_word_suffix dropout'
  odd = [f'{key} {model[key]!r}' for key in keys.split() if model.get(key)]
  if model.get('type') != 'BPE':
    odd.append(f'the algorithm {model.get("type")!r}')
  if form is None:
    odd.append(f'the normalizer {values["normalizer"].get("type")!r}')
  pattern = _pattern_name(values.get('pre_tokenizer') or {})
  if pattern is None:
    odd.append('a split pattern that is not ours')
  if odd or pattern is None or form is None:
    raise ValueError(
      f'tokenizer.json has {", ".join(odd)}, not byte-level BPE cut as in '
      f'{", ".join(patterns.PATTERNS)}; give a tokenizer of ours with its ids'
    )
  added = added_tokens(values, control_names)
  names = {token.name for token in added}
  value_of = {c: value for value, c in enumerate(byte_characters())}

  def spelled(text: str) -> bytes:
    if unknown := set(text) - value_of.keys():
      raise ValueError(
        f'tokenizer.json has the token {text!r}, whose {unknown.pop()!r} is no '
        'byte; mark it as an added token there'
      )
    return bytes([value_of[character] for character in text])

  ranks = {
    spelled(text): token_id
    for text, token_id in model['vocab'].items()
    if text not in names
  }
  merges = [m.split(' ') if isinstance(m, str) else m for m in model['merges']]
  pairs = [(spelled(left), spelled(right)) for left, right in merges]
  if not _follow_from_ids(pairs, ranks, model.get('ignore_merges', False)):
    raise ValueError(
      'tokenizer.json has merges that do not follow from the ids of its '
      'tokens; give a tokenizer of ours with its ids'
    )
  return Parts(
    ranks,
    pattern,
    special_ids={a.name: a.token_id for a in added if a.is_special},
    rules=text_tokenizer.TextRules(
      form, tuple(a for a in added if not is_plain(a))
    ),
  )


def added_tokens(
  values: Mapping[str, Any], control_names: Collection[str] = ()
) -> list[text_tokenizer.AddedToken]:
  """The added tokens of a tokenizer.json, in its order.

  Raises:
    ValueError: if one counts only where it is a word of its own.
  """
  added = values.get('added_tokens') or []
  words = [token['content'] for token in added if token.get('single_word')]
  if words:
    raise ValueError(
      f'tokenizer.json takes {words[0]!r} only as a word of its own, which '
      'ours cannot; set "single_word": false there'
    )
  return [
    text_tokenizer.AddedToken(
      token['content'],
      token['id'],
      is_special=(
        token.get('special', True) or token['content'] in control_names
      ),
      strips_left=token.get('lstrip', False),
      strips_right=token.get('rstrip', False),
      is_normalized=token.get('normalized', False),
    )
    for token in added
  ]


def is_plain(token: text_tokenizer.AddedToken) -> bool:
  """Whether it is a control token that does no more than stand in its place."""
  return token == text_tokenizer.AddedToken(token.name, token.token_id)


def _normal_form(step: Mapping[str, Any]) -> Any:
  """Unicode's form that text is brought into; None for other changes."""
  if not step:
    return ''
  if step.get('type') == 'Sequence':
    forms = {_normal_form(s) for s in step.get('normalizers', ())} - {''}
    return ''.join(forms) if len(forms) < 2 and None not in forms else None
  forms = ('NFC', 'NFD', 'NFKC', 'NFKD')
  return step['type'] if step.get('type') in forms else None


def _follow_from_ids(pairs, ranks, looks_up) -> bool:
  """Whether a list of merges gives the same ids as merging by lowest id.

  Theirs merges the pair that stands first in the list, ours the pair whose
  token has the lowest id, after it looked up the whole pre-token.
  """
  made = [ranks.get(left + right, -1) for left, right in pairs]
  if -1 in made or made != sorted(made):
    return False
  if looks_up and set(pairs) == set(all_merges(ranks)):
    return True
  needed = find_merges(ranks)
  return needed is not None and set(needed) <= set(pairs)


def _pattern_name(pre_tokenizer: Mapping[str, Any]) -> str | None:
  """Our name for the way that text is cut, if it is one of ours."""
  *steps, last = pre_tokenizer.get('pretokenizers', [pre_tokenizer])
  if last.get('type') != 'ByteLevel' or last.get('add_prefix_space'):
    return None
  cuts = [_cut(step) for step in steps]
  if last.get('use_regex', True):
    cuts.append(patterns.BYTE_LEVEL)
  for name, form in patterns.PATTERNS.items():
    if tuple(cuts) in (form.steps, (form.split,)):
      return name
  return None


def _cut(step: Mapping[str, Any]) -> str:
  """A step as in `Pattern.steps`; empty for one of another kind."""
  if step.get('type') == 'Digits' and step.get('individual_digits'):
    return patterns.DIGITS
  if step.get('behavior') != 'Isolated' or step.get('invert'):
    return ''
  # Some files have a line break itself where others have it escaped.
  regex = step.get('pattern', {}).get('Regex', '')
  return regex.replace('\r', r'\r').replace('\n', r'\n')


def _pre_tokenizer(form: patterns.Pattern) -> dict[str, Any]:
  """Undoes `_pattern_name`."""
  flags = ('add_prefix_space', 'trim_offsets')
  cuts = form.steps or (form.split,)
  byte_level = {'type': 'ByteLevel', **dict.fromkeys(flags, False)}
  byte_level['use_regex'] = patterns.BYTE_LEVEL in cuts
  steps = [
    {'type': 'Digits', 'individual_digits': True}
    if cut == patterns.DIGITS
    else {
      'type': 'Split',
      'pattern': {'Regex': cut},
      'behavior': 'Isolated',
      'invert': False,
    }
    for cut in cuts
    if cut != patterns.BYTE_LEVEL
  ]
  return {'type': 'Sequence', 'pretokenizers': [*steps, byte_level]}


def find_merges(ranks: Mapping[bytes, int]) -> list[Pair] | None:
  """The pair that each token of several bytes was merged from, in order.

  >>> ranks = {b'a': 0, b'b': 1, b'ab': 2, b'aab': 3}
  >>> find_merges(ranks)
  [(b'a', b'b'), (b'a', b'ab')]

  Args:
    ranks: ids of ordinary tokens by their bytes.

  Returns:
    For each token, by rising id, the two that its bytes are when only tokens
    of lower ids exist; None if those are not two of some token, which only a
    look-up of the whole pre-token finds.
  """
  merges = []
  for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
    if len(token) == 1:
      continue
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
      candidates = [
        ranks.get(parts[i] + parts[i + 1], rank) for i in range(len(parts) - 1)
      ]
      best = min(candidates)
      if best >= rank:
        return None
      i = candidates.index(best)
      parts[i : i + 2] = [parts[i] + parts[i + 1]]
    merges.append((parts[0], parts[1]))
  return merges


def all_merges(ranks: Mapping[bytes, int]) -> list[Pair]:
  """Every pair of tokens that makes a token, by its rising id.

  >>> all_merges({b'a': 0, b'b': 1, b'ab': 2, b'aa': 3, b'aab': 4})
  [(b'a', b'b'), (b'a', b'a'), (b'a', b'ab'), (b'aa', b'b')]
  """
  return [
    (token[:i], token[i:])
    for token in sorted(ranks, key=ranks.__getitem__)
    for i in range(1, len(token))
    if token[:i] in ranks and token[i:] in ranks
  ]


def byte_characters() -> list[str]:
  """The printable character that stands for each byte.

  Source: `bytes_to_unicode` in openai/gpt-2, src/encoder.py.
  """
  printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
  others = iter(range(0x100, 0x200))
  return [chr(b if b in printable else next(others)) for b in range(256)]
