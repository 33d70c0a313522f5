"""Comments of fields are found wherever the house writes them."""

import dataclasses

from llm_jax import field_comments


@dataclasses.dataclass(frozen=True)
class _Base:
  """A base.

  Attributes:
    name: what it is called in
      files: one word.
    seed: of the draw.
  """

  name: str = ''
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class _Config(_Base):
  """One of each kind."""

  # About both lines.
  n_steps: int = 3  # of training; '#' is no comment
  choices: tuple[str, ...] = (  # apart by commas
    'a',  # not about the field
    '# nor this',
  )  # at the end

  # Not about what follows after a blank line.

  silent: int = 1  # pyright: ignore
  seed: int = 1  # anew
  name: str = 'config'

  def method(self):
    local: int = 1  # no field
    return local


def test_every_place_of_a_comment():
  assert field_comments.of(_Config) == {
    'n_steps': "About both lines. of training; '#' is no comment",
    'choices': 'apart by commas at the end',
    'seed': 'anew',
    'name': 'what it is called in files: one word.',
  }


def test_without_a_source():
  """As typed into an interpreter, where the docstring is all there is."""
  space = {'dataclasses': dataclasses, '__name__': '__main__'}
  exec(
    '@dataclasses.dataclass\nclass Typed:\n  """T.\n\n  Attributes:\n'
    '    a: known.\n  """\n\n  a: int = 0  # lost\n  b: int = 0  # lost\n',
    space,
  )
  assert field_comments.of(space['Typed']) == {'a': 'known.'}
