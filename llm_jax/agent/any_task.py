"""The tasks that a recipe can be given, as the type of one field.

A gin file chooses by `Config.task = @Addition()` and then sets
`Addition.n_digits = 2`. What all of them offer is protocol.Task, and a class
of a module that --import names, with all of that, is a task too.
"""

from llm_jax.agent import judge
from llm_jax.tasks import (
  addition,
  closed_book,
  multiple_choice,
  prompts,
  protocol,
  python_functions,
  word_problems,
)

AnyTask = (
  addition.Addition
  | closed_book.ClosedBook
  | judge.Judge
  | multiple_choice.MultipleChoice
  | prompts.Prompts
  | python_functions.PythonFunctions
  | word_problems.WordProblems
  | protocol.Task
)
