"""The model of the step that evaluated best, kept in best/ of a stage's folder.

That folder is a stage's as any other: `--restore_from DIR/best`. It holds no
optimizer, and is not what a run resumes from.
"""

import math
import os
import shutil

import jax

from llm_jax.train import checkpoint, metrics, train_state

FOLDER = 'best'


class Best:
  """Saves a state whenever it is better than all before it."""

  def __init__(self, workdir: str, n_done: int, name: str):
    """Open the folder, and find out what was best so far; call start before.

    Args:
      workdir: folder of the stage.
      n_done: steps that a resume goes on from; later ones are forgotten.
      name: of the metric that is compared; more is better.
    """
    folder = checkpoint.steps_folder(workdir, FOLDER)
    saved = checkpoint.saved_steps(folder)
    if not jax.process_index():
      checkpoint.copy_model_files(checkpoint.steps_folder(workdir), folder)
      for step in saved:
        if step > n_done:
          shutil.rmtree(os.path.join(folder, str(step)))
    values = {
      line['step']: line[name]
      for line in metrics.read(os.path.join(workdir, metrics.METRICS))
      if name in line and line['step'] in saved and line['step'] <= n_done
    }
    self.value = max(values.values(), default=-math.inf)
    self._checkpointer = checkpoint.Checkpointer(workdir, part=FOLDER)

  def offer(self, value: float, state: train_state.TrainState) -> None:
    """Save a state if its value is more than that of any before.

    Returns when it is on disk, so that no resume goes on from a later step
    and lacks it.
    """
    if value > self.value:
      self.value = value
      self._checkpointer.save(state)
      self._checkpointer.wait()

  def __enter__(self) -> 'Best':
    return self

  def __exit__(self, *_) -> None:
    self._checkpointer.close()
