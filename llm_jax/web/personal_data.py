"""Replaces what could reach a person: e-mail and public IPv4 addresses.

FineWeb's two kinds. It does NOT look for names, phones, cards or passwords,
and leaves private, loopback and documentation addresses as they are.

Source: Penedo et al., arXiv:2406.17557, section 3.7.
"""

import dataclasses
import ipaddress
import re

EMAIL_PLACEHOLDER = 'email@example.com'
IP_PLACEHOLDER = '192.0.2.1'  # RFC 5737 keeps it for documentation

_NAME = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r'[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
# Bounded runs: the scan stays linear on text without '@'.
_EMAIL = re.compile(
  rf'(?<![\w.+-])(?:{_NAME}{{1,64}}\.){{0,8}}{_NAME}{{1,64}}'
  rf'@(?:{_LABEL}\.){{1,8}}[A-Za-z]{{2,24}}(?![\w@])'
)
_BYTE = r'(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
# Not part of a longer dotted number, which would be a version.
_IPV4 = re.compile(rf'(?<![\w.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\.?\w)')


@dataclasses.dataclass(frozen=True)
class Pii:
  """What is replaced.

  Attributes:
    emails: e-mail addresses, by `email@example.com`.
    ip_addresses: public IPv4 addresses, by `192.0.2.1`.
  """

  emails: bool = True
  ip_addresses: bool = True


def replace(cfg: Pii, text: str) -> tuple[str, dict[str, int]]:
  """The text with placeholders, and how many there are of each kind.

  >>> replace(Pii(), 'ask bob@mail.org at 8.8.8.8, not 10.0.0.1')[0]
  'ask email@example.com at 192.0.2.1, not 10.0.0.1'

  Args:
    cfg: what is replaced.
    text: the document.

  Returns:
    The text, and counts by `email` and `ip_address`; zeros are left out.
  """
  counts: dict[str, int] = {}

  def count(kind: str, placeholder: str) -> str:
    counts[kind] = counts.get(kind, 0) + 1
    return placeholder

  def ip_address(match: re.Match) -> str:
    if ipaddress.ip_address(match.group()).is_global:
      return count('ip_address', IP_PLACEHOLDER)
    return match.group()

  if cfg.emails and '@' in text:
    text = _EMAIL.sub(lambda _: count('email', EMAIL_PLACEHOLDER), text)
  if cfg.ip_addresses:
    text = _IPV4.sub(ip_address, text)
  return text, counts
