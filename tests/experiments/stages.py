"""Runs of tiny stages: what they have learnt by, and how they end early."""

import contextlib

import pytest

from llm_jax.optim import optimizers
from llm_jax.train import metrics


def adamw(peak_lr, warmup_steps=1):
  """The optimizer of tests."""
  return optimizers.Optimizer(
    matrices='adamw', peak_lr=peak_lr, warmup_steps=warmup_steps
  )


def losses(workdir):
  """Loss and norm of each step, to the last bit."""
  return [
    (x['step'], x['loss'].hex(), x['grad_norm'].hex())
    for x in metrics.read(str(workdir / metrics.METRICS))
    if 'loss' in x
  ]


@contextlib.contextmanager
def ended_at(step):
  """Ends a run inside before the numbers of a step are on disk."""
  write = metrics.Writer.metrics

  def end(self, n, values):
    if n == step and 'grad_norm' in values:
      self.close()
      raise OSError('ended')
    write(self, n, values)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(metrics.Writer, 'metrics', end)
    with pytest.raises(OSError, match='ended'):
      yield
