"""What mkdocs builds the site from, beside docs/: its hooks.

  mkdocs build --strict

README.md is the front page. The reference has every flag and every setting of
every recipe, with what its source says of it. Links of a page lead where
GitHub shows the page; here they are turned to the site's pages, and a file of
the repository that one of them names is a page too.
"""

import ast
import dataclasses
import importlib
import pathlib
import posixpath
import re
import sys
import typing
from collections.abc import Iterator
from typing import Any

from mkdocs.structure import files as mkdocs_files

_ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))

from experiments import recipe_flags  # noqa: E402
from llm_jax import config, dataclass_json, field_comments  # noqa: E402

RECIPES = (
  'crawl', 'clean', 'train_tokenizer', 'tokenize', 'pretrain', 'sft', 'rl',
  'evaluate', 'report', 'chat',
)  # fmt: skip
_PAGES = {
  'README.md': 'index.md', 'CHANGELOG.md': 'changelog.md', 'LOG.md': 'log.md',
}  # fmt: skip
_LINK = re.compile(r'(?<=\]\()(?!https?://|mailto:|#)([^)#\s]+)')
_LANGUAGES = {'.py': 'python', '.sh': 'bash', '.toml': 'toml', '.gin': 'ini'}


# Hooks of mkdocs -----------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
  """Adds the pages that are not files in docs/."""
  pages = {
    page: with_site_links(_read(path), path) for path, page in _PAGES.items()
  }
  texts = [(path, _read(path)) for path in _PAGES]
  for file in files.documentation_pages():
    texts.append((f'docs/{file.src_uri}', file.content_string))
  for path, text in texts:
    for name in linked_files(text, path):
      fence = f'````{_LANGUAGES.get(pathlib.Path(name).suffix, "")}'
      pages[_site_path(name)] = f'# {name}\n\n{fence}\n{_read(name)}\n````\n'
  pages['reference/recipes.md'] = recipes_page()
  pages['reference/settings.md'] = settings_page()
  for path, text in pages.items():
    inclusion = mkdocs_files.InclusionLevel.INCLUDED
    if path.startswith('source/'):
      inclusion = mkdocs_files.InclusionLevel.NOT_IN_NAV
    files.append(
      mkdocs_files.File.generated(
        config, path, content=text, inclusion=inclusion
      )
    )
  return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
  """Turns the links of a page of docs/ to pages of the site."""
  del config, files
  if page.file.generated_by:
    return markdown
  return with_site_links(markdown, f'docs/{page.file.src_uri}')


# Links ---------------------------------------------------------------------


def linked_files(text: str, path: str) -> set[str]:
  """The repository's files outside docs/ that a page links to."""
  targets = (_target(match[1], path) for match in _LINK.finditer(text))
  return {
    target
    for target in targets
    if _site_path(target).startswith('source/') and (_ROOT / target).is_file()
  }


def with_site_links(text: str, path: str) -> str:
  """The text of the page at `path`, its links as the site has them.

  Args:
    text: Markdown whose links are relative to `path`.
    path: of the page, from the repository's root.

  Returns:
    The text with links relative to the page's place on the site. A link to
    what is not there stays wrong, so that mkdocs names it.
  """
  start = posixpath.dirname(_site_path(path))
  return _LINK.sub(
    lambda match: posixpath.relpath(
      _site_path(_target(match[1], path)), start or '.'
    ),
    text,
  )


def _target(link: str, path: str) -> str:
  return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _site_path(path: str) -> str:
  if path.startswith('docs/'):
    return path.removeprefix('docs/')
  return _PAGES.get(path, f'source/{path}.md')


def _read(path: str) -> str:
  return (_ROOT / path).read_text(encoding='utf-8')


# Reference -----------------------------------------------------------------


def recipes_page() -> str:
  """Every recipe with its flags and its own settings."""
  lines = [
    '# Recipes',
    '',
    'Flags say where and how, settings what is done. A setting is given in a '
    'gin file (`--gin_file`) or on the command line, as in '
    "`--gin_bindings 'Config.seed = 1'`; `--explain` prints all of a command, "
    'and stops.',
    '',
    '## Flags of every recipe',
    '',
    '| Flag | What it says |',
    '| --- | --- |',
  ]
  lines += [
    f'| `--{name}` | {_cell(text)} |'
    for name, (_, _, text) in recipe_flags.SHARED.items()
  ]
  for name in RECIPES:
    module = importlib.import_module(f'experiments.{name}')
    flags = _own_flags(_read(f'experiments/{name}.py'))
    lines += ['', f'## {name}', '', _summary(module.__doc__)]
    if flags:
      lines += ['', '| Flag | What it says |', '| --- | --- |']
      lines += [f'| `--{key}` | {_cell(text)} |' for key, text in flags.items()]
    lines += _table(module.Config)
  return '\n'.join(lines) + '\n'


