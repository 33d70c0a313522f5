"""What the loop says of its data: the wait of each step, and a failure."""

import json
import time
import types

import numpy as np
import pytest

from llm_jax.parallel import device_mesh
from llm_jax.train import metrics, training_loop


def test_waits_are_written_until_data_fails(tmp_path):
  """Two steps of slow data, then none."""

  def batch_fn(step):
    if step == 2:
      raise OSError('the disk is gone')
    time.sleep(0.05)
    return {'inputs_BT': np.full((4, 8), step, np.int32)}

  seen = []

  def update(state, batch):
    seen.append(int(batch['inputs_BT'][3, 7]))
    return state, {'loss': np.float32(0)}

  writer = metrics.Writer(str(tmp_path), -1)
  mesh = device_mesh.make(device_mesh.MeshConfig(), 4)
  loop = training_loop.Loop(
    training_loop.LoopConfig(), workdir=str(tmp_path), mesh=mesh, writer=writer
  )
  with pytest.raises(OSError, match='the disk is gone'):
    for _ in loop.train(types.SimpleNamespace(step=0), update, batch_fn):
      pass
  assert seen == [0, 1]
  lines = (tmp_path / metrics.METRICS).read_text().splitlines()
  waits = [json.loads(line)['data_wait_s'] for line in lines]
  assert len(waits) == 1  # the second is written with the third, as ever
  assert 0.04 < waits[0] < 20
