"""Two processes of two devices answer as one device does."""

import dataclasses
import json
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from llm_jax.infer import generate
from llm_jax.model import params, transformer
from llm_jax.parallel import device_mesh
from tests.infer import engine_test

CFG = dataclasses.replace(engine_test.CFG, n_kv_heads=2)


def answers(mesh) -> list[list[int]]:
  """Six answers to three prompts, in four rows."""
  init = lambda key: transformer.init(CFG, key)  # noqa: E731
  shardings = mesh and params.shardings(params.table(CFG), mesh)
  model = jax.jit(init, out_shardings=shardings)(jax.random.key(0))
  model = model | {'head': jax.jit(jnp.multiply)(model['head'], 6)}
  request = generate.Request(20, (17, 3))
  prompts = [[5, 6, 7], [5, 6, 7], [8], [8], [9] * 12, [9] * 12]
  found = generate.generate(CFG, model, prompts, range(6), request, 4, mesh)
  return [answer.token_ids for answer in found]


@pytest.mark.nightly
def test_two_processes_equal_one():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  processes = [
    subprocess.Popen(
      [sys.executable, '-m', 'tests.infer.processes_test', str(port), str(i)],
      env=os.environ | {'JAX_NUM_CPU_DEVICES': '2'},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  expected = answers(None)
  assert len({token for answer in expected for token in answer}) > 5
  for process in processes:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-3000:]
    assert json.loads(out.splitlines()[-1]) == expected


if __name__ == '__main__':
  address = f'127.0.0.1:{sys.argv[1]}'
  jax.distributed.initialize(address, 2, int(sys.argv[2]))
  mesh = device_mesh.make(device_mesh.MeshConfig(data=2, tensor=2))
  print(json.dumps(answers(mesh)))
