"""Documents cut for their middles: nothing lost uncounted, by halves PSM."""

import numpy as np
import pytest

from llm_jax.tokenizer import (
  encoding,
  huggingface,
  infilling,
  published,
  published_json,
  specials,
)

BYTES = encoding.Tokenizer.from_merges([], 'qwen2')
WORDS = encoding.Tokenizer.train(['some words of a text or two ' * 9], 338)
END = BYTES.special_id(specials.END_OF_TEXT)
PREFIX, SUFFIX, MIDDLE = map(
  BYTES.special_id, ('<|fim_prefix|>', '<|fim_suffix|>', '<|fim_middle|>')
)
DOCUMENTS = ['one two, three.', '你好 é', 'x', 'a text of some words ' * 4]


def stream(tokenizer, texts):
  end = tokenizer.separator_id
  return [end] + [i for t in texts for i in [*tokenizer.encode(t), end]]


def infill(tokens, size, tokenizer=BYTES, rate=1.0, seed=0):
  """One row, laid out anew: its tokens and how many it lost."""
  end = tokenizer.separator_id
  row = np.full((1, size), end, np.int32)
  row[0, : len(tokens)] = tokens[:size]
  length = np.array([min(len(tokens), size) - 1])
  lost = infilling.Infilling(tokenizer, rate, seed).rows(
    row, lengths=length, key=5, start=3
  )
  assert (row[0, length[0] + 1 :] == end).all()
  return row[0, : length[0] + 1].tolist(), lost[0]


def original(piece, tokenizer=BYTES):
  """The text of a piece put together again, its form, and its middle's text.

  Of SPM the prefix is not told from the middle, so there is none.
  """
  if PREFIX not in piece:
    return tokenizer.decode(piece), 'as it was', None
  before, after, middle = (piece.index(i) for i in (PREFIX, SUFFIX, MIDDLE))
  assert (before, piece.count(PREFIX)) == (0, 1)
  suffix = piece[after + 1 : middle]
  if after == 1:
    return tokenizer.decode([*piece[middle + 1 :], *suffix]), 'spm or psm', None
  parts = [piece[1:after], piece[middle + 1 :], suffix]
  text = ''.join(map(tokenizer.decode, parts))
  return text, 'psm', tokenizer.decode(parts[1])


def pieces(row):
  ends = [-1, *(i for i, token in enumerate(row) if token == END), len(row)]
  return [row[a + 1 : b] for a, b in zip(ends[:-1], ends[1:], strict=True)]


def test_a_document_is_whole_in_every_cut():
  for seed in range(50):
    row, lost = infill(stream(BYTES, DOCUMENTS), 200, seed=seed)
    assert (row[0], row[-1], lost) == (END, END, 0)
    found = [original(piece) for piece in pieces(row)[1:-1]]
    assert [text for text, *_ in found] == DOCUMENTS
    assert not [form for _, form, _ in found if form == 'as it was']


def test_what_a_row_loses_is_counted_and_stands_at_its_end():
  """Tokens are bytes here, so that they can be counted again."""
  tokens = stream(BYTES, [text for text in DOCUMENTS if text.isascii()])
  for size in range(2, len(tokens) + 20):
    given = tokens[:size]
    row, lost = infill(given, size, seed=size)
    assert len(row) <= size
    found = [BYTES.encode(original(piece)[0]) for piece in pieces(row)]
    kept = [i for piece in found for i in [*piece, END]][:-1]
    n = next(
      (i for i, (a, b) in enumerate(zip(kept, given, strict=False)) if a != b),
      min(len(kept), len(given)),
    )
    # Behind what is kept stands at most the end of a piece that was cut.
    assert kept[n:] in ([], [END])
    is_its_own = kept[n:] == [END] and END in given[n:]
    assert lost == len(given) - n - is_its_own


def test_a_row_goes_on_in_a_document_that_began_before():
  """Cut to fit, the middle still ends: with the token that says so."""
  text = 'a text of some words ' * 9
  for seed in range(20):
    row, lost = infill(BYTES.encode(text)[:60], 60, seed=seed)
    assert row.index(PREFIX) == 0
    assert row[-1] == END
    assert original(row[:-1])[0] == text[: 60 - lost]
    assert lost == 4


