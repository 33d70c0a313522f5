"""Scores answers to a question by a reward model.

  python -m tools.score runs/mine/reward_model --question 'How are you?' \
    --answer 'Very well, thank you.' --answer 'Go away.'

One line for each answer: its score, and the answer. Scores of one question can
be compared with each other: sigmoid(difference) is how sure the model is.
"""

from collections.abc import Sequence

from absl import app, flags

import llm_jax
from experiments import process


def _define_flags() -> None:
  """When it is the program: another tool may have flags of the same names."""
  flags.DEFINE_string('question', None, 'What is asked.', required=True)
  flags.DEFINE_multi_string('answer', None, 'An answer.', required=True)


def lines(folder: str, question: str, answers: Sequence[str]) -> list[str]:
  """The score of each answer, and the answer.

  Raises:
    FileNotFoundError, ValueError: see llm_jax.load and Model.score.
  """
  asked = {'role': 'user', 'content': question}
  scores = llm_jax.load(folder).score(
    [[asked, {'role': 'assistant', 'content': text}] for text in answers]
  )
  pairs = zip(scores, answers, strict=True)
  return [f'{score:+.4f}  {text}' for score, text in pairs]


def main(argv: Sequence[str]) -> None:
  """Print them."""
  process.set_up_logging(-1)
  if len(argv) != 2:
    raise app.UsageError('give the folder of one reward model')
  try:
    found = lines(argv[1], flags.FLAGS.question, flags.FLAGS.answer)
  except (OSError, ValueError) as error:
    raise SystemExit(f'error: {error}') from None
  print('\n'.join(found))


if __name__ == '__main__':
  _define_flags()
  app.run(main)
