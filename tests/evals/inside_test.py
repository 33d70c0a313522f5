"""Attention as the slow Transformer has it, and neighbours by hand."""

import numpy as np
import pytest

from llm_jax.evals import inside
from llm_jax.infer import quantize
from llm_jax.model import params as model_params
from tests.evals import tiny_checkpoint
from tests.model import slow_transformer, start_params

IDS = [7, 41, 7, 3, 59, 12, 12, 30, 1]


@pytest.mark.parametrize(
  'name', ['qwen3', 'gemma2', 'gemma3', 'gpt2', 'experts', 'value_embeddings']
)
def test_attention_is_that_of_the_slow_transformer(name):
  cfg = slow_transformer.LAYOUTS[name]
  params = start_params.init(cfg)
  expected = np.zeros((cfg.n_layers, cfg.n_heads, len(IDS), len(IDS)))
  slow_transformer.logits(cfg, params, np.array(IDS), expected)
  for layer in range(cfg.n_layers):
    for head in range(cfg.n_heads):
      found = inside.attention(cfg, params, IDS, layer=layer, head=head)
      np.testing.assert_allclose(found, expected[layer, head], atol=1e-4)
  assert np.ptp(expected[:, :, -1]) > 0.1


def test_neighbours_are_the_nearest_by_angle():
  cfg = tiny_checkpoint.MODEL
  params = dict(start_params.init(cfg))
  table_VD = np.random.default_rng(0).normal(size=params['embedding'].shape)
  table_VD[8] = 5 * (table_VD[3] / np.linalg.norm(table_VD[3]))
  away = table_VD[4] / np.linalg.norm(table_VD[4])
  table_VD[9] = (
    table_VD[8] / 5 - away + table_VD[5] / np.linalg.norm(table_VD[5])
  )
  params['embedding'] = table_VD.astype(np.float32)
  ((first, cosine), *_) = inside.neighbours(cfg, params, [3])
  assert first == 8
  assert cosine == pytest.approx(1, abs=1e-5)
  rounded = quantize.int8(params, model_params.table(cfg))
  for weights in (params, rounded):
    found = inside.neighbours(cfg, weights, [3, 5], [4], n=4)
    assert len(found) == 4
    assert found[0][0] == 9
    assert found[0][1] == pytest.approx(1, abs=0.01)
    assert not {3, 4, 5} & {token for token, _ in found}
  every = inside.neighbours(cfg, params, [3], n=1000)
  unused = {i for pair in cfg.unused_ids for i in range(*pair)}
  assert {i for i, _ in every} == {*range(cfg.vocab_size)} - {3} - unused
