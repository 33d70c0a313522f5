"""The table against lines written out, the layers, and what is derived."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from llm_jax.infer import quantize
from llm_jax.model import config, lora, params, transformer, value_head
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.train import train_state
from tests.model import slow_transformer

CFG = config.ModelConfig(
  vocab_size=60,
  n_layers=2,
  d_model=12,
  n_heads=4,
  n_kv_heads=2,
  head_dim=6,
  d_ff=10,
  max_length=8,
  norm='layer',
  bias='all',
  post_norms=True,
  positions='learned',
  value_embeddings=True,
)
EXPERTS = dataclasses.replace(CFG, bias='none', n_experts=4, d_shared=14)

# Shape, spec, inputs, outputs, uses; norms and biases are below.
IN, OUT = (None, 'fsdp', 'tensor'), (None, 'tensor', 'fsdp')
E_IN, E_OUT = (None, 'expert', *IN[1:]), (None, 'expert', *OUT[1:])
ALL = ('decay', 'lora', 'int8', 'muon')
MATRICES = {
  'embedding': ((128, 12), OUT[1:], (1,), (0,), ALL[:3]),
  'head': ((128, 12), OUT[1:], (1,), (0,), ALL[:3]),
  'position_embedding': ((8, 12), OUT[1:], (1,), (0,), ALL[:2]),
  'value_embedding': ((1, 128, 2, 6), (*OUT, None), (2, 3), (1,), ALL[:2]),
  'value_gate': ((1, 12, 2), (), (1,), (2,), ALL[:2]),
  'layers/wq': ((2, 12, 4, 6), (*IN, None), (1,), (2, 3), ALL),
  'layers/wk': ((2, 12, 2, 6), (*IN, None), (1,), (2, 3), ALL),
  'layers/wv': ((2, 12, 2, 6), (*IN, None), (1,), (2, 3), ALL),
  'layers/wo': ((2, 4, 6, 12), (*OUT[:2], None, 'fsdp'), (1, 2), (3,), ALL),
  'layers/gate': ((2, 12, 14), IN, (1,), (2,), ALL),
  'layers/up': ((2, 12, 14), IN, (1,), (2,), ALL),
  'layers/down': ((2, 14, 12), OUT, (1,), (2,), ALL),
  'layers/router': ((2, 12, 4), (), (1,), (2,), ALL[:2]),
  'layers/expert_gate': ((2, 4, 12, 10), E_IN, (2,), (3,), ALL),
  'layers/expert_up': ((2, 4, 12, 10), E_IN, (2,), (3,), ALL),
  'layers/expert_down': ((2, 4, 10, 12), E_OUT, (2,), (3,), ALL),
  'value_head/w_D': ((12,), (), (0,), (), ALL[:1]),
}
NORMS = dict.fromkeys(
  ('attention_norm', 'mlp_norm', 'post_attention_norm', 'post_mlp_norm'), (12,)
) | dict.fromkeys(('q_norm', 'k_norm'), (6,))
BIASES = {
  'bq': (4, 6), 'bk': (2, 6), 'bv': (2, 6), 'bo': (12,),
  'b_gate': (10,), 'b_up': (10,), 'b_down': (12,),
}  # fmt: skip
VECTORS = {
  **{f'layers/{k}/{x}': v for k, v in NORMS.items() for x in ('scale', 'bias')},
  **{f'layers/{name}': shape for name, shape in BIASES.items()},
}


def test_every_line_is_as_it_is_written_out_here():
  lines = params.table(CFG, True) | params.table(EXPERTS, True)
  expected = MATRICES | {
    path: ((2, *shape), (), (), (), ()) for path, shape in VECTORS.items()
  }
  for name in ('final_norm/scale', 'final_norm/bias'):
    expected[name] = ((12,), (), (), (), ())
  expected['value_head/bias'] = ((), (), (), (), ())
  assert lines.keys() == expected.keys()
  for path, line in lines.items():
    spec = tuple(line.spec)
    found = line.shape, spec, line.inputs, line.outputs, line.uses
    assert found == expected[path], path


@pytest.mark.parametrize('name', slow_transformer.LAYOUTS)
def test_each_parameter_of_each_family_has_its_line(name):
  cfg = slow_transformer.LAYOUTS[name]
  made = jax.eval_shape(lambda: transformer.init(cfg, jax.random.key(0)))
  assert made == params.abstract(params.table(cfg))


def without(path):
  """The table of any model with one line left out."""
  whole = params.table

  def table(cfg, has_value_head=False):
    lines = whole(cfg, has_value_head)
    return params.Table({k: line for k, line in lines.items() if k != path})

  return table


@pytest.mark.parametrize(
  'path', ['layers/wk', 'layers/q_norm/bias', 'layers/b_up', 'value_gate']
)
def test_a_parameter_without_a_line_is_refused(monkeypatch, path):
  lines = without(path)(CFG)
  whole = jax.tree.map(
    lambda x: jnp.zeros(x.shape), params.abstract(params.table(CFG))
  )
  monkeypatch.setattr(params, 'table', without(path))
  message = f"parameter '{path}' has no line in .*params.py"
  for use in (
    lambda: transformer.init(CFG, jax.random.key(0)),
    lambda: optimizers.make(optimizers.Optimizer(), 99, lines).init(whole),
    lambda: quantize.int8(whole, lines),
  ):
    with pytest.raises(ValueError, match=message):
      jax.eval_shape(use)


def test_a_value_head_that_the_table_lacks_is_refused():
  head = {value_head.NAME: value_head.init(CFG)}
  tx = optimizers.make(optimizers.Optimizer('adamw'), 99, params.table(CFG))
  with pytest.raises(ValueError, match="'value_head/.*' has no line"):
    tx.update(head, tx.init(head), head)


@pytest.mark.parametrize(('matrices', 'rank'), [('muon', 0), ('adamw', 2)])
def test_moments_are_split_as_their_parameters(matrices, rank):
  """Those of adapters as the adapters, which every device has."""
  lines = lora.trained(lora.Lora(rank=rank), params.table(EXPERTS))
  axes = device_mesh.MeshConfig(data=1, fsdp=2, tensor=2, expert=2)
  mesh = device_mesh.make(axes)
  tx = optimizers.make(optimizers.Optimizer(matrices), 99, lines)
  init = functools.partial(transformer.init, EXPERTS)
  if rank:
    init = functools.partial(lora.init, lines)
  state = train_state.abstract(init, tx, mesh=mesh, lines=lines)
  own = {
    path: (line.shape, device_mesh.fit(mesh, line.spec, line.shape))
    for path, line in lines.items()
  }
  n_found = 0
  for key_path, x in jax.tree_util.tree_leaves_with_path(state):
    path = jax.tree_util.keystr(key_path, simple=True, separator='/')
    spec = PartitionSpec()
    for name, (shape, own_spec) in own.items():
      if path.endswith(f'/{name}') and x.shape == shape:
        spec, n_found = own_spec, n_found + 1
    if x.ndim and 1 not in x.shape:
      assert x.sharding.spec == spec, path
  # Parameters, and one or two moments of each.
  assert n_found >= 2 * len(lines)


def test_adapters_have_lines_of_their_own():
  lines = lora.trained(lora.Lora(rank=3), params.table(EXPERTS))
  assert set(lines) == {
    f'layers/{name}/{x}'
    for name in ('wq', 'wk', 'wv', 'wo', 'gate', 'up', 'down')
    for x in 'ab'
  }
  assert lines['layers/wo/a'].shape == (2, 24, 3)
  assert lines['layers/wo/b'].shape == (2, 3, 12)
  assert {line.uses for line in lines.values()} == {('decay',)}
