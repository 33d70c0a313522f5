"""A tokenizer.json of SentencePiece's kind, as the pieces of a model.

Llama 2 and Gemma are published so: BPE over characters, bytes for what no piece
spells, and blanks as U+2581. The model that comes of it gives the same ids,
where merges are as SentencePiece makes them: any two neighbours whose text is
a piece, the best piece first.
"""

from collections.abc import Collection, Mapping
from typing import Any

from llm_jax import files
from llm_jax.tokenizer import huggingface, sentencepiece, text_tokenizer


def write(values: Mapping[str, Any], path: files.Name) -> None:
  """Write the model.

  Args:
    values: the contents of tokenizer.json.
    path: of the .model file.

  Raises:
    ValueError: if SentencePiece would not give the same ids, with the reason.
  """
  model = values['model']
  if model.get('type') != 'BPE':
    raise ValueError(
      f'tokenizer.json has the algorithm {model.get("type")!r} with bytes; '
      'only BPE can be converted: give tokenizer.model beside it'
    )
  begins_with_blank = _begins_with_blank(values)
  added = huggingface.added_tokens(values)
  names = model['vocab'] | {token.name: token.token_id for token in added}
  kinds = {token.name: _kind_of(token) for token in added}
  kinds[model.get('unk_token')] = sentencepiece.UNKNOWN
  scores = _scores(model, {token.name for token in added})
  by_id = {token_id: name for name, token_id in names.items()}
  pieces = []
  for token_id in range(max(by_id) + 1):
    name = by_id.get(token_id)
    if name is None:
      pieces.append((f'<gap_{token_id}>', 0.0, sentencepiece.UNUSED))
      continue
    kind = kinds.get(name) or _kind(name)
    if kind == sentencepiece.NORMAL and len(name) > 1 and name not in scores:
      raise ValueError(
        f'the token {name!r}, which no merge makes, needs a tokenizer.model'
      )
    pieces.append((name, scores.get(name, 0.0), kind))
  sentencepiece.write(path, pieces, begins_with_blank)


def _begins_with_blank(values: Mapping[str, Any]) -> bool:
  """Whether a blank is put before a text."""
  normalizer = values.get('normalizer') or {}
  cut = values.get('pre_tokenizer') or {}
  begins, odd = False, []
  for step in (*normalizer.get('normalizers', [normalizer]), cut):
    match step:
      case {'type': 'Prepend', 'prepend': '\u2581'}:
        begins = True
      case {'type': 'Metaspace', 'replacement': '\u2581'}:
        begins |= step.get('prepend_scheme', 'always') != 'never'
      # With blanks replaced before, a split at blanks finds none.
      case {'type': 'Replace', 'content': '\u2581'} | {
        'type': 'Split',
        'pattern': {'String': ' '},
      }:
        pass
      case {'type': kind}:
        odd.append(kind)
  if odd:
    raise ValueError(
      f'tokenizer.json with the steps {odd} beside bytes needs tokenizer.model'
    )
  return begins


def _kind_of(token: text_tokenizer.AddedToken) -> int:
  if token.strips_left or token.strips_right:
    raise ValueError(
      f'tokenizer.json lets {token.name!r} take white space along, which '
      'SentencePiece cannot; set its lstrip and rstrip to false there'
    )
  special = sentencepiece.CONTROL
  return special if token.is_special else sentencepiece.USER_DEFINED


def _kind(name: str) -> int:
  is_byte = len(name) == 6 and name.startswith('<0x') and name.endswith('>')
  return sentencepiece.BYTE if is_byte else sentencepiece.NORMAL


def _scores(
  model: Mapping[str, Any], added: Collection[str]
) -> dict[str, float]:
  """Of each merged piece; the sooner it is merged the higher.

  Those that are added are found before anything is merged.
  """
  scores: dict[str, float] = {}
  last = ''
  for rank, merge in enumerate(model['merges']):
    left, right = merge.split(' ') if isinstance(merge, str) else merge
    name = left + right
    if name in scores and name != last and name not in added:
      raise ValueError(
        f'merges to {name!r} do not stand together; give tokenizer.model too'
      )
    scores.setdefault(name, -float(rank + 1))
    last = name
  return scores
