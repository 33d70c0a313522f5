"""One process of two that answer together; started by processes_test.py."""

import json
import sys

import jax
import jax.numpy as jnp

from llm_jax.infer import generate
from llm_jax.model import config, params, transformer
from llm_jax.parallel import device_mesh

CFG = config.ModelConfig(
  vocab_size=50, n_layers=2, d_model=16, n_heads=2, n_kv_heads=2, head_dim=8,
  d_ff=24, max_length=64,
)  # fmt: skip


def answers(mesh) -> list[list[int]]:
  """Six answers to three prompts, in four rows."""
  init = lambda key: transformer.init(CFG, key)  # noqa: E731
  shardings = None
  if mesh is not None:
    shardings = params.shardings(params.table(CFG), mesh)
  model = jax.jit(init, out_shardings=shardings)(jax.random.key(0))
  model = model | {'head': jax.jit(jnp.multiply)(model['head'], 6)}
  request = generate.Request(20, (17, 3))
  prompts = [[5, 6, 7], [5, 6, 7], [8], [8], [9] * 12, [9] * 12]
  found = generate.generate(CFG, model, prompts, range(6), request, 4, mesh)
  return [answer.token_ids for answer in found]


def main(port: str, index: str) -> None:
  """Prints the answers."""
  jax.distributed.initialize(f'127.0.0.1:{port}', 2, int(index))
  mesh = device_mesh.make(device_mesh.MeshConfig(data=2, tensor=2))
  print(json.dumps(answers(mesh)))


if __name__ == '__main__':
  main(*sys.argv[1:])