def test_rate_forms_and_places():
  """Half are cut, half of these each way; places uniform over characters."""
  text = '你好' * 50
  rows = [infill(stream(BYTES, [text]), 400, rate=0.5, seed=s)[0]
          for s in range(400)]  # fmt: skip
  found = [original(pieces(row)[1]) for row in rows]
  forms = [form for _, form, _ in found]
  assert abs(forms.count('as it was') / 400 - 0.5) < 0.08  # 3 sigma
  assert abs(forms.count('psm') / 400 - 0.25) < 0.07
  # The middle between two uniform places is a third of the text.
  middles = [len(middle) for *_, middle in found if middle is not None]
  assert abs(np.mean(middles) / 100 - 1 / 3) < 0.075
  assert len({*middles}) > 30


def test_parts_are_encoded_apart_and_fit():
  """A cut parts tokens of many characters, and the row has room for that."""
  tokens = stream(WORDS, DOCUMENTS * 2)
  ids = [WORDS.special_id(n) for n in specials.FIM_NAMES[0]]
  losses = set()
  for seed in range(30):
    row, lost = infill(tokens[: 2 + seed * 2], 2 + seed * 2, WORDS, seed=seed)
    losses.add(lost)
    assert len(row) <= 2 + seed * 2
    last = row[-row[::-1].index(WORDS.separator_id, 1) :]
    assert ids[0] not in last or last[-1] == WORDS.separator_id
    for piece in pieces([END if i == WORDS.separator_id else i for i in row]):
      if ids[0] in piece and (middle := piece.index(ids[2])) < len(piece) - 1:
        suffix = piece[piece.index(ids[1]) + 1 : middle]
        assert WORDS.encode(WORDS.decode(suffix)) == suffix
  assert len(losses) > 3


def test_same_seed_and_visit_same_row():
  tokens = stream(BYTES, DOCUMENTS)
  assert infill(tokens, 200) == infill(tokens, 200)
  assert infill(tokens, 200) != infill(tokens, 200, seed=1)


def test_pieces_that_begin_within_a_character_stay():
  tokens = [*BYTES.encode('你好')[1:], END]
  assert infill(tokens, 40) == (tokens, 0)


def test_published_control_tokens():
  """Qwen's are added tokens, which text makes: such text is not cut."""
  names = ('<|fim_prefix|>', '<|fim_middle|>', '<|fim_suffix|>')
  ranks = {bytes([i]): i for i in range(256)}
  ends = {'<|endoftext|>': 256}
  added = {name: 257 + i for i, name in enumerate(names)}
  values = huggingface.tokenizer_json(ranks, 'qwen2', ends)
  values = huggingface.with_added_tokens(values, added, False)
  qwen = published_json.JsonTokenizer(
    values, 260, published=published.Published(eos_ids=(256,))
  )
  assert infilling.controls(qwen) == (257, 259, 258)
  tokens = [*qwen.encode('a<|fim_middle|>b'), 256]
  assert 258 in tokens
  assert infill(tokens, 40, qwen) == (tokens, 0)
  deepseek = dict(zip(specials.FIM_NAMES[2], (301, 302, 303), strict=True))
  deepseek = encoding.Tokenizer(ranks, 'qwen2', ends | deepseek, 304)
  assert infilling.prompt(deepseek, ['a', 'b']) == [301, 97, 302, 98, 303]
  assert infilling.prompt(deepseek, ['a', 'b'], True) == [301, 302, 98, 303, 97]


def test_none_is_refused():
  ranks = {bytes([i]): i for i in range(256)}
  plain = encoding.Tokenizer(ranks, 'qwen2', {'<|endoftext|>': 256}, 257)
  with pytest.raises(ValueError, match='no control tokens .* Config.fim_rate'):
    infilling.Infilling(plain, 0.5, seed=0)
  with pytest.raises(ValueError, match=r'fim_rate = 1.5 .* use 0 to 1'):
    infilling.Infilling(BYTES, 1.5, seed=0)
