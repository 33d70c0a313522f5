"""Builds a frozen dataclass from gin files and command-line bindings.

The type graph of a recipe's `Config` (a frozen dataclass of frozen
dataclasses) is the whole configurable surface. Gin's parser reads the text;
everything after that happens here, so that every complaint names a file, a
line and a remedy.

It does NOT register anything with gin, import a module, call a function or
leave state behind: gin's own configuration stays empty. It does NOT read
flags, and it does NOT accept macros, `@functions`, blocks or `import` lines.

A gin file holds values, at most one `include` (its first line), `@Class()`
where a field offers several classes, and a scope where a class occurs twice:

  include 'gin_configs/pretrain_tiny.gin'
  ModelConfig.d_model = 128
  Config.optimizer = @Muon()
  valid_data/DataConfig.split = 'valid'
"""

import dataclasses
import difflib
import pathlib
import textwrap
import tokenize
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from gin import config_parser

from llm_jax import dataclass_json

_Config = TypeVar('_Config')
_Path = tuple[str, ...]
_Place = tuple[_Path, type, str]  # path of field names, class there, field

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_MAX_FILE_BYTES = 1 << 20  # a gin file has some 25 lines; more is a mistake

# A recipe finds everything about its configuration in this module.
explain = dataclass_json.explain
to_dict = dataclass_json.to_dict
from_dict = dataclass_json.from_dict
fingerprint = dataclass_json.fingerprint


@dataclasses.dataclass(frozen=True)
class _Reference:
  """`@Class()` in a gin file, before the class is looked up."""

  name: str
  called: bool

  def __repr__(self) -> str:
    return f'@{self.name}' + '()' * self.called


@dataclasses.dataclass(frozen=True)
class _Macro:
  """`%name` in a gin file; always refused."""

  name: str

  def __repr__(self) -> str:
    return f'%{self.name}'


@dataclasses.dataclass(frozen=True)
class _Binding:
  """One `scope/Class.field = value` with the place that it came from."""

  scope: str
  class_name: str
  field: str
  value: Any
  where: str


