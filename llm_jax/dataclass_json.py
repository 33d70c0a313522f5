"""Turns frozen dataclasses into text and JSON, and JSON back, checking types.

A field may be a bool, int, float, str, None, a Literal, a tuple of these, a
frozen dataclass, or a union. An int stands for a float where one is wanted;
nothing else is converted.

It does NOT read gin (config.py does) and does NOT hold arrays.
"""

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

_T = TypeVar('_T', bound=Any)

_EXAMPLES = {
  bool: 'True or False',
  int: 'a whole number such as 3',
  float: 'a number such as 0.1',
  str: "text in quotes such as 'text'",
  types.NoneType: 'None',
}


def explain(
  cfg: Any, comments: Callable[[type], Mapping[str, str]] | None = None
) -> str:
  """Lists every leaf of a configuration, one a line, marking what differs.

  Args:
    cfg: an instance of a configuration dataclass.
    comments: from a class to what is said about its fields; None: nothing.

  Returns:
    Lines such as `model.d_model = 128   # default 64`, and with comments
    `model.d_model = 128   # default 64; width of the residual stream`.
  """
  usual = default_instance(type(cfg))
  return '\n'.join(_explain(cfg, usual, comments or (lambda _: {})))


def to_dict(cfg: Any) -> dict[str, Any]:
  """Turns a configuration into nested dictionaries that JSON can hold.

  Args:
    cfg: an instance of a configuration dataclass.

  Returns:
    Tuples as lists; where a field offers several classes, or holds one of a
    user's own, the key `class` holds its name. An int in a float field is a
    float here, so that equal configurations are equal text.

  Raises:
    ValueError: for a value that does not have its field's type.
  """
  result = {}
  hints = typing.get_type_hints(type(cfg))
  for field in dataclasses.fields(cfg):
    value, hint = getattr(cfg, field.name), hints[field.name]
    if dataclasses.is_dataclass(value):
      tag = nested_classes(hint) != [type(value)]
      head = {'class': type(value).__name__} if tag else {}
      result[field.name] = {**head, **to_dict(value)}
    elif value is None and is_optional(hint):
      result[field.name] = None
    else:
      name = f'{type(cfg).__name__}.{field.name}'
      value = checked(value, hint, sequence=tuple, name=name)
      result[field.name] = _plain(value)
  return result


def from_dict(
  config_class: type[_T],
  mapping: Mapping[str, Any],
  imported: Sequence[type] = (),
  at: str = '',
) -> _T:
  """Rebuilds what `to_dict` wrote, checking every key and type.

  Args:
    config_class: the class that was written.
    mapping: the nested dictionaries, for example read from JSON.
    imported: classes of a user's own, for fields that take them.
    at: the field that holds it, for messages.

  Returns:
    An instance equal to the one that was written.

  Raises:
    ValueError: for a missing or unknown key or a wrong type, by name.
  """
  if not isinstance(mapping, Mapping):
    raise ValueError(
      f'{at or config_class.__name__}: expected a dictionary, got '
      f'{short(mapping)}'
    )
  names = [f.name for f in dataclasses.fields(config_class)]
  wrong = [f'unknown key {short(key)}' for key in mapping if key not in names]
  wrong += [f'missing key {name!r}' for name in names if name not in mapping]
  if wrong:
    raise ValueError(
      f'{at or config_class.__name__}: {"; ".join(wrong)}; written by another '
      f'version of {config_class.__name__}?'
    )
  hints = typing.get_type_hints(config_class)
  values = {}
  for name in names:
    where = f'{at}.{name}' if at else name
    value, hint = mapping[name], hints[name]
    only = nested_classes(hint)
    if value is None and is_optional(hint):
      values[name] = None
    elif only or (protocols(hint) and isinstance(value, Mapping)):
      tag = value.get('class') if isinstance(value, Mapping) else None
      named: dict[Any, type] = {
        cls.__name__: cls for cls in choices(hint, imported)
      }
      if tag is None and len(only) == 1:
        named[None] = only[0]
      if tag not in named:
        own = ', or of a module that --import names' if protocols(hint) else ''
        raise ValueError(
          f"{where}: 'class' is {short(tag)}; it must be one of "
          f'{", ".join(named)}{own}'
        )
      rest: Any = value
      if isinstance(value, Mapping):
        rest = {key: v for key, v in value.items() if key != 'class'}
      values[name] = from_dict(named[tag], rest, imported, at=where)
    else:
      values[name] = checked(value, hint, sequence=list, name=where)
  return config_class(**values)


