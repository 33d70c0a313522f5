"""Losses of preferences and their gradients are those of TRL, to float32.

The golden file holds what tools/make_golden_preference.py computed with it.
With LLM_JAX_TRL_PYTHON, a Python that has it, it is computed again.
"""

import os
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.losses import preference
from tools import make_golden_preference

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = pathlib.Path(__file__).parent / 'golden_preference.npz'
PYTHON = os.environ.get('LLM_JAX_TRL_PYTHON', '')
GOLDEN = dict(np.load(FILE))
P, BETA = make_golden_preference.P, make_golden_preference.BETA
PAIRS = preference.Answers(jnp.ones((P, 2)), jnp.array([[0, 1]] * P))
OURS = {name: ours for name, (_, ours) in make_golden_preference.DPO.items()}
OURS |= {
  'simpo': {'loss': 'simpo', 'gap': make_golden_preference.GAP},
  'orpo': {'loss': 'orpo'},
}


def by_prompt(x_X):
  """The chosen and the rejected answer of each prompt."""
  return jnp.asarray(x_X.reshape(2, P).T, jnp.float32)


def check(name, loss_fn, x_BA, grad_fn=by_prompt):
  loss, grad_BA = jax.value_and_grad(loss_fn)(x_BA)
  np.testing.assert_allclose(loss, GOLDEN[f'{name}/loss'], rtol=2e-6)
  expected_BA = grad_fn(GOLDEN[f'{name}/grad_X'])
  assert np.abs(expected_BA).max() > 1e-4
  np.testing.assert_allclose(grad_BA, expected_BA, rtol=1e-5, atol=1e-8)


def policy_loss(cfg, answers, ref_logp_BA, n_tokens_BA):
  return lambda logp_BA: preference.policy(
    cfg, logp_BA, ref_logp_BA, n_tokens_BA=n_tokens_BA, answers=answers
  )[0]


@pytest.mark.parametrize('name', OURS)
def test_pairs(name):
  cfg = preference.Preference(beta=BETA, **OURS[name])
  ref_BA = by_prompt(GOLDEN['ref_logp_X']) * cfg.has_reference
  n_tokens_BA = by_prompt(GOLDEN['mask_XT'].sum(1))
  loss_fn = policy_loss(cfg, PAIRS, ref_BA, n_tokens_BA)
  check(name, loss_fn, by_prompt(GOLDEN['logp_XT'].sum(1)))


def test_answers_with_a_label():
  """Beside each answer one to another prompt, for the KL."""
  cfg = preference.Preference('kto', beta=BETA, **make_golden_preference.KTO)
  logp_P2 = np.stack([GOLDEN['logp_XT'][:P].sum(1), GOLDEN['kl_logp_P']], 1)
  ref_P2 = np.stack([GOLDEN['ref_logp_X'][:P], GOLDEN['kl_ref_logp_P']], 1)
  rank_P2 = np.full((P, 2), preference.MISMATCHED)
  rank_P2[:, 0] = ~GOLDEN['is_good_P']
  answers = preference.Answers(jnp.ones((P, 2)), jnp.asarray(rank_P2))
  check(
    'kto',
    policy_loss(cfg, answers, ref_P2.astype(np.float32), jnp.ones((P, 2))),
    jnp.asarray(logp_P2, jnp.float32),
    grad_fn=lambda grad_P: np.stack([grad_P, np.zeros(P)], 1),
  )


@pytest.mark.parametrize('name', make_golden_preference.REWARD)
def test_scores(name):
  ours = make_golden_preference.REWARD[name]
  check(
    name,
    lambda score_BA: preference.bradley_terry(score_BA, PAIRS, **ours),
    by_prompt(GOLDEN['score_X']),
  )


@pytest.mark.skipif(not PYTHON, reason='set LLM_JAX_TRL_PYTHON to a Python')
def test_golden_file_is_what_trl_computes(tmp_path):
  out = tmp_path / 'again.npz'
  subprocess.run(
    [PYTHON, '-m', 'tools.make_golden_preference', '--out', out],
    cwd=ROOT,
    check=True,
    timeout=300,
  )
  again = dict(np.load(out))
  print(again.pop('versions'))
  assert again.keys() == GOLDEN.keys() - {'versions'}
  for name, x in again.items():
    np.testing.assert_allclose(x, GOLDEN[name], rtol=1e-7, atol=1e-9)
