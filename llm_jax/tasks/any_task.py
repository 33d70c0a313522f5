"""The tasks that a recipe can be given, as the type of one field.

A gin file chooses by `Config.task = @Countdown()` and then sets
`Countdown.n_numbers = 4`. What all of them offer is problem.Task.
"""

from llm_jax.tasks import (
  addition,
  comparison,
  countdown,
  format,
  letters,
  multiple_choice,
  multiplication,
  python_functions,
  reversal,
  word_problems,
)

AnyTask = (
  addition.Addition
  | comparison.Comparison
  | countdown.Countdown
  | format.Format
  | letters.Letters
  | multiple_choice.MultipleChoice
  | multiplication.Multiplication
  | python_functions.PythonFunctions
  | reversal.Reversal
  | word_problems.WordProblems
)
