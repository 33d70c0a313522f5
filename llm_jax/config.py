"""Builds a frozen dataclass from gin files and command-line bindings.

The type graph of a recipe's `Config` (a frozen dataclass of frozen
dataclasses) is the whole configurable surface. Gin's parser reads the text;
everything after that happens here, so that every complaint names a file, a
line and a remedy, no code runs, and gin's own configuration stays empty.

A gin file holds values, and `@Class()` where a field offers several classes:

  ModelConfig.d_model = 128
  Config.optimizer = @Muon()

Where a field has a Protocol among its types, as `Config.task` has, a class of a
user's own with all that the Protocol describes can stand in the same way.
"""

import dataclasses
import difflib
import math
import pathlib
import textwrap
import tokenize
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from gin import config_parser

from llm_jax import dataclass_json

_Config = TypeVar('_Config')

_MAX_CHARS = 1 << 20  # a gin file has some 25 lines; more is a mistake

# A recipe finds everything about its configuration in this module.
explain = dataclass_json.explain
to_dict = dataclass_json.to_dict
from_dict = dataclass_json.from_dict


@dataclasses.dataclass(frozen=True)
class Reference:
  """`@Class()`, `@function` or `%macro`, before anything is looked up."""

  text: str

  def __repr__(self) -> str:
    return self.text


@dataclasses.dataclass(frozen=True)
class _Binding:
  """One `Class.field = value` with where it was written."""

  class_name: str
  field: str
  value: Any
  where: str


_Bound = dict[tuple[str, str], _Binding]  # by class and field


class _Delegate(config_parser.ParserDelegate):
  """Keeps references as values; gin would look them up and call them."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    return Reference(f'@{scoped_configurable_name}{"()" * evaluate}')

  def macro(self, macro_name):
    return Reference(f'%{macro_name}')


def load(
  config_class: type[_Config],
  gin_files: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  imported: Sequence[type] = (),
) -> _Config:
  """Builds `config_class` from its defaults, the files, then the bindings.

  A later file overrides an earlier one, and the bindings override all files.
  The same field twice in one of them is an error.

  Args:
    config_class: a frozen dataclass of values and frozen dataclasses.
    gin_files: paths of gin files.
    gin_bindings: texts such as `Optimizer.peak_lr = 0.003`.
    imported: classes of a user's own; see own_code.py.

  Returns:
    The instance; an int given for a float field is a float in it.

  Raises:
    ValueError: for anything in the text that is not a value of the right
      type for a field that is used; it names the file, line and remedy. And
      for a file that is no text, or a class that cannot be configured.
  """
  owners: dict[str, str] = {}
  known: dict[str, type] = {}
  for cls, owner in classes(config_class, imported):
    name = cls.__name__
    if name in known:
      raise ValueError(
        f'{name} stands at {owners[name]} and at {owner}, so that '
        f'`{name}.field` would be unclear; give one of them a name of its own'
      )
    known[name], owners[name] = cls, owner
  bound: _Bound = {}
  for layer in [*map(_parse_file, gin_files), _parse_bindings(gin_bindings)]:
    own: _Bound = {}
    for binding in layer:
      _refuse_unknown(binding, known)
      first = own.setdefault((binding.class_name, binding.field), binding)
      if first is not binding:
        raise ValueError(
          f'{binding.where}: {binding.class_name}.{binding.field} is already '
          f'set by {first.where}; keep one of the two'
        )
    bound |= own
  cfg = _build(config_class, {}, bound=bound, imported=imported)
  for (name, _), binding in bound.items():
    raise ValueError(
      f'{binding.where}: {name} is not used, because {owners[name]} is '
      f'something else; add `{owners[name]} = @{name}()` or delete the line'
    )
  return cfg


def classes(
  cls: type,
  imported: Sequence[type] = (),
  owner: str = '',
  above: tuple[type, ...] = (),
) -> Iterator[tuple[type, str]]:
  """Yields every class of the type graph, and the field that holds it."""
  if cls in above:
    raise ValueError(f'{cls.__name__} contains itself at {owner}')
  if fault := dataclass_json.faults(cls, protocol=object):
    raise ValueError(f'{cls.__name__} {fault[0]}')
  yield cls, owner
  hints = typing.get_type_hints(cls)
  for field in dataclasses.fields(cls):
    hint, name = hints[field.name], f'{cls.__name__}.{field.name}'
    if not field.init:
      raise ValueError(f'{name} has init=False; use a property')
    for option in dataclass_json.choices(hint, imported):
      yield from classes(option, imported, owner=name, above=(*above, cls))


# Text -> bindings ----------------------------------------------------------


def _parse_file(path: str | pathlib.Path) -> list[_Binding]:
  try:
    with open(path, encoding='utf-8') as file:
      text = file.read(_MAX_CHARS + 1)
    if len(text) > _MAX_CHARS:
      raise ValueError(f'more than {_MAX_CHARS} characters')
  except (OSError, ValueError) as error:
    raise ValueError(
      f'gin file {path} cannot be read ({error}); check the path'
    ) from None
  return [_binding(*each) for each in _statements(text, str(path))]


def _parse_bindings(texts: Sequence[str]) -> list[_Binding]:
  return [
    _binding(statement, where)
    for text in texts
    for where in [f'--gin_bindings {dataclass_json.short(text)}']
    for statement, _ in _statements(text, where)
  ]


def _statements(text: str, source: str) -> Iterator[tuple[Any, str]]:
  """Yields gin's statements with `file:line`; turns its errors into ours."""
  parser = None
  try:
    parser = config_parser.ConfigParser(text, _Delegate())
    for statement in parser:
      yield statement, f'{source}:{statement.location.line_num}'
  except (SyntaxError, tokenize.TokenError, RecursionError) as error:
    line = parser.current_token.start[0] if parser else 1
    line = getattr(error, 'lineno', None) or line
    # Of a wrong value gin says "malformed node ...", then the text itself.
    reason = str(error.args[0] if error.args else error).splitlines()[-1]
    reason = textwrap.shorten(reason, 80)
    raise ValueError(
      f'{source}:{line}: not understood ({reason}); write `Class.field = value`'
      ', where a value is a number, text in quotes, True, False, None or a '
      'tuple of these'
    ) from None


