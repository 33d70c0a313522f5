"""Makes the golden losses and advantages that tests/losses holds ours to.

  PYTHON -m tools.make_golden_policy --out tests/losses/golden_policy.npz

PYTHON is an interpreter that has trl, and verl's files (`pip install trl~=1.9
torch`, `pip install --no-deps verl~=0.9.1`); with others it ends at once and
says so. TRL's loss is the method of its trainer, called on a stand-in for one;
verl's functions are taken out of the installed file one by one, since the
module imports a cluster. All is computed in float64. It does NOT import
llm_jax.
"""

import argparse
import ast
import importlib.metadata
import importlib.util
import pathlib
import re
import types
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# What is called here is private to TRL and changes: 1.9 to 1.16 were read.
WANTED = {
  'trl': ('~=1.9', (1, 9), (2, 0)),
  'verl': ('~=0.9.1', (0, 9), (0, 10)),
}

B, T, MAX_LENGTH = 8, 12, 16
CLIP = {'clip_low': 0.1, 'clip_high': 0.25}
_TOKEN, _SEQUENCE, _CONSTANT = 'token_mean', 'sequence_mean', 'constant'

# Name of the case -> TRL's settings, ours.
TRL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
for theirs, ours in (
  ('bnpo', _TOKEN), ('dapo', _TOKEN), ('grpo', _SEQUENCE),
  ('dr_grpo', _CONSTANT),
):  # fmt: skip
  for level, surrogate in (('token', 'clipped'), ('sequence', 'sequence')):
    TRL[f'trl_{theirs}_{level}'] = (
      {'loss_type': theirs, 'level': level},
      {'aggregation': ours, 'surrogate': surrogate, **CLIP},
    )
  TRL[f'trl_{theirs}_kl'] = (
    {'loss_type': theirs, 'level': 'token', 'beta': 0.3, 'importance': True},
    {'aggregation': ours, 'kl_coefficient': 0.3, 'importance': True, **CLIP},
  )
TRL['trl_cispo'] = (
  {'loss_type': 'cispo', 'level': 'token', 'high': 1.25},
  {'surrogate': 'cispo', 'clip_low': 1.0, 'clip_high': 0.25},
)

# Name of the case -> verl's function, its aggregation, ours.
VERL: dict[str, tuple[str, str, dict[str, Any]]] = {
  f'verl_{function}_{ours}': (
    function, theirs,
    {'surrogate': surrogate, 'aggregation': ours, 'importance': True, **CLIP},
  )
  for function, surrogate in (
    ('vanilla', 'clipped'), ('gspo', 'sequence'), ('cispo', 'cispo'),
  )
  for theirs, ours in (
    ('token-mean', _TOKEN), ('seq-mean-token-mean', _SEQUENCE),
    ('seq-mean-token-sum-norm', _CONSTANT),
  )
}  # fmt: skip


def check_versions(
  version_of: Callable[[str], str] = importlib.metadata.version,
  names: Sequence[str] = ('trl', 'verl'),
) -> None:
  """Refuse versions of TRL and verl that this file was not written for.

  Args:
    version_of: a package.
    names: which of both are needed.

  Raises:
    ValueError: for one that is too old, too new or not installed; it says
      which to install.
  """
  for name in names:
    wanted, least, below = WANTED[name]
    try:
      version = version_of(name)
    except importlib.metadata.PackageNotFoundError:
      version = 'none'
    numbers = tuple(map(int, re.findall(r'\d+', version)[:2]))
    if not least <= numbers < below:
      raise ValueError(
        f'{name}: {version} is installed, {wanted} is wanted; pip install '
        f"'{name}{wanted}'"
      )