def with_defaults(cfg: Any, mapping: Mapping[str, Any]) -> dict[str, Any]:
  """What `to_dict` wrote earlier, with the defaults of fields made since.

  Args:
    cfg: a configuration of today.
    mapping: of one of earlier.

  Returns:
    The mapping, with what it lacks.
  """
  usual = default_instance(type(cfg))
  result = {**({} if usual is None else to_dict(usual)), **mapping}
  for field in dataclasses.fields(cfg):
    value, before = getattr(cfg, field.name), mapping.get(field.name)
    if dataclasses.is_dataclass(value) and isinstance(before, Mapping):
      name = type(value).__name__
      if before.get('class', name) == name:
        result[field.name] = with_defaults(value, before)
  return result


def leaves(tree: Any, _at: str = '') -> dict[str, Any]:
  """Flattens nested dictionaries to {'model.d_model': 128, ...}."""
  if not isinstance(tree, Mapping):
    return {_at: tree}
  result = {}
  for key, value in tree.items():
    result.update(leaves(value, f'{_at}.{key}' if _at else key))
  return result


def options(annotation: Any) -> tuple[Any, ...]:
  """What `A | B` offers; of anything but a union itself."""
  is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
  return typing.get_args(annotation) if is_union else (annotation,)


def is_optional(annotation: Any) -> bool:
  """Whether a union offers None."""
  return types.NoneType in options(annotation)


def nested_classes(annotation: Any) -> list[type]:
  """The dataclasses that a field may hold; empty for a plain value."""
  return [*filter(dataclasses.is_dataclass, options(annotation))]


def protocols(annotation: Any) -> list[type]:
  """The Protocols of a field, any class with whose members it may hold."""
  return [o for o in options(annotation) if getattr(o, '_is_protocol', False)]


def choices(annotation: Any, imported: Sequence[type]) -> list[type]:
  """The classes that a field may hold, a user's own among them."""
  classes: list[type] = nested_classes(annotation)
  for protocol in protocols(annotation):
    classes += [cls for cls in imported if not faults(cls, protocol)]
  return classes


def faults(cls: type, protocol: type) -> list[str]:
  """What keeps a class from being what a Protocol describes."""
  found = []
  parameters = vars(cls).get('__dataclass_params__')
  if parameters is None or not parameters.frozen:
    found.append('is not declared @dataclasses.dataclass(frozen=True)')
  fields = getattr(cls, '__dataclass_fields__', {})
  for name in sorted({*vars(protocol), *inspect.get_annotations(protocol)}):
    # A class that inherits from the Protocol has its empty methods.
    own = getattr(cls, name, None)
    is_empty = own is None or own is getattr(protocol, name, None)
    if not name.startswith('_') and is_empty and name not in fields:
      found.append(f'lacks {name}')
  return found


def field_default(field: dataclasses.Field) -> Any:
  """The field's default, or dataclasses.MISSING."""
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return field.default


def default_instance(cls: type) -> Any:
  """The class without arguments, or None where a field has no default."""
  defaults = [field_default(f) for f in dataclasses.fields(cls)]
  return None if dataclasses.MISSING in defaults else cls()


def require_at_least(cfg: Any, names: str, least: float) -> None:
  """Refuses a configuration if one of some fields, apart by blanks, is less."""
  for name in names.split():
    if getattr(cfg, name) < least:
      raise ValueError(
        f'{type(cfg).__name__}.{name} = {getattr(cfg, name)}; use {least} or '
        'more'
      )