def _binding(statement: Any, where: str) -> _Binding:
  is_binding = isinstance(statement, config_parser.BindingStatement)
  if not is_binding or not (statement.selector and statement.arg_name):
    raise ValueError(
      f'{where}: import, include, blocks and macros are refused, because a '
      'configuration runs no code; write `Class.field = value` in each line, '
      'and give several files with --gin_file'
    )
  if statement.scope:
    raise ValueError(
      f'{where}: the scope {statement.scope!r} is refused; write '
      f'`{statement.selector}.{statement.arg_name} = ...`'
    )
  return _Binding(
    class_name=statement.selector,
    field=statement.arg_name,
    value=statement.value,
    where=where,
  )


# Bindings -> instance ------------------------------------------------------


def _refuse_unknown(binding: _Binding, known: Mapping[str, type]) -> None:
  """Refuses what is not a field of a class, with the nearest that is."""
  where, name, field = binding.where, binding.class_name, binding.field
  if name not in known:
    raise ValueError(
      f'{where}: no field takes a class {name}{_nearest(name, known)}; the '
      f'classes are {", ".join(known)}'
    )
  fields = {
    cls_name: [f.name for f in dataclasses.fields(cls)]
    for cls_name, cls in known.items()
  }
  if field not in fields[name]:
    others = [f'{other}.{field}' for other in fields if field in fields[other]]
    hint = _nearest(field, fields[name])
    if others:
      hint = f'; did you mean {others[0]}?'
    raise ValueError(
      f'{where}: {name} has no field {field}{hint}; its fields are '
      f'{", ".join(fields[name])}'
    )


def _nearest(name: str, options: Iterable[str]) -> str:
  close = difflib.get_close_matches(name, list(options), n=1)
  return f'; did you mean {close[0]}?' if close else ''


