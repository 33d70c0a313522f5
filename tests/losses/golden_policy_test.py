"""Losses and their gradients are those of TRL and verl, to float32.

The golden file holds what tools/make_golden_policy.py computed with both. With
LLM_JAX_TRL_PYTHON, a Python that has them, it is computed again.
"""

import importlib.metadata
import os
import pathlib
import subprocess

import jax
import numpy as np
import pytest

from llm_jax.losses import policy, value
from tools import make_golden_policy

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = pathlib.Path(__file__).parent / 'golden_policy.npz'
PYTHON = os.environ.get('LLM_JAX_TRL_PYTHON', '')
GOLDEN = dict(np.load(FILE))
CASES = {name: ours for name, (_, ours) in make_golden_policy.TRL.items()} | {
  name: ours for name, (_, _, ours) in make_golden_policy.VERL.items()
}


def relative(found, expected):
  return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize('name', CASES)
def test_loss_and_gradient(name):
  ours = dict(CASES[name])
  given = {x: GOLDEN[x].astype(np.float32) for x in make_golden_policy.inputs()}
  mask_BT, advantage_BT = given['mask_BT'], given['advantage_B'][:, None]
  if ours.pop('importance', False):
    importance_BT = policy.truncated_importance(
      given['old_logp_BT'], given['sampler_logp_BT'], 2.0
    )
    assert (importance_BT == 2).any()
    advantage_BT = advantage_BT * importance_BT
  weigh = policy.AGGREGATIONS[ours.pop('aggregation', 'token_mean')]
  weight_BT = weigh(mask_BT, make_golden_policy.MAX_LENGTH)
  surrogate = policy.SURROGATES[ours.pop('surrogate', 'clipped')]
  clips = policy.Clips(ours.pop('clip_low'), ours.pop('clip_high'))
  if 'kl_coefficient' in ours:
    ours['ref_logp_BT'] = given['ref_logp_BT']

  @jax.value_and_grad
  def loss_fn(logp_BT):
    loss, _ = policy.policy_gradient(
      logp_BT,
      given['old_logp_BT'],
      advantage_BT,
      mask_BT,
      surrogate=surrogate,
      clips=clips,
      weight_BT=weight_BT,
      **ours,
    )
    return loss

  loss, grad_BT = loss_fn(given['logp_BT'])
  worst = (
    relative(loss, GOLDEN[f'{name}/loss']),
    relative(grad_BT, GOLDEN[f'{name}/grad_BT']),
  )
  print(f'{name}: loss {worst[0]:.1e}, gradient {worst[1]:.1e}')
  assert max(worst) < 1e-5
  assert not np.asarray(grad_BT)[mask_BT == 0].any()


def test_value_loss_and_gradient():
  loss, grad_BT = jax.value_and_grad(
    lambda value_BT: value.clipped_value(
      value_BT, GOLDEN['old_value_BT'], GOLDEN['return_BT'], GOLDEN['mask_BT']
    )[0]
  )(GOLDEN['value_BT'].astype(np.float32))
  assert relative(loss, GOLDEN['verl_value/loss']) < 1e-5
  assert relative(grad_BT, GOLDEN['verl_value/grad_BT']) < 1e-5


@pytest.mark.parametrize(
  ('versions', 'message'),
  [
    ({'trl': '1.9.0', 'verl': '0.9.1'}, None),
    ({'trl': '1.16.0', 'verl': '0.9.2'}, None),
    ({'trl': '0.29.1', 'verl': '0.9.1'}, "trl: 0.29.1 .* 'trl~=1.9'"),
    ({'trl': '2.0.0.dev0', 'verl': '0.9.1'}, "trl: 2.0.0.dev0 .* 'trl~=1.9'"),
    ({'trl': '1.9.0', 'verl': '0.10.0'}, "verl: 0.10.0 .* 'verl~=0.9.1'"),
    ({'verl': '0.9.1'}, 'trl: none is installed, ~=1.9 is wanted'),
  ],
)
def test_other_versions_of_the_peers_are_refused(versions, message):
  def version_of(name):
    if name not in versions:
      raise importlib.metadata.PackageNotFoundError
    return versions[name]

  if message is None:
    make_golden_policy.check_versions(version_of)
  else:
    with pytest.raises(ValueError, match=message):
      make_golden_policy.check_versions(version_of)


@pytest.mark.skipif(
  not PYTHON, reason='set LLM_JAX_TRL_PYTHON to a Python with trl and verl'
)
def test_golden_file_is_what_trl_and_verl_compute(tmp_path):
  out = tmp_path / 'again.npz'
  subprocess.run(
    [PYTHON, '-m', 'tools.make_golden_policy', '--out', out],
    cwd=ROOT,
    check=True,
    timeout=300,
  )
  again = dict(np.load(out))
  print(again.pop('versions'))
  assert again.keys() == GOLDEN.keys() - {'versions'}
  for name, x in again.items():
    np.testing.assert_allclose(x, GOLDEN[name], rtol=1e-9, atol=1e-12)
