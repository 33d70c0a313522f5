"""Makes the golden losses that tests/losses holds ours of preferences to.

  PYTHON -m tools.make_golden_preference \
    --out tests/losses/golden_preference.npz

PYTHON is an interpreter that has trl (`pip install trl~=1.9 torch`). Each loss
is the method of TRL's trainer, called on a stand-in for one with
log-probabilities that were drawn; ORPO's it computes in float32, the others in
float64. It does NOT import llm_jax.
"""

import argparse
import importlib.metadata
import types
from collections import defaultdict
from typing import Any

import numpy as np

from tools import make_golden_policy

P, T = 6, 8  # pairs; tokens of an answer, and one before them

# Name of the case -> TRL's settings, ours of losses/preference.py.
DPO: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
  'dpo': ({'loss_types': ['sigmoid']}, {'loss': 'dpo'}),
  'hinge': ({'loss_types': ['hinge']}, {'loss': 'hinge'}),
  'ipo': ({'loss_types': ['ipo']}, {'loss': 'ipo', 'length_normalised': True}),
  'robust': (
    {'loss_types': ['robust'], 'label_smoothing': 0.1},
    {'loss': 'robust', 'label_smoothing': 0.1},
  ),
  'dpo_of_means': (
    {'loss_types': ['sigmoid_norm']},
    {'loss': 'dpo', 'length_normalised': True},
  ),
}
BETA, GAP = 0.3, 0.4
KTO = {'desirable_weight': 1.2, 'undesirable_weight': 0.7}
REWARD = {
  'bradley_terry': {},
  'bradley_terry_margin': {'margin': 0.5},
  'bradley_terry_centring': {'centring': 0.01},
}


def inputs() -> dict[str, np.ndarray]:
  """Draw what all cases share; the answers chosen, then those rejected.

  For KTO the last of each prompt's is of another prompt, for its KL.
  """
  random = np.random.default_rng(0)
  n_tokens_X = random.integers(2, T, 2 * P)
  mask_XT = np.arange(T) < n_tokens_X[:, None]
  logp_XT, ref_logp_XT = -random.exponential(1.5, (2, 2 * P, T)) * mask_XT
  kl_logp_P, kl_ref_logp_P = -random.exponential(9.0, (2, P)) - [[0], [2]]
  return {
    'mask_XT': mask_XT,
    'logp_XT': logp_XT,
    'ref_logp_X': ref_logp_XT.sum(axis=1),
    'kl_logp_P': kl_logp_P,
    'kl_ref_logp_P': kl_ref_logp_P,
    'is_good_P': random.random(P) < 0.6,
    'score_X': random.normal(0, 2, 2 * P),
  }


class Accelerator:
  """One process."""

  device = 'cpu'

  def gather(self, x):
    """Of one process: itself."""
    return x

  gather_for_metrics = gather


def stand_in(**settings: Any) -> types.SimpleNamespace:
  """What the methods ask of their trainer."""
  usual = {
    'accelerator': Accelerator(),
    'aux_loss_enabled': False,
    'beta': BETA,
    'f_divergence_type': 'reverse_kl',
    'label_smoothing': 0.0,
    'ld_alpha': None,
    'loss_weights': [1.0],
    'model': types.SimpleNamespace(training=False),
    'precompute_ref_logps': True,
    'use_weighting': False,
    '_metrics': {'eval': defaultdict(list)},
    '_total_train_tokens': 0,
  }
  return types.SimpleNamespace(**usual | settings)


