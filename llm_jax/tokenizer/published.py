"""What a published model's files say about the use of its tokens.

`read` finds it in a folder of Hugging Face, and `keep` takes the folder's own
files along, so that an export gives them back byte for byte. It does NOT say
how text becomes ids (see huggingface.py) and renders no template.
"""

import dataclasses
import itertools
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from llm_jax import files

FILE = 'published.json'
TEMPLATES = 'additional_chat_templates'
# Taken along as they are, with *.jinja in TEMPLATES.
KEPT = (
  'tokenizer.json', 'tokenizer.model', 'tokenizer_config.json',
  'special_tokens_map.json', 'added_tokens.json', 'vocab.json', 'merges.txt',
  'chat_template.jinja', 'chat_template.json', 'generation_config.json',
)  # fmt: skip
DEFAULT = 'default'  # the template that is meant where none is named
ID_KEYS = ('bos_token_id', 'eos_token_id', 'pad_token_id')


@dataclasses.dataclass(frozen=True)
class Published:
  """How a published model's tokens are used.

  Attributes:
    prefix_ids: what stands before every text, such as Llama 3's
      <|begin_of_text|>; often nothing. A template writes it itself.
    eos_ids: every id that ends an answer, the most usual first.
    chat_templates: in Jinja; `default` is the one for conversations.
    token_names: the tokens that a template may ask for, as bos_token.
    config_ids: config.json's own bos, eos and pad ids, for an export.
  """

  prefix_ids: tuple[int, ...] = ()
  eos_ids: tuple[int, ...] = ()
  chat_templates: Mapping[str, str] = dataclasses.field(default_factory=dict)
  token_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
  config_ids: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def chat_template(self) -> str | None:
    """The template of conversations; None if the model has none."""
    return self.chat_templates.get(DEFAULT)


def read(folder: files.Name, token_ids: Mapping[str, int]) -> Published:
  """Gather what the files of a model say.

  Args:
    folder: of Hugging Face; files that are missing say nothing.
    token_ids: ids of all tokens by name.

  Raises:
    ValueError: if a token that ends or begins text is not in the vocabulary,
      or a file is damaged.
  """
  folder = pathlib.Path(folder)
  generation = read_object(folder, 'generation_config.json')
  config = read_object(folder, 'config.json')
  settings = read_object(folder, 'special_tokens_map.json')
  settings |= read_object(folder, 'tokenizer_config.json')
  names = _token_names(settings)

  def ids(key: str, *names: str) -> list[int]:
    for name in names:
      if name not in token_ids:
        raise ValueError(
          f'the {key} is {name!r}, which is no token of the vocabulary; '
          'correct tokenizer_config.json'
        )
    return [token_ids[name] for name in names]

  eos_ids: list[int | None] = []
  for given in (generation.get('eos_token_id'), config.get('eos_token_id')):
    eos_ids += given if isinstance(given, list) else [given]
  if 'eos_token' in names:
    eos_ids += ids('eos_token', names['eos_token'])
  bos = ids('bos_token', names['bos_token']) if 'bos_token' in names else []
  # What the settings leave out, config.json may say; what they deny, not.
  given = generation.get('bos_token_id', config.get('bos_token_id'))
  if 'bos_token' not in settings and isinstance(given, int):
    bos = [given]
  templates = _template(folder, settings)
  steps = read_object(folder, 'tokenizer.json').get('post_processor') or {}
  around = _surroundings(steps, [''])
  prefix = ids('prefix', *around[: around.index('')])
  if around == [''] and _begins_with_bos(templates):
    prefix = bos
  # Said in the settings, this overrules the steps.
  if settings.get('add_bos_token') is not None:
    prefix = bos if settings['add_bos_token'] else []
  return Published(
    prefix_ids=tuple(prefix),
    eos_ids=tuple(dict.fromkeys(i for i in eos_ids if i is not None)),
    chat_templates=templates,
    token_names=names,
    config_ids={key: config[key] for key in ID_KEYS if key in config},
  )


def keep(source: files.Name, target: files.Name) -> None:
  """Copy the files of a model that concern its tokens into another folder."""
  source, target = pathlib.Path(source), pathlib.Path(target)
  templates = (source / TEMPLATES).glob('*.jinja')
  for name in (*KEPT, *(f'{TEMPLATES}/{path.name}' for path in templates)):
    if (source / name).is_file():
      (target / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(source / name, target / name)


def save(published: Published, folder: files.Name) -> None:
  """Write it beside a tokenizer, with a checksum of its own."""
  values = dataclasses.asdict(published)
  files.write_checked_json(pathlib.Path(folder) / FILE, values)


def load(folder: files.Name) -> Published | None:
  """What `save` wrote; None for a tokenizer that was not published.

  Raises:
    ValueError: if the file is damaged.
  """
  path = pathlib.Path(folder) / FILE
  if not path.is_file():
    return None
  values = files.read_checked_json(path)
  values |= {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
  known = [field.name for field in dataclasses.fields(Published)]
  return Published(**{name: values[name] for name in known})


def read_object(folder: pathlib.Path, name: str) -> dict[str, Any]:
  """The object in a file of a folder; empty if there is no such file."""
  path = folder / name
  return files.read_object(path) if path.is_file() else {}


def _token_names(settings: Mapping[str, Any]) -> dict[str, str]:
  """bos_token, eos_token and so on: strings, or objects with the string."""
  names = {}
  for key, value in settings.items():
    value = value.get('content') if isinstance(value, Mapping) else value
    if key.endswith('_token') and isinstance(value, str):
      names[key] = value
  return names


def _begins_with_bos(templates: Mapping[str, str]) -> bool:
  """Whether text begins with bos where no step puts it there.

  The first Llama 3 left that to its template; of others, whose template has no
  use for it, the token called bos opens a message, as SmolLM's.
  """
  return not templates or 'bos_token' in templates.get(DEFAULT, '')


def _surroundings(step: Mapping[str, Any], text: list[str]) -> list[str]:
  """A text, which is '', and the names that post-processing puts around it."""
  for inner in step.get('processors', ()):
    text = _surroundings(inner, text)
  if step.get('type') != 'TemplateProcessing':
    return text
  parts = [part.get('SpecialToken', {'id': ''}) for part in step['single']]
  parts = [text if part['id'] == '' else [part['id']] for part in parts]
  return list(itertools.chain.from_iterable(parts))


def _template(
  folder: pathlib.Path, settings: Mapping[str, Any]
) -> dict[str, str]:
  """The chat template; a file of its own counts before settings."""
  path = folder / 'chat_template.jinja'
  if path.is_file():
    return {DEFAULT: path.read_text(encoding='utf-8')}
  old = read_object(folder, 'chat_template.json').get('chat_template')
  given = old or settings.get('chat_template') or {}
  if isinstance(given, list):  # several, by name
    given = {each['name']: each['template'] for each in given}.get(DEFAULT, {})
  return {DEFAULT: given} if isinstance(given, str) else {}
