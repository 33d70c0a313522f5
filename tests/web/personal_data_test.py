"""Each kind of personal data by hand, on made sentences and hostile text."""

import collections
import random
import re
import time

import pytest

from llm_jax import files
from llm_jax.web.filter import personal_data

OFF = personal_data.Pii(emails=False, ip_addresses=False)
ALL = personal_data.Pii(
  phones=True, ssns=True, cards=True, ibans=True, street_addresses=True
)
PLACEHOLDERS = personal_data.PLACEHOLDERS


FINEWEB = [
  ('Mail Bob.Smith+x@mail.example.org.', 'Mail {email}.'),
  ('<a@b.io>, c_d@e-f.co.uk', '<{email}>, {email}'),
  ('mailto:a@b.io,c@d.io;e@f.io', 'mailto:{email},{email};{email}'),
  ('https://a@b.io ``a@b.io`` "a@b.io"',
   'https://{email} ``{email}`` "{email}"'),
  ('...a@b.io, 写信a.b@c.io，8.8.8.8端口',
   '...{email}, 写信{email}，{ip_address}端口'),
  ('an jürgen.müller@firma.de.', 'an {email}.'),
  ('ju\u0308rgen@mu\u0308ller.de und Šimon@é.cz', '{email} und {email}'),
  ('пишите иван.петров@пример.рф, info@müller.de', 'пишите {email}, {email}'),
  ('γράψε στο νίκος@site.gr; a@xn--mller-kva.de', 'γράψε στο {email}; {email}'),
  ('info@bücher.example.com写信 用户@例子.广告。', '{email}写信 {email}。'),
  ('写信jürgen@x.de或a@b.co.jp。 用户@example.com',
   '写信{email}或{email}。 {email}'),
  ('ü@ é @ö a@ü ü@1.2 grüße@zuhause', None),
  ('@decorator a@b user@host x@y.1 a@@b.io a@b.io@c !@b.io', None),
  ('at 8.8.8.8, or 1.1.1.1:53', 'at {ip_address}, or {ip_address}:53'),
  ('127.0.0.1 10.1.2.3 192.168.0.1 192.0.2.7 0.0.0.0', None),
  ('version 1.9.7.1.2, v8.8.8.8a, 256.8.8.8, 8.8.8.8.8', None),
  ('[2606:4700::6810:84e5]:80', '[{ipv6}]:80'),
  ('2a00:1450:4001:82b:0:0:0:200e.', '{ipv6}.'),
  ('2001:db8::1 fe80::1 ::1 12:30:45 2001:2002 2020:1 std::dead', None),
  ('2606:4700::6810:84e5:1:2:3:4:5 2606::1::2 a2606:4700::1', None),
]  # fmt: skip


@pytest.mark.parametrize(('text', 'expected'), FINEWEB)
def test_what_fineweb_replaces(text, expected):
  check(personal_data.Pii(), text, expected)
  check(OFF, text, None)


