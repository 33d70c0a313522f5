"""What may be asked by HTTP; a field that does nothing here is refused."""

from typing import Annotated, Literal

import pydantic

_Stop = str | Annotated[list[str], pydantic.Field(max_length=4)]
_Positive = Annotated[int, pydantic.Field(ge=1, le=1 << 20)]


class Strict(pydantic.BaseModel):
  """Unknown fields are errors, and nothing is converted."""

  model_config = pydantic.ConfigDict(extra='forbid', strict=True)


class Message(Strict):
  """One turn of a conversation."""

  role: Literal['system', 'user', 'assistant']
  content: Annotated[str, pydantic.Field(max_length=1 << 20)]


class StreamOptions(Strict):
  """Of a stream."""

  include_usage: bool | None = None


class Sampling(Strict):
  """What both ways to ask share; null is the same as nothing."""

  model: str
  stream: bool | None = None
  stream_options: StreamOptions | None = None
  n: Annotated[int, pydantic.Field(ge=1, le=128)] | None = None
  seed: Annotated[int, pydantic.Field(ge=0, lt=1 << 32)] | None = None
  stop: _Stop | None = None
  max_tokens: _Positive | None = None
  temperature: Annotated[float, pydantic.Field(ge=0, le=2)] | None = None
  top_p: Annotated[float, pydantic.Field(ge=1e-6, le=1)] | None = None
  top_k: Annotated[int, pydantic.Field(ge=0, lt=1 << 31)] | None = None
  min_p: Annotated[float, pydantic.Field(ge=0, le=1)] | None = None
  repetition_penalty: (
    Annotated[float, pydantic.Field(ge=1e-3, le=100)] | None
  ) = None
  user: str | None = None  # of no effect, as at OpenAI's

  @property
  def stops(self) -> list[str]:
    """Stop strings."""
    return [self.stop] if isinstance(self.stop, str) else self.stop or []

  @pydantic.field_validator('stop')
  @classmethod
  def _not_empty(cls, value):
    if value is not None and '' in ([value] if value == '' else value):
      raise ValueError('a stop string is empty; leave it out')
    return value


class Chat(Sampling):
  """POST /v1/chat/completions."""

  messages: Annotated[
    list[Message], pydantic.Field(min_length=1, max_length=1000)
  ]
  max_completion_tokens: _Positive | None = None
  logprobs: bool | None = None
  top_logprobs: Annotated[int, pydantic.Field(ge=0, le=20)] | None = None


class Completion(Sampling):
  """POST /v1/completions."""

  prompt: str | list[str] | list[int] | list[list[int]]
  logprobs: Annotated[int, pydantic.Field(ge=0, le=20)] | None = None
  return_tokens_as_token_ids: bool | None = None


class Tokenize(Strict):
  """POST /tokenize."""

  model: str
  prompt: str | None = None
  messages: list[Message] | None = None
  add_special_tokens: bool | None = None
  return_token_strs: bool | None = None


class Detokenize(Strict):
  """POST /detokenize."""

  model: str
  tokens: list[int]