def _build(
  cls: type, given: Mapping[str, Any], bound: _Bound, imported: Sequence[type]
) -> Any:
  """Builds a class, taking what it uses out of `bound`.

  Args:
    cls: the class to build.
    given: values that the class above gives instead of the class's defaults.
    bound: bindings not used so far.
    imported: classes of a user's own.
  """
  hints = typing.get_type_hints(cls)
  values, used = {}, []
  for field in dataclasses.fields(cls):
    hint, name = hints[field.name], f'{cls.__name__}.{field.name}'
    default = given.get(field.name, dataclass_json.field_default(field))
    binding = bound.pop((cls.__name__, field.name), None)
    if binding:
      used.append(binding.where)
    value = binding.value if binding else default
    is_chosen = isinstance(value, Reference) and dataclass_json.protocols(hint)
    if dataclass_json.nested_classes(hint) or is_chosen:
      chosen = _choose(
        name, hint, default=default, binding=binding, imported=imported
      )
      own = vars(default) if type(default) is chosen else {}
      values[field.name] = chosen and _build(
        chosen, own, bound=bound, imported=imported
      )
    elif value is dataclasses.MISSING:
      raise ValueError(
        f'{name} has no default and is not set; add `{name} = ...` to the gin '
        'file'
      )
    else:
      # A default in the code is checked too: 1 for a float becomes 1.0.
      where = f'{binding.where}:' if binding else 'the default of'
      values[field.name] = dataclass_json.checked(
        value, hint, sequence=tuple, name=f'{where} {name}'
      )
      if binding and cls not in imported:
        _check_range(binding, field.name)
  try:
    return cls(**values)
  except ValueError as error:
    set_by = f' (set by {", ".join(used)})' if used else ''
    raise ValueError(f'{cls.__name__}: {error}{set_by}') from error


def _check_range(binding: _Binding, field: str) -> None:
  """Refuses what is no length, share, rate, count or seed of any class."""
  value = binding.value
  least = int(field.endswith(('batch_size', '_every')))  # what one divides by
  most = 2**32 - 1 if field == 'seed' else math.inf
  if isinstance(value, int | float) and not least <= value <= most:
    limit = f'{least} or more' if most == math.inf else f'{least} to {most}'
    raise ValueError(
      f'{binding.where}: {binding.class_name}.{field} = {value}; use {limit}'
    )


def _choose(
  name: str,
  hint: Any,
  default: Any,
  binding: _Binding | None,
  imported: Sequence[type],
) -> type | None:
  """The class that a field holds, as `@Class()` says it in a union."""
  protocols = dataclass_json.protocols(hint)
  classes = dataclass_json.choices(hint, imported)
  choices: dict[str, Any] = {f'@{cls.__name__}()': cls for cls in classes}
  if dataclass_json.is_optional(hint):
    choices['None'] = None
  only = classes[0] if len(choices) == 1 and not protocols else None
  if not binding and default is not dataclasses.MISSING:
    return None if default is None else type(default)
  if not binding and not only:
    raise ValueError(f'{name} has no default; set it to {" or ".join(choices)}')
  if not binding:
    return only
  if only:
    raise ValueError(
      f'{binding.where}: {name} is always a {only.__name__}; set its fields, '
      f'such as {only.__name__}.{dataclasses.fields(only)[0].name}'
    )
  if repr(binding.value) in choices:
    return choices[repr(binding.value)]
  lacks = [
    f'{cls.__module__}.{cls.__name__} '
    f'{", ".join(dataclass_json.faults(cls, protocol))} (see '
    f'{protocol.__name__} in {protocol.__module__}); or '
    for cls in imported
    for protocol in protocols
    if repr(binding.value) == f'@{cls.__name__}()'
  ]
  own = ['a class of your own that --import brings'] * bool(protocols)
  raise ValueError(
    f'{binding.where}: {name} = {dataclass_json.short(binding.value)}: '
    f'{"".join(lacks[:1])}write {" or ".join([*choices, *own])}'
  )