OPTIONAL = [
  ('phones', 'call (212) 555-2368 now', 'call {phone} now'),
  ('phones', 'Tel. 650.253.0000x12, 650-253-0000', 'Tel. {phone}, {phone}'),
  ('phones', '+41 44 668 18 00 or 020 7031 3000', '{phone} or {phone}'),
  ('phones', '+1 (650) 253-0000; +16502530000', '{phone}; {phone}'),
  ('phones', '650-253-0000 212-555-2368', '{phone} {phone}'),
  ('phones', '219-09-9998 (212) 555-2368', '219-09-9998 {phone}'),
  ('phones', 'room 12 650-253-0000', 'room 12 {phone}'),
  ('phones', '+41\xa044\xa0668\xa018\xa000', '{phone}'),
  ('phones', '650\u2011253\u20110000 020\u202f7031\u20093000',
   '{phone} {phone}'),
  ('phones', '(212)\xa0555\u20132368, ６５０－２５３－００００',
   '{phone}, {phone}'),
  ('phones', '+٤١ ٤٤ ٦٦٨ ١٨ ٠٠', '{phone}'),
  ('phones', '＋４１　４４　６６８　１８　００', '{phone}'),
  ('phones', 'pp.\xa0123\u2013130, 1990\u20132000, 10\u202f000\u202f000', None),
  ('ssns', '219\u201109\u20119998 219\xa009\xa09998', '{ssn} {ssn}'),
  ('cards', '4111\xa01111\u202f1111\u20091111', '{card}'),
  ('ibans', 'gb82 west 1234 5698 7654 32 and more', '{iban} and more'),
  ('ibans', 'iban: de89370400440532013000', 'iban: {iban}'),
  ('ibans', 'DE89\xa03704\xa00044\xa00532\xa00130\xa000', '{iban}'),
  ('ibans', 'de88370400440532013000 no93 monday tuesday', None),
  ('phones',
   'id 6502530000, 6502530000 2012-10-23 1234 123-456-7890 3.14159 26535',
   None),
  ('phones', '$650-253-0000 1,650 253 0000 650-253-0000-1 10 000 000', None),
  ('phones', '(1990) 1995-2000, pp. 123-130, 12.10.2010 20:15', None),
  ('ssns', 'SSN 219-09-9998, 078 05 1121.', 'SSN {ssn}, {ssn}.'),
  ('ssns', '219-09 9998 219099998 000-12-3456 666-12-3456', None),
  ('ssns', '912-12-3456 219-00-9999 219-09-0000 1-219-09-9998', None),
  ('cards', '4111 1111 1111 1111, 5500-0000-0000-0004', '{card}, {card}'),
  ('cards', '340000000000009 30000000000004', '{card} {card}'),
  ('cards', '6011000000000004 3530111333300000', '{card} {card}'),
  ('cards', '4111 1111 1111 1112', None),  # check digit
  ('cards', '9780306406157 1111 1111 1111 1117', None),  # ISBN; no issuer
  ('cards', '14111111111111111 4111111111111111a x4111111111111111', None),
  ('ibans', 'GB82 WEST 1234 5698 7654 32 BANK', '{iban} BANK'),
  ('ibans', 'DE89370400440532013000.', '{iban}.'),
  ('ibans', 'NO93 8601 1117 947, SE4550000000058398257466', '{iban}, {iban}'),
  ('ibans', 'GB83 WEST 1234 5698 7654 32', None),  # check digits
  ('ibans', 'GB79WEST1234569876', None),  # short, but its check digits fit
  ('ibans', 'ZZ89370400440532013000 xDE89370400440532013000', None),
  ('street_addresses', 'at 12 Old Mill Road, X', 'at {street_address}, X'),
  ('street_addresses', '1600 N 4th St., Apt 3B and 7 High Street',
   '{street_address} and {street_address}'),
  ('street_addresses', 'Mill Road; 12 months away; 5 of the Street', None),
  ('street_addresses', 'The 100 Best Way', None),
  ('street_addresses', 'The 100 Best Way to cook; 7 Easy Way', None),
  ('street_addresses', 'Top 10 Holiday Place, these 3 Old Court', None),
  ('street_addresses', 'a 5 Minute Drive, 2 Way Street, 4 Lane Highway', None),
  ('street_addresses', 'In 2008 Wall Street fell; Chapter 7 Mill Road', None),
  ('street_addresses', '50 Greatest Road, 12 Sure Way to win', None),
  ('street_addresses',
   'at 100 Market Place; the 12 Mill Road house, 2008 Wall Street',
   'at {street_address}; the {street_address} house, {street_address}'),
]  # fmt: skip


@pytest.mark.parametrize(('field', 'text', 'expected'), OPTIONAL)
def test_what_is_optional(field, text, expected):
  only = dict.fromkeys(('emails', 'ip_addresses'), False) | {field: True}
  check(personal_data.Pii(**only), text, expected)
  check(personal_data.Pii(), text, None)


def check(cfg, text: str, expected: str | None):
  """`expected` is text with `{kind}`, or None where nothing is replaced."""
  if expected is None:
    assert personal_data.replace(cfg, text) == (text, {})
    return
  kinds = re.findall(r'\{(\w+)\}', expected)
  counts = collections.Counter(
    'ip_address' if k == 'ipv6' else k for k in kinds
  )
  replaced = expected.format(**PLACEHOLDERS)
  assert personal_data.replace(cfg, text) == (replaced, counts)


