"""Whether a checkpoint was trained on the file that it is now asked from.

It compares files by their bytes, along the records that stages left. It does
NOT find the same questions in another file or in pretraining text; for that see
--evaluation_set of experiments.clean.
"""

from collections.abc import Mapping

from llm_jax import record
from llm_jax.tasks import protocol


def refuse(task: protocol.Task, checkpoints: Mapping[str, str]) -> None:
  """Refuse checkpoints that were trained on questions which all are asked.

  Args:
    task: whose file is asked as a whole.
    checkpoints: folder of a stage by name.

  Raises:
    ValueError: if the record of one, or of a stage before it, has the file.
  """
  sums = protocol.file_sums(task)
  asked = sums.get('task.held_out_path') or sums.get('task.path')
  for name, folder in checkpoints.items():
    for found in record.history(folder):
      if asked and found['inputs'].get('task.path') == asked:
        raise ValueError(
          f'checkpoint {name} was trained on {protocol.file_of(task)} (stage '
          f'{found["stage"]} of {found["start"]}); set Config.questions = '
          "'held_out' to ask the tenth of it that no stage trains on, or give "
          'another file'
        )