class _Delegate(config_parser.ParserDelegate):
  """Keeps references as values; gin would look them up and call them."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    return _Reference(scoped_configurable_name, evaluate)

  def macro(self, macro_name):
    return _Macro(macro_name)


def load(
  config_class: type[_Config],
  gin_files: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
) -> _Config:
  """Builds `config_class` from its defaults, the files, then the bindings.

  A later file overrides an earlier one, a file overrides what it includes,
  and the bindings override all files. The same field twice in one of them is
  an error.

  Args:
    config_class: a frozen dataclass of values and frozen dataclasses.
    gin_files: paths of gin files.
    gin_bindings: texts such as `Optimizer.peak_lr = 0.003`.

  Returns:
    The instance; an int given for a float field is a float in it.

  Raises:
    ValueError: for anything in the text that is not a value of the right
      type for a field that is used; it names the file, line and remedy.
    FileNotFoundError: for a gin file or an include that is not there.
    TypeError: for a `config_class` that cannot be configured.
  """
  places = list(_places(config_class, (), ()))
  by_name: dict[str, type] = {}
  for _, cls in places:
    if by_name.setdefault(cls.__name__, cls) is not cls:
      raise TypeError(
        f'{cls.__name__} names two classes, in {cls.__module__} and '
        f'{by_name[cls.__name__].__module__}; rename one'
      )
  layers = [layer for path in gin_files for layer in _parse_file(path)]
  bound: dict[_Place, _Binding] = {}
  for layer in [*layers, _parse_bindings(gin_bindings)]:
    own: dict[_Place, _Binding] = {}
    for binding in layer:
      place = _resolve(binding, places, by_name)
      first = own.setdefault(place, binding)
      if first is not binding:
        raise ValueError(
          f'{binding.where}: {binding.class_name}.{binding.field} is already '
          f'set by {first.where}; keep one of the two'
        )
    bound.update(own)
  cfg = _build(config_class, (), {}, bound)
  for (path, cls, _), binding in bound.items():
    owners = [c for p, c in places if p == path[:-1] and _has(c, path[-1])]
    raise ValueError(
      f'{binding.where}: {cls.__name__} is not used, because '
      f'{".".join(path)} is something else; add '
      f'`{owners[0].__name__}.{path[-1]} = @{cls.__name__}()` or delete the '
      'line'
    )
  return cfg


# The type graph ------------------------------------------------------------


def _places(
  cls: type, path: _Path, above: tuple[type, ...]
) -> Iterator[tuple[_Path, type]]:
  """Yields every place of the type graph: (path of field names, class)."""
  if cls in above:
    raise TypeError(f'{cls.__name__} contains itself at {".".join(path)}')
  yield path, dataclass_json.require_frozen(cls)
  hints = typing.get_type_hints(cls)
  for field in dataclasses.fields(cls):
    hint, name = hints[field.name], field.name
    classes = dataclass_json.nested_classes(hint)
    options = dataclass_json.union_options(hint) or (hint,)
    if classes and len(classes) + dataclass_json.is_optional(hint) != len(
      options
    ):
      raise TypeError(f'{cls.__name__}.{name} mixes classes with values')
    if not field.init:
      raise TypeError(f'{cls.__name__}.{name} has init=False; use a property')
    for option in classes:
      yield from _places(option, (*path, name), (*above, cls))


def _has(cls: type, field: str) -> bool:
  return field in {f.name for f in dataclasses.fields(cls)}


# Text -> bindings ----------------------------------------------------------


def _parse_file(
  path: str | pathlib.Path, included: bool = False
) -> list[list[_Binding]]:
  """Reads a file: its include's bindings, if it has one, then its own."""
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f'gin file {path} does not exist; check the path')
  if not path.is_file():
    raise ValueError(f'gin file {path} is not a file; name a .gin file')
  if path.stat().st_size > _MAX_FILE_BYTES:
    raise ValueError(
      f'gin file {path} has {path.stat().st_size} bytes, more than '
      f'{_MAX_FILE_BYTES}; is it another kind of file?'
    )
  try:
    text = path.read_text(encoding='utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'gin file {path} is not UTF-8 text: {error}') from None
  layers: list[list[_Binding]] = []
  own: list[_Binding] = []
  for n, (statement, where) in enumerate(_statements(text, str(path))):
    if not isinstance(statement, config_parser.IncludeStatement):
      own.append(_binding(statement, where))
    elif n or included:
      raise ValueError(
        f'{where}: a file includes at most one other, in its first line, and '
        'that one includes nothing; write the values here instead'
      )
    else:
      layers = _parse_file(_include_path(path, statement.filename, where), True)
  return [*layers, own]


def _include_path(path: pathlib.Path, name: str, where: str) -> pathlib.Path:
  """Finds an included file, which must lie in a gin_configs/ folder."""
  folders = [_ROOT / 'gin_configs', pathlib.Path.cwd() / 'gin_configs']
  folders = [folder.resolve() for folder in folders]
  starts = [pathlib.Path.cwd(), _ROOT, path.resolve().parent]
  found = [(start / name).resolve() for start in starts]
  inside = [
    file for file in found if any(file.is_relative_to(f) for f in folders)
  ]
  for file in inside:
    if file.is_file():
      return file
  if inside and not any(file.exists() for file in found):
    raise FileNotFoundError(f'{where}: include {name!r} does not exist')
  raise ValueError(
    f'{where}: include {name!r} lies outside gin_configs/; move the file '
    'there or write its values here'
  )


def _parse_bindings(texts: Sequence[str]) -> list[_Binding]:
  bindings = []
  for text in texts:
    where = f'--gin_bindings {dataclass_json.short(text)}'
    for statement, _ in _statements(text, where):
      if isinstance(statement, config_parser.IncludeStatement):
        raise ValueError(f'{where}: give the file with --gin_file instead')
      bindings.append(_binding(statement, where))
  return bindings


def _statements(text: str, source: str) -> Iterator[tuple[Any, str]]:
  """Yields gin's statements with `file:line`; turns its errors into ours."""
  where, parser = source, None
  try:
    parser = config_parser.ConfigParser(text, _Delegate())
    for statement in parser:
      where = f'{source}:{statement.location.line_num}'
      yield statement, where
  except (SyntaxError, tokenize.TokenError, RecursionError) as error:
    line = getattr(error, 'lineno', None)
    if isinstance(error, tokenize.TokenError):
      line = error.args[1][0]
    elif isinstance(error, RecursionError) and parser:
      line = parser.current_token.start[0]
    where = f'{source}:{line}' if line else where
    # Of a wrong value gin says "malformed node ...", then the text itself.
    reason = str(error.args[0] if error.args else error).splitlines()[-1]
    reason = textwrap.shorten(reason, 80)
    raise ValueError(
      f'{where}: not understood ({reason}); write `Class.field = '
      'value`, where a value is a number, text in quotes, True, False, None '
      'or a tuple of these'
    ) from None


def _binding(statement: Any, where: str) -> _Binding:
  if isinstance(statement, config_parser.ImportStatement):
    raise ValueError(
      f'{where}: `{statement.format()}` is refused, because a configuration '
      'runs no code; delete the line'
    )
  if not isinstance(statement, config_parser.BindingStatement):
    raise ValueError(f'{where}: write `Class.field = value` instead of a block')
  value, key = statement.value, f'{statement.selector}.{statement.arg_name}'
  if not statement.selector or not statement.arg_name:
    raise ValueError(
      f'{where}: {statement.arg_name or statement.selector} is no field, and '
      'macros are refused; write `Class.field = value`'
    )
  for part in _flatten(value):
    if isinstance(part, _Macro):
      raise ValueError(f'{where}: the macro {part} is refused; write its value')
    if isinstance(part, _Reference) and (part is not value or not part.called):
      raise ValueError(
        f'{where}: {key} = {dataclass_json.short(value)}: functions are '
        'refused; write a value, or @Class() where a field offers classes'
      )
  return _Binding(
    statement.scope, statement.selector, statement.arg_name, value, where
  )


def _flatten(value: Any) -> Iterator[Any]:
  if isinstance(value, Mapping):
    value = [*value.keys(), *value.values()]
  if isinstance(value, (list, tuple)):
    for part in value:
      yield from _flatten(part)
  else:
    yield value


# Bindings -> instance ------------------------------------------------------


def _resolve(
  binding: _Binding,
  places: list[tuple[_Path, type]],
  by_name: Mapping[str, type],
) -> _Place:
  """Finds the one place of the type graph that a binding speaks of."""
  where, name, field = binding.where, binding.class_name, binding.field
  if name not in by_name:
    raise ValueError(
      f'{where}: unknown class {name}{_nearest(name, by_name)}; the classes '
      f'are {", ".join(by_name)}'
    )
  cls = by_name[name]
  fields = [f.name for f in dataclasses.fields(cls)]
  if field not in fields:
    others = [
      f'{c.__name__}.{field}' for c in by_name.values() if _has(c, field)
    ]
    hint = f'; did you mean {others[0]}?' if others else _nearest(field, fields)
    raise ValueError(
      f'{where}: {name} has no field {field}{hint}; its fields are '
      f'{", ".join(fields)}'
    )
  paths = [path for path, c in places if c is cls]
  scopes = ['/'.join(path) for path in paths]
  if not binding.scope:
    if len(paths) > 1:
      options = ' or '.join(f'{s}/{name}.{field}' for s in scopes)
      raise ValueError(
        f'{where}: {name} occurs {len(paths)} times; write {options}'
      )
    return paths[0], cls, field
  if len(paths) == 1:
    raise ValueError(
      f'{where}: {name} occurs once, so it takes no scope; write {name}.{field}'
    )
  tail = tuple(binding.scope.split('/'))
  matches = [path for path in paths if path[-len(tail) :] == tail]
  if len(matches) != 1:
    raise ValueError(
      f'{where}: the scope {binding.scope!r} fits {len(matches)} places of '
      f'{name}; write one of {", ".join(scopes)}'
    )
  return matches[0], cls, field


def _nearest(name: str, options: Sequence[str] | Mapping[str, Any]) -> str:
  close = difflib.get_close_matches(name, list(options), n=1)
  return f'; did you mean {close[0]}?' if close else ''


def _build(
  cls: type,
  path: _Path,
  given: Mapping[str, Any],
  bound: dict[_Place, _Binding],
) -> Any:
  """Builds the class at `path`, taking what it uses out of `bound`.

  Args:
    cls: the class to build.
    path: its place.
    given: values that the class above gives instead of the class's defaults.
    bound: bindings not used so far.
  """
  hints = typing.get_type_hints(cls)
  values, used = {}, []
  for field in dataclasses.fields(cls):
    hint = hints[field.name]
    default = given.get(field.name, dataclass_json.field_default(field))
    binding = bound.pop((path, cls, field.name), None)
    if binding:
      used.append(binding.where)
    if dataclass_json.nested_classes(hint):
      values[field.name] = _build_nested(
        cls, field.name, path, hint, default, binding, bound
      )
    elif binding and isinstance(binding.value, _Reference):
      raise ValueError(
        f'{binding.where}: {cls.__name__}.{field.name} offers no classes, so '
        f'{binding.value} is refused; write a value'
      )
    elif binding:
      name = f'{binding.where}: {cls.__name__}.{field.name}'
      values[field.name] = dataclass_json.checked(
        binding.value, hint, tuple, name
      )
    elif default is dataclasses.MISSING:
      raise ValueError(
        f'{cls.__name__}.{field.name} has no default and is not set; add '
        f'`{cls.__name__}.{field.name} = ...` to the gin file'
      )
    else:
      # A default in the code is checked too: 1 for a float becomes 1.0.
      name = f'the default of {cls.__name__}.{field.name}'
      values[field.name] = dataclass_json.checked(default, hint, tuple, name)
  try:
    return cls(**values)
  except ValueError as error:
    set_by = f' (set by {", ".join(used)})' if used else ''
    raise ValueError(f'{cls.__name__}: {error}{set_by}') from error


def _build_nested(
  cls: type,
  name: str,
  path: _Path,
  hint: Any,
  default: Any,
  binding: _Binding | None,
  bound: dict[_Place, _Binding],
) -> Any:
  """Builds a field that holds a dataclass, chosen by `@Class()` in a union."""
  choices: dict[str, type | None] = {
    f'@{option.__name__}()': option
    for option in dataclass_json.nested_classes(hint)
  }
  if dataclass_json.is_optional(hint):
    choices['None'] = None
  only = next(iter(choices.values())) if len(choices) == 1 else None
  if binding and only:
    raise ValueError(
      f'{binding.where}: {cls.__name__}.{name} is always a {only.__name__}; '
      f'set its fields, such as '
      f'{only.__name__}.{dataclasses.fields(only)[0].name}'
    )
  if binding and repr(binding.value) not in choices:
    raise ValueError(
      f'{binding.where}: {cls.__name__}.{name} = '
      f'{dataclass_json.short(binding.value)}: write {" or ".join(choices)}'
    )
  if binding:
    chosen = choices[repr(binding.value)]
  elif default is not dataclasses.MISSING:
    chosen = None if default is None else type(default)
  elif only:
    chosen = only
  else:
    raise ValueError(
      f'{cls.__name__}.{name} has no default; set it to {" or ".join(choices)}'
    )
  if chosen is None:
    return None
  given = _changes(default) if type(default) is chosen else {}
  return _build(chosen, (*path, name), given, bound)


def _changes(instance: Any) -> dict[str, Any]:
  """Where an instance differs from its class's own defaults.

  A class that derives some fields from others in `__post_init__` cannot say
  which of an instance's values were given and which derived, so for it only
  the plain defaults are allowed.
  """
  cls = type(instance)
  own = dataclass_json.default_instance(cls)
  raw = {
    f.name: dataclass_json.field_default(f) for f in dataclasses.fields(cls)
  }
  plain = vars(own) if own is not None else raw
  changed = {
    k: getattr(instance, k) for k in raw if getattr(instance, k) != plain[k]
  }
  derives = own is not None and any(getattr(own, k) != raw[k] for k in raw)
  if changed and derives:
    raise TypeError(
      f'{cls.__name__} derives fields, so a default of this class must be '
      f'{cls.__name__}() itself; set {", ".join(changed)} in a gin file'
    )
  return changed
