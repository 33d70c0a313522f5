"""The characters of a page of any charset.

It does NOT tell a language, and repairs no text that was decoded wrongly
before it was stored.

Source: the labels of encoding.spec.whatwg.org; the guess is uchardet's.
"""

import codecs
import re

from resiliparse.parse import encoding  # pyright: ignore[reportMissingModuleSource]

_MIN_GOOD_PER_BAD = 10
# What pages mean by these names is a larger set.
_WIDER = {
  'big5': 'big5hkscs',
  'euc-kr': 'cp949',
  'gb2312': 'gb18030',
  'gbk': 'gb18030',
  'shift_jis': 'cp932',
}
_OTHER_CODEC = re.compile(r'(cp|mac|iso2022|hz|johab|koi|ptcp)[\w-]*')
_PRIVATE = re.compile('[\ue000-\uf8ff]')  # no page writes these
_META_CHARSET = re.compile(
  rb'<meta[^<>]{0,200}?charset\s{0,9}=\s{0,9}["\']?([\w:.-]{1,40})',
  re.IGNORECASE,
)
_META_BYTES = 4096


def decode(body: bytes, http_charset: str) -> str:
  """The page's characters.

  UTF-8 first, since a page of another charset almost never is valid UTF-8;
  a few bad bytes among many good characters do not speak against it. Then the
  charset that HTTP or the page names, if it fits; then a guess. Pages lie
  about UTF-8 more than about anything else.

  Args:
    body: the page's bytes.
    http_charset: charset of the HTTP header, '' if it named none.

  Returns:
    The text; bytes that fit no charset become U+FFFD.
  """
  is_shifted = b'\x1b$' in body  # ISO 2022 has no byte above 127
  try:
    if not is_shifted:
      return body.decode('utf-8-sig')
  except UnicodeDecodeError:
    pass
  if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    return body.decode('utf-16', 'replace')
  text = _decode_mostly(body, 'utf-8-sig')
  if text is not None and not is_shifted:
    return text
  meta = _META_CHARSET.search(body[:_META_BYTES])
  for label in (http_charset, meta.group(1).decode('ascii') if meta else ''):
    name = codec(label)
    text = _decode_mostly(body, name) if name else None
    if text is not None:
      return text
  # The names of HTML, which it gives otherwise, have none for cp949.
  guess = codec(encoding.detect_encoding(body, html5_compatible=False) or '')
  guess = 'koi8-u' if guess == 'koi8-r' else guess or 'cp1252'
  text = body.decode(guess, 'replace')
  if guess == 'gb18030' and _PRIVATE.search(text):
    return _decode_mostly(body, 'big5hkscs') or text
  return text


def _decode_mostly(body: bytes, name: str) -> str | None:
  text = body.decode(name, 'replace')
  n_bad = text.count('\ufffd')
  if n_bad:
    n_good = len(text) - len(text.encode('ascii', 'ignore')) - n_bad
    if n_good < _MIN_GOOD_PER_BAD * n_bad:
      return None
  return text


def codec(label: str) -> str:
  """Python's codec for a label, '' where the label says nothing.

  Not every codec of Python: some are no charset, some need quadratic time.
  """
  try:
    name = codecs.lookup(label.strip() or 'utf-8').name
  except (LookupError, ValueError):
    name = label.strip()
  found = encoding.map_encoding_to_html5(name, fallback_utf8=False)
  if not found and _OTHER_CODEC.fullmatch(name):
    found = name
  # A page whose charset could be read from its bytes is no UTF-16.
  if not found or found.lower().startswith('utf'):
    return ''
  return _WIDER.get(found, found)