def test_a_second_time_changes_nothing():
  text = (
    'a@b.io 8.8.8.8 2606:4700::1111 GB82 WEST 1234 5698 7654 32\n'
    '4111 1111 1111 1111 219-09-9998 (212) 555-2368 12 Mill Road'
  )
  kinds = 'email ip_address ipv6 iban card ssn phone street_address'
  once, counts = personal_data.replace(ALL, text)
  assert once == '{} {} {} {}\n{} {} {} {}'.format(
    *(PLACEHOLDERS[kind] for kind in kinds.split())
  )
  assert counts.pop('ip_address') == 2
  assert set(counts.values()) == {1}
  assert len(counts) == 6
  assert personal_data.replace(ALL, once) == (once, {})


def test_kinds_do_not_meet():
  text = '650-253-0000@mail.org, then +16502530000 a@b.io'
  check(ALL, text, '{email}, then {phone} {email}')


def test_emails_equal_a_plain_pattern():
  """The one that reads forwards from every character."""
  letter = '[A-Za-z0-9é]'
  name = letter[:-1] + r"!#$%&'*+/=?^_`{|}~-]"
  label = rf'{letter}(?:[A-Za-z0-9é-]{{0,61}}{letter})?'
  plain = re.compile(
    rf'(?<!\w)(?=\w)(?:{name}{{1,64}}\.){{0,8}}{name}{{1,64}}'
    rf'@(?:{label}\.){{1,8}}[A-Za-zé]{{2,24}}(?![\w@])'
  )
  generator = random.Random(0)
  n_found = 0
  for _ in range(30_000):
    text = ''.join(
      generator.choices('ab1.@- é!+_', [9] * 3 + [5] * 3 + [1] * 5, k=30)
    )
    expected, n = plain.subn(PLACEHOLDERS['email'], text)
    counts = {'email': n} if n else {}
    found = personal_data.replace(personal_data.Pii(), text)
    assert found == (expected, counts)
    n_found += n
  assert n_found > 500


@pytest.mark.parametrize(
  'piece',
  ['a.', '@', '1', '1 ', '1.1.1.1 ', 'a@', '!', '!@', 'A1 ', '2001:', 'GB82 ']
  + ['+1 ', '(1', '12 Aa ', '4111 1111 1111 1112 ', '@aa-', 'a@b.co ', '123-'],
)
def test_hostile_text_takes_linear_time(piece):
  start = time.process_time()
  personal_data.replace(ALL, piece * (400_000 // len(piece)))
  assert time.process_time() - start < 8


def test_made_sentences(data):
  """Kinds with a check must be found; loose ones must not find more."""
  path = data / 'pii' / 'presidio-synth-a.jsonl.gz'
  fields = {
    'EMAIL_ADDRESS': 'emails',
    'IP_ADDRESS': 'ip_addresses',
    'US_SSN': 'ssns',
    'CREDIT_CARD': 'cards',
    'STREET_ADDRESS': 'street_addresses',
  }
  counts = collections.Counter()
  for row in files.read_jsonl(path, dict):
    for kind, field in fields.items():
      only = dict.fromkeys(('emails', 'ip_addresses'), False) | {field: True}
      replaced, found = personal_data.replace(
        personal_data.Pii(**only), row['full_text']
      )
      spans = [s for s in row['spans'] if s['entity_type'] == kind]
      counts[kind] += len(spans)
      counts[kind, 'kept'] += sum(s['entity_value'] in replaced for s in spans)
      counts[kind, 'false'] += max(0, sum(found.values()) - len(spans))
  for kind in ('EMAIL_ADDRESS', 'IP_ADDRESS', 'US_SSN'):
    assert counts[kind] >= 5
    assert counts[kind, 'kept'] == 0
  # One number of 40 has a prefix that no issuer has.
  assert (counts['CREDIT_CARD'], counts['CREDIT_CARD', 'kept']) == (40, 1)
  assert sum(counts[kind, 'false'] for kind in fields) == 0