def settings_page() -> str:
  """Every class of settings, by room, with who uses it."""
  users = {
    cls: names
    for cls, names in setting_classes().items()
    if not (cls.__name__ == 'Config' and _room(cls) == 'experiments')
  }
  lines = [
    '# Settings',
    '',
    'The classes that settings of recipes are grouped in. Each is set by its '
    'name, whichever recipe uses it: `Optimizer.peak_lr = 0.003`.',
  ]
  rooms: dict[str, list[type]] = {}
  for cls in users:
    rooms.setdefault(_room(cls), []).append(cls)
  for room, classes in rooms.items():
    lines += ['', f'## {room}']
    for cls in classes:
      used = ', '.join(f'[{n}](recipes.md#{n})' for n in users[cls])
      lines += ['', f'### {cls.__name__}', '', _summary(cls.__doc__)]
      lines += ['', f'Used by {used}.', *_table(cls)]
  return '\n'.join(lines) + '\n'


def setting_classes() -> dict[type, list[str]]:
  """Every class that a gin file can set, with the recipes that have it."""
  users: dict[type, list[str]] = {}
  for name in RECIPES:
    module = importlib.import_module(f'experiments.{name}')
    for cls, _ in config.classes(module.Config):
      users.setdefault(cls, []).append(name)
  return users


def _room(cls: type) -> str:
  return cls.__module__.removeprefix('llm_jax.').split('.')[0]


def undocumented(cls: type) -> list[str]:
  """Settings of one class of which the source says nothing.

  A field that holds a class is described by that class's docstring.
  """
  comments, hints = field_comments.of(cls), typing.get_type_hints(cls)
  return [
    f'{cls.__name__}.{field.name}'
    for field in dataclasses.fields(cls)
    if field.name not in comments
    and not dataclass_json.nested_classes(hints[field.name])
  ]


def _table(cls: type) -> list[str]:
  fields = dataclasses.fields(cls)
  if not fields:
    return []
  head = ['', '| Setting | Default | What it is |', '| --- | --- | --- |']
  return head + [' | '.join(('', *row, '')).strip() for row in _rows(cls)]


def _rows(cls: type) -> Iterator[tuple[str, str, str]]:
  comments, hints = field_comments.of(cls), typing.get_type_hints(cls)
  for field in dataclasses.fields(cls):
    default = dataclass_json.field_default(field)
    nested = dataclass_json.nested_classes(hints[field.name])
    words = comments.get(field.name, '')
    if nested:
      links = [_class_link(option) for option in nested]
      text = ' or '.join([', '.join(links[:-1]), links[-1]][not links[:-1] :])
      words = f'{words.rstrip(".")}: {text}' if words else text
      shown = _changes(default)
    else:
      shown = '' if default is dataclasses.MISSING else f'`{default!r}`'
      words = words[:1].upper() + words[1:]
    yield f'`{field.name}`', _escape(shown), _escape(words)


def _class_link(cls: type) -> str:
  return f'[{cls.__name__}](settings.md#{cls.__name__.lower()})'


def _changes(default: Any) -> str:
  """A nested default: its class, and what it sets otherwise than that."""
  if default is None:
    return '`None`'
  if default is dataclasses.MISSING:
    return ''
  own = dataclass_json.leaves(dataclass_json.to_dict(type(default)()))
  given = dataclass_json.leaves(dataclass_json.to_dict(default))
  changed = [f'{k} = {v!r}' for k, v in given.items() if own.get(k) != v]
  return f'`@{type(default).__name__}()`' + ''.join(
    f', `{change}`' for change in changed
  )


def _own_flags(source: str) -> dict[str, str]:
  """The flags that a recipe describes in its call of command_line.main."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Call) and ast.unparse(node.func) == (
      'command_line.main'
    ):
      return {
        keyword.arg: ast.literal_eval(keyword.value)
        for keyword in node.keywords
        if keyword.arg
      }
  return {}


def _summary(docstring: str | None) -> str:
  """The prose of a docstring before its sections and examples."""
  text = re.split(r'\n *(?:Attributes:|>>> )', docstring or '')[0]
  paragraphs = [
    ' '.join(paragraph.split())
    for paragraph in text.split('\n\n')
    if not re.match(r'\s*(?:python -m|\.venv|#)', paragraph)
  ]
  return _escape('\n\n'.join(p for p in paragraphs if p))


def _cell(text: str) -> str:
  return _escape(' '.join(text.split()))


def _escape(text: str) -> str:
  return text.replace('|', r'\|').replace('<|', r'&lt;\|').replace('<', '&lt;')
