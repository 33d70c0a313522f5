"""What may be asked by HTTP; a field that does nothing here is refused."""

import json
from typing import Annotated, Any, Literal

import jsonschema
import pydantic

from llm_jax.chat import forms
from llm_jax.infer import slots

_MOST_TEXT = 1 << 20  # characters of a message or a prompt


def _encodable(text: str) -> str:
  text.encode()  # JSON lets half a character through; its error is a ValueError
  return text


Text = Annotated[
  str,
  pydantic.Field(max_length=_MOST_TEXT),
  pydantic.AfterValidator(_encodable),
]
_StopText = Annotated[Text, pydantic.Field(min_length=1, max_length=1000)]
_Ids = Annotated[
  list[Annotated[int, pydantic.Field(ge=0, lt=1 << 31)]],
  pydantic.Field(min_length=1, max_length=_MOST_TEXT),
]
_Number = Annotated[float, pydantic.Field(ge=-2, le=2)]
_Length = Annotated[int, pydantic.Field(ge=1, lt=1 << 31)]
_Bias = Annotated[float, pydantic.Field(ge=-100, le=100)]
_Top = Annotated[int, pydantic.Field(ge=0, le=slots.MAX_TOP)]


def _json_schema(value: dict[str, Any]) -> dict[str, Any]:
  _encodable(json.dumps(value, ensure_ascii=False))
  try:
    jsonschema.Draft202012Validator.check_schema(value)
  except jsonschema.SchemaError as error:
    raise ValueError(error.message) from None
  return value


class Strict(pydantic.BaseModel):
  """Unknown fields are errors, and nothing is converted."""

  model_config = pydantic.ConfigDict(extra='forbid', strict=True)


def _plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """As llm_jax.chat.conversation has them; it checks them once more."""
  _encodable(json.dumps(messages, ensure_ascii=False))
  found = []
  for i, message in enumerate(messages):
    if unknown := message.keys() - _OF_MESSAGE:
      raise ValueError(f'message {i} has {min(unknown)!r}, which does nothing')
    plain = forms.to_message(message)
    if plain['role'] == 'developer':
      plain['role'] = 'system'
    found.append(plain)
  return found


_OF_MESSAGE = {'role', 'content', 'tool_calls', 'tool_call_id'}
_Messages = Annotated[
  list[dict[str, Any]],
  pydantic.Field(min_length=1, max_length=1000),
  pydantic.AfterValidator(_plain),
]


class Function(Strict):
  """What a model is told of a tool."""

  name: Annotated[str, pydantic.Field(pattern=r'^[a-zA-Z0-9_-]{1,64}$')]
  description: Text = ''
  parameters: Annotated[
    dict[str, Any], pydantic.AfterValidator(_json_schema)
  ] = {}


class Tool(Strict):
  """A function that the client runs."""

  type: Literal['function']
  function: Function


class StreamOptions(Strict):
  """Of a stream."""

  include_usage: bool | None = None


class ResponseFormat(Strict):
  """Text; nothing here can hold a model to JSON."""

  type: Literal['text']


class Sampling(Strict):
  """What both ways to ask share; null is the same as nothing."""

  model: Text
  stream: bool | None = None
  stream_options: StreamOptions | None = None
  n: Annotated[int, pydantic.Field(ge=1, le=128)] | None = None
  seed: Annotated[int, pydantic.Field(ge=0, lt=1 << 32)] | None = None
  stop: (
    _StopText | Annotated[list[_StopText], pydantic.Field(max_length=16)] | None
  ) = None
  temperature: Annotated[float, pydantic.Field(ge=0, le=2)] | None = None
  top_p: Annotated[float, pydantic.Field(ge=1e-6, le=1)] | None = None
  top_k: Annotated[int, pydantic.Field(ge=0, lt=1 << 31)] | None = None
  min_p: Annotated[float, pydantic.Field(ge=0, le=1)] | None = None
  repetition_penalty: (
    Annotated[float, pydantic.Field(ge=1e-3, le=100)] | None
  ) = None
  presence_penalty: _Number | None = None
  frequency_penalty: _Number | None = None
  logit_bias: (
    Annotated[
      dict[Annotated[str, pydantic.Field(pattern=r'^[0-9]{1,9}$')], _Bias],
      pydantic.Field(max_length=1024),
    ]
    | None
  ) = None
  min_tokens: Annotated[int, pydantic.Field(ge=0, lt=1 << 31)] | None = None
  ignore_eos: bool | None = None
  user: Text | None = None  # of no effect, as at OpenAI's

  @property
  def stops(self) -> list[str]:
    """Stop strings."""
    return [self.stop] if isinstance(self.stop, str) else self.stop or []

  @property
  def n_choices(self) -> int:
    """Answers to each prompt."""
    return self.n or 1

  @pydantic.field_validator(
    'stream_options', 'top_logprobs', check_fields=False
  )
  @classmethod
  def _has_what_it_is_about(cls, value, info):
    other = 'stream' if info.field_name == 'stream_options' else 'logprobs'
    if value is not None and not info.data.get(other):
      raise ValueError(f'it needs {other}')
    return value


