"""An optimizer and a schedule of your own; see docs/how-to/own_task.md."""

import dataclasses

import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class Lion:
  """optax.lion under a cosine."""

  peak_lr: float = 3e-4  # after a tenth of the run

  def transformation(self, n_steps, lines):
    rate = optax.warmup_cosine_decay_schedule(
      0.0, self.peak_lr, n_steps // 10, n_steps
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.lion(rate))


@dataclasses.dataclass(frozen=True)
class Root:
  """One over the root of the step, behind a warmup."""

  warmup_steps: int = 20

  def learning_rate(self, peak, n_steps):
    def rate(step):
      done = (step + 1) / self.warmup_steps
      return peak * jnp.minimum(done, done**-0.5)

    return rate
