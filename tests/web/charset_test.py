"""Charsets named rightly, wrongly and not at all."""

import pytest

from llm_jax.web.extract import charset

# Of the length that a short page has: the guess needs some characters.
TEXTS = {
  'cs': 'Řeka pramení v horách a každé jaro zaplaví louky pod starým městem.',
  'de': 'Der Fluß entspringt im Gebirge, schöne Häuser stehen überall am Ufer.',
  'el': 'Το ποτάμι πηγάζει από τα βουνά και περνά μέσα από την παλιά πόλη.',
  'fr': 'La rivière naît dans les montagnes, où la neige tombe déjà à Noël.',
  'he': 'הנהר מתחיל בהרים וזורם דרך העיר העתיקה אל הים הגדול שבמערב.',
  'hu': 'A folyó a hegyekben ered, és minden tavasszal elönti a réteket.',
  'ja': '川は山から流れ出し、古い町を通って、やがて海へと注いでいきます。',
  'ko': '강은 산에서 시작하여 오래된 도시를 지나 마침내 바다로 흘러갑니다.',
  'pl': 'Rzeka wypływa w górach i co roku wiosną zalewa łąki pod miastem.',
  'ru': 'Река начинается в горах и каждую весну заливает луга под городом.',
  'th': 'แม่น้ำเริ่มต้นจากภูเขาและไหลผ่านเมืองเก่าไปสู่ทะเลใหญ่',
  'tr': 'Irmak dağlarda doğar ve her ilkbaharda şehrin altındaki çayırı basar.',
  'uk': 'Річка починається в горах і щовесни заливає луки під містом.',
  'zh': '这条河发源于山区，流过古老的城市，每年春天都会淹没下游的草地。',
  'zh-tw': '這條河發源於山區，流過古老的城市，每年春天都會淹沒下游的草地。',
}
PAIRS = (
  ('cs', 'iso8859-2'), ('de', 'iso8859-1'), ('el', 'iso8859-7'),
  ('fr', 'cp1252'), ('he', 'cp1255'), ('hu', 'iso8859-2'), ('ja', 'euc-jp'),
  ('ja', 'iso-2022-jp'), ('ja', 'shift_jis'), ('ko', 'euc-kr'),
  ('pl', 'cp1250'), ('ru', 'iso8859-5'), ('ru', 'koi8-r'),
  ('ru', 'windows-1251'), ('th', 'tis-620'), ('tr', 'cp1254'),
  ('uk', 'koi8-u'), ('zh', 'gb2312'), ('zh-tw', 'big5'),
)  # fmt: skip


def page(text: str, name: str, label: str) -> tuple[bytes, str]:
  lines = '\n'.join(f'<p>{text}</p>' for _ in range(9))
  meta = f'<meta charset="{label}">' if label else ''
  source = f'<html><head>{meta}</head><body>{lines}</body></html>'
  return source.encode(name), source


@pytest.mark.parametrize(('language', 'name'), PAIRS)
def test_named_rightly(language, name):
  body, source = page(TEXTS[language], name, name)
  assert charset.decode(body, '') == source
  assert charset.decode(body, 'utf-8') == source
  body, source = page(TEXTS[language], name, '')
  assert charset.decode(body, name) == source


@pytest.mark.parametrize(('language', 'name'), PAIRS)
@pytest.mark.parametrize('label', ['', 'utf-8'])
def test_named_wrongly_or_not_at_all(language, name, label):
  body, source = page(TEXTS[language], name, label)
  assert charset.decode(body, label) == source


@pytest.mark.parametrize('language', TEXTS)
def test_utf8_wins_over_every_name(language):
  body, source = page(TEXTS[language], 'utf-8', 'iso-8859-1')
  assert charset.decode(body, 'windows-1251') == source
  # Also when it was cut inside a character, or holds another bad byte.
  text = charset.decode(body + 'é'.encode()[:1], 'windows-1251')
  assert text == source + '\ufffd'


@pytest.mark.parametrize(
  ('body', 'label', 'expected'),
  [
    (b'\xef\xbb\xbfbom', '', 'bom'),
    ('\ufeffwide'.encode('utf-16-le'), '', 'wide'),
    (b'caf\xe9', 'no-such-charset', 'café'),
    # Codecs of Python that are no charsets, or no fit for bytes as text.
    (b'caf\xe9 \\u0041', 'unicode_escape', 'café \\u0041'),
    (b'caf\xe9', 'punycode', 'café'),
    (b'caf\xe9', 'zlib', 'café'),
    (b'caf\xe9', 'undefined', 'café'),
    (b'caf\xe9', 'x\x00y', 'café'),
    # A label that could be read as ASCII cannot be UTF-16.
    (b'<meta charset="utf-16">caf\xe9!', '', '<meta charset="utf-16">café!'),
    (b'', 'latin-1', ''),
  ],
)
def test_odd_labels(body, label, expected):
  assert charset.decode(body, label) == expected