def inputs() -> dict[str, np.ndarray]:
  """Draw the arrays that every case shares; tool output inside some answers."""
  random = np.random.default_rng(0)
  logp_BT = -random.exponential(1.5, (B, T))
  mask_BT = np.arange(T) < random.integers(3, T + 1, B)[:, None]
  mask_BT[::3, 2] = False  # a token of a tool
  old_logp_BT, ref_logp_BT, sampler_logp_BT = np.minimum(
    logp_BT + random.normal(0, 0.4, (3, B, T)), 0
  )
  return {
    'logp_BT': logp_BT,
    'old_logp_BT': old_logp_BT,
    'ref_logp_BT': ref_logp_BT,
    'sampler_logp_BT': sampler_logp_BT,
    'importance_BT': np.minimum(np.exp(old_logp_BT - sampler_logp_BT), 2),
    'mask_BT': mask_BT.astype(float),
    'advantage_B': random.normal(0.5, 1, B),
    'reward_PR': random.normal(size=(2, B // 2)),
    'value_BT': random.normal(size=(B, T)),
    'old_value_BT': random.normal(size=(B, T)),
    'return_BT': random.normal(size=(B, T)),
    'length_B': np.arange(B) * 2 + 3,
  }


def trl_cases(arrays) -> dict[str, np.ndarray]:
  """Loss and its gradient in logp of each case of TRL."""
  import torch
  from trl import GRPOTrainer

  class Accelerator:
    """One process."""

    num_processes = 1

    def gather(self, x):
      return x

    def reduce(self, x, reduction):
      del reduction
      return x

  given = {name: torch.tensor(x) for name, x in arrays.items()}
  whole_BT = torch.ones(B, T, dtype=torch.float64)
  whole_BT = whole_BT * (given['mask_BT'].flip(1).cummax(1)[0].flip(1))
  found = {}
  for name, (theirs, _) in TRL.items():
    logp_BT = given['logp_BT'].clone().requires_grad_()

    def lookup(*_, logp_BT=logp_BT, **__):
      return logp_BT, torch.zeros_like(logp_BT), None

    trainer = types.SimpleNamespace(
      _get_per_token_logps_and_entropies=lookup,
      accelerator=Accelerator(),
      args=types.SimpleNamespace(
        delta=None, use_bias_correction_kl=True, steps_per_generation=1
      ),
      aux_loss_enabled=False,
      beta=theirs.get('beta', 0.0),
      current_gradient_accumulation_steps=1,
      epsilon_low=CLIP['clip_low'],
      epsilon_high=theirs.get('high', CLIP['clip_high']),
      importance_sampling_level=theirs['level'],
      loss_type=theirs['loss_type'],
      max_completion_length=MAX_LENGTH,
      model=types.SimpleNamespace(training=True),
      off_policy_mask_threshold=None,
      top_entropy_quantile=1.0,
      use_vllm='importance' in theirs,
      vllm_importance_sampling_correction=True,
      _entropy_bonus_enabled=False,
      _metrics={'train': defaultdict(list)},
    )
    ids = torch.zeros(B, T, dtype=torch.int64)
    loss = GRPOTrainer._compute_loss(
      trainer,
      None,
      {
        'prompt_ids': ids[:, :1],
        'prompt_mask': ids[:, :1] + 1,
        'completion_ids': ids,
        'completion_mask': whole_BT,
        'tool_mask': given['mask_BT'],
        'advantages': given['advantage_B'],
        'old_per_token_logps': given['old_logp_BT'],
        'ref_per_token_logps': given['ref_logp_BT'],
        'num_items_in_batch': given['mask_BT'].sum(),
        'importance_sampling_ratio': given['importance_BT'],
      },
    )
    loss.backward()
    found[f'{name}/loss'] = loss.detach().numpy()
    found[f'{name}/grad_BT'] = logp_BT.grad.numpy()
  from trl.rewards import get_soft_overlong_punishment

  penalise = get_soft_overlong_punishment(MAX_LENGTH, 5)
  lengths = [[0] * int(n) for n in arrays['length_B']]
  found['trl_overlong/penalty_B'] = np.array(penalise(lengths))
  return found


def verl_functions() -> Any:
  """The functions of verl's core_algos.py and masked sums, and no import."""
  import torch

  spec = importlib.util.find_spec('verl')
  assert spec is not None, 'no verl'
  folder = pathlib.Path(next(iter(spec.submodule_search_locations or ())))

  def read(path, names, scope):
    tree = ast.parse((folder / path).read_text())
    for node in tree.body:
      if isinstance(node, ast.FunctionDef) and node.name in names:
        node.decorator_list = []
        node.returns = None
        for arg in ast.walk(node.args):
          if isinstance(arg, ast.arg):
            arg.annotation = None
        exec(compile(ast.Module([node], []), path, 'exec'), scope)
    assert not names - scope.keys(), (path, names - scope.keys())
    return types.SimpleNamespace(**{name: scope[name] for name in names})

  def clip_by_value(x, low, high):  # theirs is compiled TorchScript
    return torch.max(torch.min(x, high), low)

  sums = read(
    'utils/torch_functional.py',
    {'masked_sum', 'masked_mean', 'masked_var', 'masked_whiten'},
    {'torch': torch},
  )
  sums.clip_by_value = clip_by_value
  scope = {
    'torch': torch, 'np': np, 'defaultdict': defaultdict, 'verl_F': sums,
    'ActorConfig': dict, 'AlgoConfig': set,
  }  # fmt: skip
  advantages = ('gae_advantage_return', 'grpo_outcome_advantage',
                'rloo_outcome_advantage',
                'reinforce_plus_plus_outcome_advantage')  # fmt: skip
  losses = ('policy_loss_vanilla', 'policy_loss_gspo', 'policy_loss_cispo')
  names = {f'compute_{x}' for x in (*advantages, *losses, 'value_loss')}
  return read('trainer/ppo/core_algos.py', names | {'agg_loss'}, scope)


class ActorConfig(dict):
  """What verl's losses ask of theirs."""

  clip_ratio = 0.2
  clip_ratio_low, clip_ratio_high = CLIP['clip_low'], CLIP['clip_high']
  global_batch_info = {'loss_scale_factor': MAX_LENGTH}  # noqa: RUF012
  gamma = 1.0


def verl_cases(arrays) -> dict[str, np.ndarray]:
  """Losses with gradients, and advantages, of verl."""
  import torch

  verl = verl_functions()
  config = ActorConfig(clip_ratio_c=1e9)  # the third clip is off
  given = {name: torch.tensor(x) for name, x in arrays.items()}
  mask_BT = given['mask_BT']
  found = {}
  for name, (function, aggregation, _) in VERL.items():
    logp_BT = given['logp_BT'].clone().requires_grad_()
    loss, _ = getattr(verl, f'compute_policy_loss_{function}')(
      given['old_logp_BT'],
      logp_BT,
      given['advantage_B'][:, None],
      mask_BT,
      aggregation,
      config,
      given['importance_BT'],
    )
    loss.backward()
    found[f'{name}/loss'] = loss.detach().numpy()
    found[f'{name}/grad_BT'] = logp_BT.grad.numpy()
  value_BT = given['value_BT'].clone().requires_grad_()
  loss, _ = verl.compute_value_loss(
    value_BT, given['return_BT'], given['old_value_BT'], mask_BT, 0.2
  )
  loss.backward()
  found['verl_value/loss'] = loss.detach().numpy()
  found['verl_value/grad_BT'] = value_BT.grad.numpy()

  # The reward at the last token that was sampled.
  last_B = T - 1 - mask_BT.flip(1).argmax(1)
  reward_BT = torch.zeros(B, T, dtype=torch.float64)
  reward_BT[torch.arange(B), last_B] = given['reward_PR'].reshape(-1)
  index_B = np.repeat(np.arange(2), B // 2)
  for name, call in {
    'group_mean_none': lambda x: verl.compute_grpo_outcome_advantage(
      x, mask_BT, index_B, norm_adv_by_std_in_grpo=False
    ),
    'group_mean_group': lambda x: verl.compute_grpo_outcome_advantage(
      x, mask_BT, index_B
    ),
    'leave_one_out_none': lambda x: verl.compute_rloo_outcome_advantage(
      x, mask_BT, index_B
    ),
    'whiten': lambda x: verl.compute_reinforce_plus_plus_outcome_advantage(
      x, mask_BT, config
    ),
    'gae': lambda x: verl.compute_gae_advantage_return(
      x, given['value_BT'], mask_BT, 0.97, 0.9
    ),
  }.items():
    advantage_BT, return_BT = call(reward_BT.clone())
    found[f'verl_{name}/advantage_BT'] = advantage_BT.numpy()
    found[f'verl_{name}/return_BT'] = return_BT.numpy()
  return found


def main() -> None:
  """Compute every case and write one file."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', required=True)
  out = parser.parse_args().out
  check_versions()
  arrays = inputs()
  found = trl_cases(arrays) | verl_cases(arrays)
  versions = [
    f'{name} {importlib.metadata.version(name)}'
    for name in ('trl', 'verl', 'torch')
  ]
  np.savez_compressed(out, versions=np.array(versions), **arrays, **found)


if __name__ == '__main__':
  main()
