"""Chat templates of Hugging Face, rendered in jinja2's sandbox.

The settings, filters and functions are those that transformers gives to a
template, so that the text is the same. A template is foreign code: it reaches
no attribute that begins with a low line, and changes nothing outside. It can
take long; nothing limits its time.
"""

import datetime
import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils

_GENERATION = re.compile(r'\{%[-+]?\s*generation\s*[-+]?%\}')
_MARKS = 'marks_of_llm_jax'  # in the context of a rendering


class Template:
  """A template, compiled.

  Attributes:
    has_generation: whether it says by {% generation %} what the assistant
      wrote.
  """

  def __init__(self, source: str, variables: Mapping[str, str]):
    """Compile a template.

    Args:
      source: its text.
      variables: what it may read besides the messages, such as bos_token.

    Raises:
      ValueError: if it is no template of jinja2.
    """
    self.has_generation = _GENERATION.search(source) is not None
    self._variables = dict(variables)
    try:
      self._compiled = _environment().from_string(source)
    except jinja2.TemplateError as error:
      raise ValueError(f'the chat template is no jinja2: {error}') from None

  def render(
    self,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool = False,
    marks: tuple[str, str] = ('', ''),
  ) -> str:
    """The text of a conversation.

    Args:
      messages: the conversation.
      add_generation_prompt: end with the beginning of an answer.
      marks: what to put around each block of {% generation %}.

    Raises:
      ValueError: with the template's own words where it refuses the messages.
    """
    values = self._variables | {
      'messages': messages,
      'tools': None,
      'documents': None,
      'add_generation_prompt': add_generation_prompt,
      _MARKS: marks,
    }
    try:
      return self._compiled.render(values)
    except jinja2.TemplateError as error:
      raise ValueError(f'the chat template refuses this: {error}') from None
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
      raise ValueError(
        f'the chat template fails on these messages: {error!r}'
      ) from error


class _Generation(jinja2.ext.Extension):
  """{% generation %}...{% endgeneration %}: what the assistant wrote."""

  tags: typing.ClassVar = {'generation'}

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    call = self.call_method('_marked')
    return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

  @jinja2.pass_context
  def _marked(self, context, caller) -> str:
    start, end = context[_MARKS]
    return start + caller() + end


class _Namespace(jinja2.utils.Namespace):
  """A namespace without names that mean something to Python."""

  def __init__(*args, **kwargs):  # a name may be `self`
    jinja2.utils.Namespace.__init__(args[0])
    for name, value in dict(*args[1:], **kwargs).items():
      args[0][name] = value

  def __setitem__(self, name, value):
    if name.startswith('_'):
      raise jinja2.TemplateError(f'{name} begins with a low line')
    super().__setitem__(name, value)


def _environment() -> jinja2.Environment:
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_Generation, jinja2.ext.loopcontrols],
  )
  environment.filters['tojson'] = _to_json
  environment.globals |= {
    'raise_exception': _raise,
    'strftime_now': lambda form: datetime.datetime.now().strftime(form),
    'namespace': _Namespace,
  }
  return environment


def _to_json(value, ensure_ascii=False, indent=None, **options) -> str:
  options |= {'ensure_ascii': ensure_ascii, 'indent': indent}
  return json.dumps(value, **options)


def _raise(message: str):
  raise jinja2.TemplateError(message)
