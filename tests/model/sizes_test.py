"""Named sizes against the parameters that their authors count."""

import re

import pytest

from llm_jax.model import params, sizes
from tools import count_params

# Of the published checkpoints; gpt3 as its arrays add up.
PUBLISHED = {
  'gpt2-124m': 124_439_808, 'gpt2-355m': 354_823_168, 'gpt2-774m': 774_030_080,
  'gpt2-1.5b': 1_557_611_200, 'llama3-1b': 1_235_814_400,
  'llama3-8b': 8_030_261_248, 'llama3-70b': 70_553_706_496,
  'llama3-405b': 405_853_388_800, 'qwen2-0.5b': 494_032_768,
  'qwen3-0.6b': 596_049_920, 'qwen3-8b': 8_190_735_360,
  'qwen3-30b-a3b': 30_532_122_624, 'mixtral-8x7b': 46_702_792_704,
  'gemma2-2b': 2_614_341_888, 'gemma3-1b': 999_885_952,
}  # fmt: skip


def published(name):
  counts = params.count(sizes.by_name(name))
  return counts['total'] - counts['padding']


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_counts(name):
  assert published(name) == PUBLISHED[name]


def test_parts_of_published_models():
  assert params.count(sizes.by_name('gpt3-175b'))['embedding'] == 617_558_016
  qwen3 = params.count(sizes.by_name('qwen3-0.6b'))
  assert round((qwen3['total'] - qwen3['embedding']) / 1e9, 2) == 0.44


@pytest.mark.parametrize(
  ('name', 'total', 'active'),
  [
    ('qwen3-30b-a3b', 30.5, 3.3),
    ('qwen3-235b-a22b', 235, 22),
    ('mixtral-8x7b', 46.7, 12.9),
  ],
)
def test_parameters_that_a_token_takes(name, total, active):
  """In billions, as their authors round them: 3.35 is 3.3."""
  counts = params.count(sizes.by_name(name))
  assert published(name) / 1e9 == pytest.approx(total, rel=0.002)
  assert counts['active'] / 1e9 == pytest.approx(active, rel=0.02)


def test_own_names_are_rounded_counts():
  own = [name for name in sizes.SIZES if re.fullmatch(r'[\d.]+[mb]', name)]
  assert len(own) == 5
  for name in own:
    unit = {'m': 1e6, 'b': 1e9}[name[-1]]
    assert published(name) == pytest.approx(float(name[:-1]) * unit, rel=0.06)


def test_unknown_name_is_refused():
  with pytest.raises(ValueError, match="no size 'gpt5'; use one of 1m, 14m"):
    sizes.by_name('gpt5')


def test_table():
  lines = count_params.table('gpt2-124m', 1024).splitlines()
  # 12 * 768 * (4 * 768 + 4) of attention; 47 rows of padding.
  assert lines[3].split() == ['attention', '28,348,416', '22.8%']
  assert lines[-4].split() == ['total', '124,439,808']
  assert lines[-2].split() == ['padding', 'rows', f'{47 * 768:,}']
