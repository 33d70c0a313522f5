"""The best model outlives the newest ones, also after a kill."""

import dataclasses
import functools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax

from llm_jax.model import transformer, value_head
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.train import best_model, checkpoint, metrics, start, training_loop
from tests.evals import tiny_checkpoint

MODEL = tiny_checkpoint.MODEL
CONFIG = types.SimpleNamespace(
  seed=0,
  model=MODEL,
  batch_size=1,
  mesh=device_mesh.MeshConfig(data=1),
  loop=training_loop.LoopConfig(),
  optimizer=optimizers.Optimizer(),
)
TX = optax.adam(1e-3)


def begin(folder, has_values=False):
  """A state with its writer."""
  tiny_checkpoint.tokenizer().save(folder / 'tokenizer')
  stage = start.new('rl', CONFIG, str(folder), str(folder / 'tokenizer'))
  state, loop = stage.start(TX, has_values=has_values)
  return state, loop.writer


def at(state, step):
  """A state whose parameters tell the step."""
  norm = jax.tree.map(
    lambda x: jnp.full_like(x, step), state.params['final_norm']
  )
  return dataclasses.replace(
    state, step=jnp.int32(step), params=state.params | {'final_norm': norm}
  )


def evaluate(folder, state, writer, values, n_done=0):
  with best_model.Best(str(folder), n_done, 'eval_sampled') as best:
    for step, value in values.items():
      writer.metrics(step, {'eval_sampled': value})
      best.offer(value, at(state, step))
    return best.value


def step_of(folder):
  loaded = checkpoint.load_model(str(folder / best_model.FOLDER))
  (scale,) = jax.tree.leaves(loaded.params['final_norm'])
  assert loaded.step == int(scale[0])
  assert loaded.stage == 'rl'
  return loaded.step


def test_best_is_kept_and_found_again(tmp_path):
  state, writer = begin(tmp_path)
  values = {1: 0.2, 2: 0.5, 3: 0.4, 4: 0.5}
  assert evaluate(tmp_path, state, writer, values) == 0.5
  assert step_of(tmp_path) == 2
  # Killed, and resumed from step 3: what came later does not count.
  lines = [{'step': 5, 'eval_sampled': 0.9}]
  with open(tmp_path / metrics.METRICS, 'a', encoding='utf-8') as file:
    file.writelines(json.dumps(line) + '\n' for line in lines)
  assert evaluate(tmp_path, state, writer, {}, n_done=3) == 0.5
  assert evaluate(tmp_path, state, writer, {5: 0.45}, n_done=3) == 0.5
  assert step_of(tmp_path) == 2
  writer.close()


def test_a_best_that_a_resume_redoes_is_forgotten(tmp_path):
  state, writer = begin(tmp_path)
  evaluate(tmp_path, state, writer, {1: 0.2, 4: 0.5})
  assert evaluate(tmp_path, state, writer, {}, n_done=3) == 0.2
  assert step_of(tmp_path) == 1
  assert evaluate(tmp_path, state, writer, {4: 0.3}, n_done=3) == 0.3
  assert step_of(tmp_path) == 4
  writer.close()


def test_a_value_head_is_saved_beside_the_model(tmp_path):
  """It comes back in a resume; a later stage gets the model alone."""
  state, writer = begin(tmp_path, has_values=True)
  head = {'w_D': jnp.arange(16.0), 'bias': jnp.float32(3)}
  params = state.params | {value_head.NAME: head}
  state = dataclasses.replace(state, params=params, step=jnp.int32(1))
  with_checkpoint = checkpoint.Checkpointer(str(tmp_path))
  with_checkpoint.save(state)
  with_checkpoint.close()
  writer.close()
  again, writer = begin(tmp_path, has_values=True)
  writer.close()
  jax.tree.map(np.testing.assert_array_equal, again.params, params)
  assert int(again.step) == 1
  loaded = checkpoint.load_model(str(tmp_path))
  assert value_head.NAME not in loaded.params
  assert jax.tree.structure(loaded.params) == jax.tree.structure(
    jax.eval_shape(
      functools.partial(transformer.init, MODEL), jax.random.key(0)
    )
  )


def test_rollouts_are_written_once_whatever_is_redone(tmp_path):
  writer = metrics.Writer(str(tmp_path), -1)
  assert not (tmp_path / metrics.ROLLOUTS).exists()  # of a stage without any
  for step in (1, 2, 3):
    writer.rollouts(step, [{'text': f'{step}a'}, {'text': f'{step}b'}])
  writer.close()
  with open(tmp_path / metrics.ROLLOUTS, 'a', encoding='utf-8') as file:
    file.write('{"step": 4, "te')  # cut short by a kill
  writer = metrics.Writer(str(tmp_path), 2)
  writer.rollouts(3, [{'text': '3a'}])
  writer.close()
  lines = list(metrics.read(str(tmp_path / metrics.ROLLOUTS)))
  assert [line['text'] for line in lines] == ['1a', '1b', '2a', '2b', '3a']