def of_pairs(given: dict[str, Any]) -> dict[str, np.ndarray]:
  """Loss and gradient in each token's logp, of DPO's family and without one."""
  import torch
  from trl import DPOTrainer
  from trl.experimental.cpo import CPOTrainer
  from trl.experimental.orpo import ORPOTrainer

  # Theirs drops the first position, which nothing predicts.
  mask_XT = torch.nn.functional.pad(given['mask_XT'].long(), (1, 0))
  ref_chosen_P, ref_rejected_P = given['ref_logp_X'].chunk(2)
  found: dict[str, np.ndarray] = {}

  def keep(name, loss, logp_XT):
    loss.backward()
    found[f'{name}/loss'] = loss.detach().numpy()
    found[f'{name}/grad_X'] = logp_XT.grad.numpy()[:, 0]

  for name, (theirs, _) in DPO.items():
    logp_XT = given['logp_XT'].clone().requires_grad_()
    trainer = stand_in(**theirs)
    zeros_XT = torch.zeros_like(logp_XT)
    outputs = types.SimpleNamespace(
      log_probs=logp_XT,
      entropy=zeros_XT,
      mean_logits=zeros_XT,
      is_top1=zeros_XT.bool(),
    )
    inputs_of_batch = {
      'input_ids': torch.zeros_like(mask_XT),
      'attention_mask': mask_XT,
      'completion_mask': mask_XT,
      'ref_chosen_logps': ref_chosen_P,
      'ref_rejected_logps': ref_rejected_P,
    }
    loss = DPOTrainer._compute_loss(
      trainer, lambda outputs=outputs, **_: outputs, inputs_of_batch, False
    )
    keep(name, loss, logp_XT)
  n_tokens_X = given['mask_XT'].sum(1)
  for name in ('simpo', 'orpo'):
    logp_XT = given['logp_XT'].clone().requires_grad_()
    chosen_P, rejected_P = (logp_XT.sum(1) / n_tokens_X).chunk(2)
    if name == 'simpo':
      trainer = stand_in(alpha=0.0, loss_type='simpo', simpo_gamma=GAP)
      losses_P = CPOTrainer.cpo_loss(trainer, chosen_P, rejected_P)[0]
    else:
      ratios_P = ORPOTrainer.odds_ratio_loss(stand_in(), chosen_P, rejected_P)
      losses_P = -ratios_P[0] - chosen_P  # and the loss of SFT
    keep(name, losses_P.mean(), logp_XT)
  return found


def of_labels(given: dict[str, Any]) -> dict[str, np.ndarray]:
  """KTO's, of the first P answers with a label each."""
  import torch
  from trl import KTOTrainer

  logp_PT = given['logp_XT'][:P].clone().requires_grad_()
  mask_PT = torch.nn.functional.pad(given['mask_XT'][:P].long(), (1, 0))
  zeros_PT = torch.zeros_like(logp_PT)
  outputs = types.SimpleNamespace(
    log_probs=logp_PT, entropy=zeros_PT, mean_logits=zeros_PT
  )
  trainer = stand_in(
    loss_type='kto',
    _compute_kl_logps=lambda *_: given['kl_logp_P'],
    # Our check of names would take its end for a shape.
    **{f'calculate_{"kl".upper()}': True},
    **KTO,
  )
  batch = {
    'input_ids': torch.zeros_like(mask_PT),
    'attention_mask': mask_PT,
    'completion_mask': mask_PT,
    'label': given['is_good_P'],
    'ref_logps': given['ref_logp_X'][:P],
    'ref_KL_logps': given['kl_ref_logp_P'],
  }
  loss = KTOTrainer._compute_loss(trainer, lambda **_: outputs, batch, False)
  loss.backward()
  return {
    'kto/loss': loss.detach().numpy(),
    'kto/grad_X': logp_PT.grad.numpy()[:, 0],
  }


def of_scores(given: dict[str, Any]) -> dict[str, np.ndarray]:
  """The reward trainer's loss, and its gradient in the scores."""
  import torch
  from trl import RewardTrainer

  found = {}
  for name, ours in REWARD.items():
    score_X = given['score_X'].clone().requires_grad_()
    trainer = stand_in(
      args=types.SimpleNamespace(
        center_rewards_coefficient=ours.get('centring')
      )
    )
    batch = {}
    if 'margin' in ours:
      batch['margin'] = torch.full((P,), ours['margin'], dtype=torch.float64)
    logits_X1 = score_X[:, None]
    loss = RewardTrainer.compute_loss(
      trainer,
      lambda logits=logits_X1, **_: types.SimpleNamespace(logits=logits),
      batch,
    )
    loss.backward()
    found[f'{name}/loss'] = loss.detach().numpy()
    found[f'{name}/grad_X'] = score_X.grad.numpy()
  return found


def main() -> None:
  """Compute every case and write one file."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', required=True)
  out = parser.parse_args().out
  make_golden_policy.check_versions(names=('trl',))
  import torch

  arrays = inputs()
  given = {name: torch.tensor(x) for name, x in arrays.items()}
  found = of_pairs(given) | of_labels(given) | of_scores(given)
  versions = [
    f'{name} {importlib.metadata.version(name)}' for name in ('trl', 'torch')
  ]
  np.savez_compressed(out, versions=np.array(versions), **arrays, **found)


if __name__ == '__main__':
  main()
