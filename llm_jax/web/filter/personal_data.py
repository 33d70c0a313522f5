"""Replaces what could reach a person by placeholders, counted by kind.

By default FineWeb's kinds: e-mail addresses and public IP addresses. As
options telephone numbers, US social security numbers, payment cards, IBANs
and street addresses; a cheap pattern proposes, a check of the kind decides
(check digits, issuers, number plans). Every pattern needs time linear in the
text, whatever the text.

It does NOT look for names or passwords, leaves private, loopback and
documentation addresses as they are, and knows streets only as English writes
them.

Source: Penedo et al., arXiv:2406.17557, section 3.7.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator

PLACEHOLDERS = {
  'email': 'email@example.com',
  'ip_address': '192.0.2.1',  # RFC 5737 keeps it for documentation
  'ipv6': '2001:db8::1',  # RFC 3849 too
  'phone': '202-555-0100',  # 555-01xx is given to nobody
  'ssn': '000-00-0000',  # no number has area 000
  'card': '0000 0000 0000 0000',  # no issuer starts with 0
  'iban': 'GB00 0000 0000 0000 0000 00',  # check digits start at 02
  'street_address': '0 Example Street',
}

# Scripts without spaces may touch an address in another one, so that their
# characters are a part of an address only where all of it is written in them.
_UNSPACED = r'\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff'
_LETTER = rf'(?:(?![{_UNSPACED}])[^\W_])'
_MARK = r'\u0300-\u036f'  # of letters that are written as two characters
_NAME = rf"(?:[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_MARK}-]|{_LETTER})"
_LABEL = (
  rf'(?:{_LETTER}(?:(?:{_LETTER}|[{_MARK}-]){{0,61}}(?:{_LETTER}|[{_MARK}]))?'
  rf'|[{_UNSPACED}][{_UNSPACED}A-Za-z0-9-]{{0,61}})'
)
_AT_HOST = re.compile(
  rf'@(?:{_LABEL}\.){{1,8}}(?:xn--[A-Za-z0-9-]{{1,59}}(?![\w@])'
  rf'|(?:(?!\d){_LETTER}|[{_MARK}]){{2,24}}(?!{_LETTER}|[_@{_MARK}])'
  rf'|[{_UNSPACED}]{{2,24}})'
)
# Read backwards from the '@', so that text without one costs nothing; what
# stands before it in `https://` or quotes is no part of it.
_EMAIL_NAME = re.compile(
  rf'{_NAME}{{1,64}}(?:\.{_NAME}{{1,64}}){{0,8}}(?<=\w)(?!{_LETTER}|_)'
  rf'|[{_UNSPACED}][{_UNSPACED}\w.-]{{0,63}}(?<=\w)'
)
_EMAIL_NAME_CHARS = 9 * 65 + 1

# How typesetters write the spaces, hyphens and digits of numbers.
_PLAIN = str.maketrans(
  {
    **dict.fromkeys('\xa0\u202f\u3000', ' '),
    **{chr(code): ' ' for code in range(0x2000, 0x200B)},
    **dict.fromkeys('\u2010\u2011\u2012\u2013\u2212\ufe63', '-'),
    # Arabic, Persian and Hindi digits.
    **{chr(zero + i): str(i) for zero in (1632, 1776, 2406) for i in range(10)},
    # Full width; letters too, for accounts.
    **{chr(0xFF01 + i): chr(0x21 + i) for i in range(0x5E)},
  }
)

_BYTE = r'(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
# Not part of a longer dotted number, which would be a version.
_IPV4 = re.compile(rf'(?a)(?<![\w.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\.?\w)')
_IPV4_MIDDLE = re.compile(r'(?a)\.\d{1,3}\.\d{1,3}\.')
# All public ones are in 2000::/3 and start with four digits.
_IPV6 = re.compile(
  r'(?a)(?<![\w:.])[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34}(?![\w:])'
)

_SSN = re.compile(
  r'(?a)(?<![\w.-])(?!000|666|9)\d{3}([- ])(?!00)\d\d\1(?!0000)\d{4}(?![\w-])'
)
_CARD = re.compile(r'(?a)(?<![\w.,:/-])[1-6]\d{3}(?:[ -]?\d){8,15}(?![\w-])')
_CARD_ISSUERS = re.compile(
  r'4(?:\d{12}|\d{15}|\d{18})'  # Visa
  r'|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}'
  r'|3[47]\d{13}'  # American Express
  r'|(?:6011|64[4-9]\d|65\d\d)\d{12}'  # Discover
  r'|3(?:0[0-5]|[68]\d)\d{11}'  # Diners Club
  r'|35(?:2[89]|[3-8]\d)\d{12}|(?:2131|1800)\d{11}'  # JCB
  r'|(?:5018|5020|5038|6304|6759|676[1-3])\d{8,15}'  # Maestro
  r'|62\d{14,17}'  # UnionPay
)
_IBAN = re.compile(r'(?ai)(?<![A-Z0-9])[A-Z]{2}\d\d(?:[ -]?[A-Z0-9]{1,4}){3,8}')
_IBANS = """AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21
CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22
GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20
LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30
NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18
SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"""
_IBAN_LENGTHS = {part[:2]: int(part[2:]) for part in _IBANS.split()}
# Written as a number is: with a sign, brackets or separators. The American
# form first, so that two of them side by side stay two.
_PHONE = re.compile(
  r'(?a)(?<![\w.,:/+=#$€£-])(?:'
  r'(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}'
  r'|(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?\d{1,12}(?:[ .-]\d{2,9}){0,5}'
  r')(?:(?: ?x| ?ext\.? ?)\d{1,6})?(?![\w€$%]|[.,:/-]\d)'
)
_PHONE_DIGITS = range(7, 22)
_STREET = re.compile(
  r'(?<![\w.,/-])\d{1,5}[A-Z]?,? (?:[NSEW]\.? |North |South |East |West )?'
  r"(?:[A-Z][A-Za-z'’.-]{1,20} |\d{1,3}(?:st|nd|rd|th) ){1,3}?"
  r'(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Ln|Dr|Ct|Cir|Pl|Sq|Ter'
  r'|Parkway|Pkwy|Highway|Hwy|Trl|(Lane|Drive|Court|Circle|Place|Square|Terrace'
  r'|Way|Trail|Crescent|Close))\b\.?'
  r'(?:,? (?:Apartment|Apt|Suite|Ste|Unit|Floor|Fl|#)\.? ?#?\w{1,5}\b)?'
)
# `10 Best Place`, `5 Minute Drive`: a number that counts is none of a house.
_COUNTED = re.compile(
  r'(?i)\d+,? (?:best|better|worst|most|more|top|great\w*|good|easy|easi\w+'
  r'|simpl\w+|fast\w*|quick\w*|cheap\w*|only|other|different|right|wrong|new'
  r'|perfect|amazing|beautiful|popular|famous|favou?rite|important|essential'
  r'|proven|unique|(?:second|minute|hour|day|week|month|year|mile|kilometer|foot'
  r'|feet|meter|inch|acre|star|step|point|page|player|person|people|lane|way|car'
  r'|room|bedroom|story|percent|dollar|hundred|thousand|million|billion)s?)\b'
)
_COUNT_BEFORE = re.compile(
  r'(?i)\b(?:top|best|first|last|next|chapter|figure|fig\.|table|page|section'
  r'|episode|season|volume|part|step|level|lesson|version)\s+\Z'
)
# Before a word that is seldom a street's alone.
_ARTICLE_BEFORE = re.compile(
  r'(?i)\b(?:the|these|those|a|an|our|my|your|his|her|their|its|all|about|over'
  r'|every|another|only)\s+\Z'
)
_YEAR = re.compile(r'(?:1[5-9]|20)\d\d ')
_YEAR_BEFORE = re.compile(
  r'(?i)\b(?:in|since|until|till|by|of|after|before|during|from|and)\s+\Z'
)
_WORD_CHARS = 16  # of the word before


@dataclasses.dataclass(frozen=True)
class Pii:
  """What is replaced.

  Attributes:
    emails: e-mail addresses, by `email@example.com`.
    ip_addresses: public IPv4 and IPv6 addresses, by `192.0.2.1` and
      `2001:db8::1`.
    phones: telephone numbers that a number plan knows; +<country> of any.
    phone_regions: number plans for numbers without +<country>.
    ssns: US social security numbers with separators.
    cards: payment cards by issuer, length and check digit.
    ibans: bank accounts by country, length and check digits.
    street_addresses: number and street in English.
  """

  emails: bool = True
  ip_addresses: bool = True
  phones: bool = False
  phone_regions: tuple[str, ...] = ('US', 'GB')
  ssns: bool = False
  cards: bool = False
  ibans: bool = False
  street_addresses: bool = False


def replace(cfg: Pii, text: str) -> tuple[str, dict[str, int]]:
  """The text with placeholders, and how many there are of each kind.

  Applied to its own result it changes and counts nothing.

  >>> replace(Pii(), 'ask bob@mail.org at 8.8.8.8, not 10.0.0.1')[0]
  'ask email@example.com at 192.0.2.1, not 10.0.0.1'

  Args:
    cfg: what is replaced.
    text: the document.

  Returns:
    The text, and counts by `email`, `ip_address`, `iban`, `card`, `ssn`,
    `phone` and `street_address`; zeros are left out.
  """
  spans: list[tuple[int, int, str]] = []
  counts: dict[str, int] = {}
  rest = text  # what is found is blanked, so that it is found once

  def find(kind: str, found: Iterable[tuple[int, int]]):
    nonlocal rest
    placeholder = PLACEHOLDERS[kind]
    kind = 'ip_address' if kind == 'ipv6' else kind
    new = [(a, b, placeholder) for a, b in found if rest[a:b] != placeholder]
    if new:
      counts[kind] = counts.get(kind, 0) + len(new)
      rest = _replace(rest, [(a, b, '\0' * (b - a)) for a, b, _ in new])
      spans.extend(new)

  if cfg.emails:
    find('email', _emails(rest))
  if cfg.ip_addresses:
    if _IPV4_MIDDLE.search(rest):
      find('ip_address', _checked(_IPV4, _public_ip, rest))
    find('ipv6', _checked(_IPV6, _public_ip, rest))
  if (cfg.ibans or cfg.cards or cfg.ssns or cfg.phones) and not rest.isascii():
    rest = rest.translate(_PLAIN)  # a character for each: places stay
  if cfg.ibans:
    find('iban', _checked(_IBAN, _iban, rest))
  if cfg.cards:
    find('card', _checked(_CARD, _card, rest))
  if cfg.ssns:
    find('ssn', _checked(_SSN, len, rest))
  if cfg.phones:
    check = _phone_check(cfg.phone_regions)
    find('phone', _checked(_PHONE, check, rest))
  if cfg.street_addresses:
    find('street_address', _streets(rest))
  return _replace(text, sorted(spans)), counts


def _replace(text: str, spans: Iterable[tuple[int, int, str]]) -> str:
  parts, end = [], 0
  for start, stop, replacement in spans:
    parts += [text[end:start], replacement]
    end = stop
  return ''.join([*parts, text[end:]]) if parts else text


def _checked(
  pattern: re.Pattern, check: Callable[[str], int], text: str
) -> Iterator[tuple[int, int]]:
  """Spans of what a pattern proposes and a check lets pass.

  Args:
    pattern: of bounded length, so that a second look costs no more.
    check: how many of the proposed characters are meant, 0 for none.
    text: where.

  Yields:
    Start and end.
  """
  match = pattern.search(text)
  while match:
    end = match.start() + check(match.group())
    if end > match.start():
      yield match.start(), end
    match = pattern.search(text, max(end, match.start() + 1))


def _emails(text: str) -> Iterator[tuple[int, int]]:
  end = 0
  for match in _AT_HOST.finditer(text):
    at = match.start()
    name = _EMAIL_NAME.match(text[max(end, at - _EMAIL_NAME_CHARS) : at][::-1])
    if name:
      end = match.end()
      yield at - name.end(), end


def _streets(text: str) -> Iterator[tuple[int, int]]:
  for match in _STREET.finditer(text):
    start = match.start()
    before = text[max(0, start - _WORD_CHARS) : start]
    is_count = _COUNTED.match(match[0]) or _COUNT_BEFORE.search(before)
    if match[1]:
      follows = text[match.end() :].startswith(' to ')
      is_count = is_count or _ARTICLE_BEFORE.search(before) or follows
    if _YEAR.match(match[0]):
      is_count = is_count or _YEAR_BEFORE.search(before)
    if not is_count:
      yield match.span()


def _public_ip(found: str) -> int:
  """How much of a candidate is to be replaced: 0 for none of it."""
  try:
    return len(found) if ipaddress.ip_address(found).is_global else 0
  except ValueError:
    return 0


def _iban(found: str) -> int:
  n = _IBAN_LENGTHS.get(found[:2].upper(), 0)
  places = [i for i, char in enumerate(found) if char.isalnum()][:n]
  account = ''.join(found[i] for i in places)
  if not n or len(account) < n:
    return 0
  number = int(''.join(str(int(c, 36)) for c in account[4:] + account[:4]))
  return places[-1] + 1 if number % 97 == 1 else 0


def _card(found: str) -> int:
  digits = re.sub(r'\D', '', found)
  if not _CARD_ISSUERS.fullmatch(digits):
    return 0
  doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
  total = sum(map(int, digits[-1::-2])) + sum(doubled)
  return len(found) if total % 10 == 0 else 0


def _phone_check(regions: tuple[str, ...]) -> Callable[[str], int]:
  import phonenumbers  # loads the number plans of the world; most runs do not

  # Where numbers start with 0 at home, one that does not is something else.
  zero = {
    r: phonenumbers.ndd_prefix_for_region(r, True) == '0' for r in regions
  }

  def check(found: str) -> int:
    digits = ''.join(filter(str.isdigit, found))
    if len(digits) not in _PHONE_DIGITS or digits == found:
      return 0
    for region in (None,) if '+' in found else regions:
      if region and zero[region] and digits[0] != '0':
        continue
      try:
        number = phonenumbers.parse(found, region)
      except phonenumbers.NumberParseException:
        continue
      if phonenumbers.is_valid_number(number):
        return len(found)
    return 0

  return check