class Chat(Sampling):
  """POST /v1/chat/completions."""

  messages: _Messages
  max_tokens: _Length | None = None
  max_completion_tokens: _Length | None = None
  logprobs: bool | None = None
  top_logprobs: _Top | None = None
  tools: Annotated[list[Tool], pydantic.Field(max_length=128)] | None = None
  tool_choice: Literal['none', 'auto'] | None = None
  response_format: ResponseFormat | None = None

  @property
  def n_new(self) -> int | None:
    """Tokens of an answer, at most; None: as many as there is room for."""
    return self.max_completion_tokens or self.max_tokens

  @property
  def n_listed(self) -> int:
    """Likely tokens that are told of each place."""
    return self.top_logprobs or 0

  @property
  def n_top(self) -> int:
    """Those that are computed: one where only the drawn tokens are told."""
    return max(1, self.n_listed) if self.logprobs else 0


class Completion(Sampling):
  """POST /v1/completions."""

  prompt: (
    Text
    | _Ids
    | Annotated[list[Text | _Ids], pydantic.Field(min_length=1, max_length=256)]
  )
  max_tokens: Annotated[int, pydantic.Field(ge=0, lt=1 << 31)] | None = None
  logprobs: _Top | None = None
  echo: bool | None = None
  return_tokens_as_token_ids: bool | None = None
  add_special_tokens: bool | None = None  # None: yes

  @property
  def n_new(self) -> int:
    """Tokens of an answer, at most; 0: only the prompt is scored."""
    return 16 if self.max_tokens is None else self.max_tokens

  @property
  def n_listed(self) -> int:
    """Likely tokens that are told of each place."""
    return self.logprobs or 0

  @property
  def n_top(self) -> int:
    """Those that are computed: one where only the drawn tokens are told."""
    return 0 if self.logprobs is None else max(1, self.logprobs)


class Tokenize(Strict):
  """POST /tokenize."""

  model: Text = ''  # empty: the first one
  prompt: Text | None = None
  messages: _Messages | None = None
  add_generation_prompt: bool | None = None  # None: where there is a question
  add_special_tokens: bool | None = None  # None: yes
  return_token_strs: bool | None = None

  @pydantic.model_validator(mode='after')
  def _one_of_them(self):
    if (self.prompt is None) == (self.messages is None):
      raise ValueError('give prompt or messages, one of them')
    return self


class Detokenize(Strict):
  """POST /detokenize."""

  model: Text = ''  # empty: the first one
  tokens: Annotated[list[int], pydantic.Field(max_length=_MOST_TEXT)]


class Battle(Strict):
  """POST /arena/battles."""

  messages: _Messages


class Vote(Strict):
  """POST /arena/votes."""

  battle: Text
  vote: Literal['a', 'b', 'tie', 'both_bad']


class Attention(Strict):
  """POST /inside/attention."""

  model: Text
  tokens: _Ids
  layer: Annotated[int, pydantic.Field(ge=0)]
  head: Annotated[int, pydantic.Field(ge=0)]


class Neighbours(Strict):
  """POST /inside/neighbours: plus - minus, as words."""

  model: Text
  plus: Annotated[list[Text], pydantic.Field(min_length=1, max_length=16)]
  minus: Annotated[list[Text], pydantic.Field(max_length=16)] = []
  n: Annotated[int, pydantic.Field(ge=1, le=100)] = 10
