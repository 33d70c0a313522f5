"""Languages of short, long and mixed texts, by either model."""

import json
import subprocess
import sys

import pytest

from llm_jax.web.filter import language_id

TEXTS = {
  'de': 'Der Fluss entspringt in den Bergen nördlich der alten Stadt.',
  'el': 'Το ποτάμι πηγάζει από τα βουνά και περνά μέσα από την πόλη.',
  'en': 'The river rises in the hills and runs through the old town.',
  'es': 'El río nace en las montañas y atraviesa la ciudad antigua.',
  'fr': 'La rivière naît dans les montagnes et traverse la vieille ville.',
  'ja': '川は山から流れ出し、古い町を通って海へと注いでいきます。',
  'ru': 'Река начинается в горах и протекает через старый город.',
  'zh': '这条河发源于山区，流过古老的城市，最后注入大海。',
}


@pytest.mark.parametrize('language', TEXTS)
def test_language(language):
  found, score = language_id.identify(TEXTS[language])
  assert found == language
  assert score > 0.65
  long = '\n'.join([TEXTS[language]] * 200)
  found, score = language_id.identify(long)
  assert found == language
  assert 0.9 <= score <= 1


def test_more_is_read_of_a_text_without_a_doubtless_language():
  parts = [TEXTS['de'], TEXTS['en']]
  text = '\n'.join(parts * 100)
  whole = language_id._classifier()[1](text)
  assert whole[1] < 0.9
  assert language_id.identify(text) == whole
  # Few parts of this one are German, all of it is not; it is long, so that
  # not all of it is read.
  block = language_id._PART_CHARS
  german = (TEXTS['de'] * block)[:block]
  english = (TEXTS['en'] * 60 * block)[: 19 * block]
  text = (german + english) * 3 + german
  few = language_id._sample(text, 4)
  assert language_id._classifier()[1](few)[0] == 'de'
  assert language_id.identify(text)[0] == 'de'  # no doubt is left
  text = (german[:200] + english[:300] + english) * 3 + german
  assert language_id._classifier()[1](language_id._sample(text, 4))[1] < 0.9
  found = language_id.identify(text)
  assert found[0] == language_id._classifier()[1](text)[0] == 'en'


@pytest.mark.parametrize('text', ['', ' \n', '1234 5678', '\x00'])
def test_texts_without_words(text):
  language, score = language_id.identify(text)
  assert language_id.reject(language_id.Language(), language, score)


def test_reject():
  cfg = language_id.Language()
  assert language_id.reject(cfg, 'en', 0.65) == ''
  assert language_id.reject(cfg, 'en', 0.64) == 'low_score'
  assert language_id.reject(cfg, 'de', 0.99) == 'language_de'
  assert language_id.reject(cfg, '', 0.0) == 'language_unknown'
  both = language_id.Language(languages=('de', 'en'), min_score=0.9)
  assert language_id.reject(both, 'de', 0.9) == ''
  off = language_id.Language(enabled=False)
  assert language_id.reject(off, 'de', 0.1) == ''


def test_without_fasttext_py3langid_does_it_and_says_so():
  pytest.importorskip('py3langid', reason='pip install py3langid')
  assert language_id.identifier() == 'lid.176.ftz'
  program = (
    'import json, sys\n'
    'sys.modules["fasttext"] = None\n'
    'from llm_jax.web.filter import language_id\n'
    'texts = json.load(sys.stdin)\n'
    'found = [language_id.identify(text) for text in texts]\n'
    'json.dump([language_id.identifier(), found], sys.stdout)\n'
  )
  texts = [*TEXTS.values(), TEXTS['en'] * 200, '', '12 34']
  process = subprocess.run(
    [sys.executable, '-c', program],
    input=json.dumps(texts),
    capture_output=True,
    text=True,
    check=True,
  )
  name, found = json.loads(process.stdout)
  assert name.startswith('py3langid 0.')
  assert [language for language, _ in found] == [*TEXTS, 'en', '', '']
  assert all(0.65 < score <= 1 for _, score in found[:-2])
