"""The tasks that a recipe can be given, as the type of one field.

A gin file chooses by `Config.task = @Countdown()` and then sets
`Countdown.n_numbers = 4`. What all of them offer is protocol.Task, and a class
of a module that --import names, with all of that, is a task too.
"""

from llm_jax.tasks import (
  addition,
  arithmetic,
  assistant,
  closed_book,
  comparison,
  countdown,
  format,
  letters,
  multiple_choice,
  multiplication,
  prompts,
  protocol,
  python_functions,
  reversal,
  word_problems,
)

AnyTask = (
  addition.Addition
  | arithmetic.Arithmetic
  | assistant.Assistant
  | closed_book.ClosedBook
  | comparison.Comparison
  | countdown.Countdown
  | format.Format
  | letters.Letters
  | multiple_choice.MultipleChoice
  | multiplication.Multiplication
  | prompts.Prompts
  | python_functions.PythonFunctions
  | reversal.Reversal
  | word_problems.WordProblems
  | protocol.Task
)