def checked(value: Any, annotation: Any, sequence: type, name: str) -> Any:
  """Returns the value as the annotation wants it.

  Args:
    value: what the code, gin or JSON gave.
    annotation: bool, int, float, str, None, a Literal, a tuple or a union.
    sequence: the type in which tuples arrive: tuple (gin) or list (JSON).
    name: the field, for the message.

  Returns:
    The value; ints are floats where floats are wanted, lists are tuples.

  Raises:
    ValueError: for a value of another type, with what to write instead; and
      for an annotation that a field cannot have.
  """
  try:
    return _convert(value, annotation, sequence)
  except OverflowError:
    raise ValueError(f'{name} = {short(value)} is too large') from None
  except ValueError as error:
    raise ValueError(f'{name} = {short(value)} {error}') from None


def short(value: Any) -> str:
  """The value as text for a message, cut where it is long."""
  text = repr(value)
  return text if len(text) <= 80 else text[:77] + '...'


def _convert(value: Any, annotation: Any, sequence: type) -> Any:
  args = typing.get_args(annotation)
  if len(options(annotation)) > 1:
    return _convert_union(value, args, sequence)
  if typing.get_origin(annotation) is typing.Literal:
    if any(type(value) is type(arg) and value == arg for arg in args):
      return value
    raise ValueError(f'is no choice; write {" or ".join(map(repr, args))}')
  if typing.get_origin(annotation) is tuple:
    return _convert_tuple(value, args, sequence)
  if annotation not in _EXAMPLES:
    raise ValueError(
      f'is refused: a field cannot be {annotation}; use bool, int, float, str, '
      'None, tuple[...], Literal, a frozen dataclass or a union of these'
    )
  if annotation is float and type(value) is int:
    value = float(value)
  if type(value) is not annotation:
    remedy = _EXAMPLES[annotation]
    if annotation is int and type(value) is float and value.is_integer():
      remedy = str(int(value))  # 1e6 is the usual slip
    raise ValueError(
      f'is {type(value).__name__}, not {annotation.__name__}; write {remedy}'
    )
  if annotation is float and not math.isfinite(value):
    raise ValueError('is not finite; write a finite number')
  return value


def _convert_union(value: Any, options: tuple, sequence: type) -> Any:
  reasons = []
  for option in options:
    if protocols(option):
      reasons.append('for a class of your own write @ClassName()')
      continue
    try:
      return _convert(value, option, sequence)
    except ValueError as error:
      reasons.append(str(error))
  raise ValueError(', and '.join(reasons))


def _convert_tuple(value: Any, args: tuple, sequence: type) -> tuple:
  if type(value) is not sequence:
    parts = value if isinstance(value, (list, tuple)) else (value,)
    raise ValueError(
      f'is {type(value).__name__}, not {sequence.__name__}; write '
      f'{short(sequence(parts))}'
    )
  if args[-1] is Ellipsis:
    args = (args[0],) * len(value)
  if len(args) != len(value):
    raise ValueError(f'has {len(value)} elements; write {len(args)}')
  return tuple(
    _convert(v, a, sequence) for v, a in zip(value, args, strict=True)
  )


def _plain(value: Any) -> Any:
  return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _explain(
  cfg: Any,
  default: Any,
  comments: Callable[[type], Mapping[str, str]],
  at: str = '',
) -> Iterator[str]:
  hints, said = typing.get_type_hints(type(cfg)), comments(type(cfg))
  for field in dataclasses.fields(cfg):
    value, name = getattr(cfg, field.name), at + field.name
    usual = getattr(default, field.name, field_default(field))
    hint, is_class = hints[field.name], dataclasses.is_dataclass(value)
    is_same = type(value) is type(usual) if is_class else value == usual
    words = [] if is_same else [f'default {_show(usual)}']
    if usual is dataclasses.MISSING:
      words = ['no default']
    words += [said[field.name]] if field.name in said else []
    mark = f'   # {"; ".join(words)}' if words else ''
    if (
      not is_class or is_optional(hint) or nested_classes(hint) != [type(value)]
    ):
      yield f'{name} = {_show(value)}{mark}'
    if is_class:
      usual = usual if is_same else default_instance(type(value))
      yield from _explain(value, usual, comments, at=f'{name}.')


def _show(value: Any) -> str:
  """The value as a gin file would say it."""
  is_class = dataclasses.is_dataclass(value)
  return f'@{type(value).__name__}()' if is_class else repr(value)
