"""A model from Python: what a checkpoint answers, how likely texts are to it.

  import llm_jax

  model = llm_jax.load('runs/speedrun/rl_seed0')
  model.generate(['The function'], max_new_tokens=20)
  model.chat([{'role': 'user', 'content': 'What is 12 + 7?'}])
  model.logprobs(['The sky is blue.'])  # nats of each token

It answers as the recipes `chat` and `evaluate` do, by the same engine. It does
NOT train, and changes no setting of JAX or of this process.
"""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

import numpy as np

from llm_jax.agent import turns
from llm_jax.chat import conversation, formats, template
from llm_jax.data import preferences
from llm_jax.infer import generate, reading
from llm_jax.interop import (
  gguf_file,
  gguf_tokenizer,
  huggingface,
  tokenizer_files,
)
from llm_jax.model import value_head
from llm_jax.parallel import device_mesh
from llm_jax.train import checkpoint


class Sampling(TypedDict, total=False):
  """How tokens are drawn. What is left out has the value given here."""

  max_new_tokens: int  # 128; fewer where the model can read no more
  temperature: float  # 0.7; 0 is greedy
  top_k: int  # 0: of all tokens; else of the so many likeliest
  top_p: float  # 1.0; mass of the likeliest tokens that are kept
  min_p: float  # 0.0; least probability, as a share of the likeliest one's
  repetition_penalty: float  # 1.0; of tokens that were there before
  stop: Sequence[str]  # (); texts that end an answer, and are no part of it
  seed: int  # 0; text i is drawn with seed + i
  batch_size: int  # 16; texts computed together, which changes no answer


class Model(turns.Model):
  """A model that is in memory; see `load`.

  It has `config` (sizes and layout), `params`, `tokenizer` (`encode(text)` to
  ids, `decode(ids)` to text) and `chat_format`, how it is spoken to.
  """

  def generate(
    self, texts: Sequence[str], **sampling: Unpack[Sampling]
  ) -> list[str]:
    """Continue texts, each as the beginning of a document.

    A continuation that outgrows what the model can read goes on from its last
    half.

    Args:
      texts: what is continued.
      **sampling: see Sampling.

    Returns:
      The continuations, without the texts.

    Raises:
      ValueError: for a single text, one that is too long, or a number out of
        its range.
    """
    asked = [formats.question(text) for text in _listed(texts)]
    return self._answers(asked, formats.Plain(self.tokenizer), sampling)

  def chat(
    self, messages: Sequence[Mapping[str, str]], **sampling: Unpack[Sampling]
  ) -> str:
    """Answer a conversation.

    Args:
      messages: in OpenAI's form, {'role': ..., 'content': ...}, up to one of
        the user.
      **sampling: see Sampling.

    Returns:
      What the assistant says.

    Raises:
      ValueError: if the model was not trained on conversations, these are
        none, or they leave no room for an answer.
    """
    if not self.chat_format.is_chat:
      raise ValueError(
        'this model was not trained on conversations; use generate, or '
        'fine-tune it with experiments.sft'
      )
    return self._answers([messages], self.chat_format, sampling)[0]

  def score(
    self, conversations: Sequence[Sequence[Mapping[str, str]]]
  ) -> list[float]:
    """What a reward model makes of the last answer of each conversation.

    Args:
      conversations: in OpenAI's form, each up to one of the assistant.

    Raises:
      ValueError: if the model is no reward model, a conversation is none or
        ends without an answer, or one is too long.
    """
    if value_head.NAME not in self.params:
      raise ValueError(
        'this model scores nothing; load the folder of experiments.reward_model'
      )
    pairs = []
    for messages in conversations:
      last = {'role': ''} if not messages else messages[-1]
      if last['role'] != conversation.ASSISTANT:
        raise ValueError('a conversation ends without an answer to score')
      row = self.chat_format.rows(messages)[-1]
      pairs.append(preferences.Answer(*row, rank=0).parts)
    return reading.scores(
      self.config, self.params, pairs, batch_size=16
    ).tolist()

  def logprobs(
    self, texts: Sequence[str], batch_size: int = 16
  ) -> list[np.ndarray]:
    """How likely texts are, token by token.

    Args:
      texts: each the beginning of a document.
      batch_size: texts computed together.

    Returns:
      For each text log p(token | tokens before it) in nats, of every token
      that `tokenizer.encode(text)` gives.

    Raises:
      ValueError: for a single text, or one that is too long.
    """
    pairs = [(self._start, self.tokenizer.encode(x)) for x in _listed(texts)]
    there = [pair for pair in pairs if pair[1]]  # of an empty text is no token
    found = iter(
      reading.logp(self.config, self.params, there, batch_size=batch_size)
    )
    return [next(found) if ids else np.zeros(0) for _, ids in pairs]

  def embed(self, texts: Sequence[str], batch_size: int = 16) -> np.ndarray:
    """Texts as vectors: the mean of the last layer over their tokens.

    Args:
      texts: none of them empty.
      batch_size: texts computed together.

    Returns:
      A row of d_model numbers for each, float32, of no fixed length.

    Raises:
      ValueError: for a single text, or one that is empty or too long.
    """
    pairs = [(self._start, self.tokenizer.encode(x)) for x in _listed(texts)]
    return reading.mean_hidden(
      self.config, self.params, pairs, batch_size=batch_size
    )

  @property
  def _start(self) -> tuple[int, ...]:
    """What a first token follows, of a model without a bos too."""
    return self.tokenizer.prefix_ids or (self.tokenizer.separator_id,)

  def _answers(
    self,
    asked: Sequence[Sequence[Mapping[str, str]]],
    chat_format: template.Format,
    sampling: Sampling,
  ) -> list[str]:
    if not asked:
      return []
    prompts = [*map(chat_format.prompt, asked)]
    options = {'max_new_tokens': 128, 'temperature': 0.7, **sampling}
    seed, batch_size = options.pop('seed', 0), options.pop('batch_size', 16)
    stop = [text.encode() for text in _listed(options.pop('stop', ()))]
    room = self.config.max_length - max(map(len, prompts))
    if chat_format.is_chat:
      options['max_new_tokens'] = max(1, min(room, options['max_new_tokens']))
    answers = turns.answers(
      self,
      prompts,
      seeds=[(seed + i) % 2**32 for i in range(len(prompts))],
      request=generate.Request(
        stop_ids=chat_format.stop_ids,
        stop_strings=tuple(stop),
        slides=not chat_format.is_chat,
        **options,
      ),
      batch_size=min(batch_size, len(prompts)),
    )
    found = []
    for answer in answers:
      text = chat_format.text(answer.token_ids)
      ends = [text.find(one.decode()) for one in stop]
      found.append(text[: min([i for i in ends if i >= 0], default=None)])
    return found


def load(path: str | os.PathLike[str]) -> Model:
  """Load a model onto the first device.

  Args:
    path: folder of a pretrain, sft or rl stage, or of a published model with
      config.json, safetensors and its tokenizer, or a GGUF file.

  Returns:
    The model.

  Raises:
    FileNotFoundError: if there is neither.
    ValueError: if it is damaged, or of a class that we do not have.
  """
  path = os.fspath(path)
  gguf = gguf_file.find(path)
  if gguf is not None or os.path.exists(os.path.join(path, 'config.json')):
    return _load_published(path, gguf)
  _, saved = checkpoint.read_model_file(path)
  loaded = checkpoint.load_model(
    path, has_values=saved['stage'] == checkpoint.SCORING_STAGE
  )
  return Model(**vars(turns.of_checkpoint(loaded)))


def _load_published(folder: str, gguf: pathlib.Path | None) -> Model:
  with tempfile.TemporaryDirectory() as scratch:
    if gguf is None:
      cfg, flat = huggingface.read(folder)
    else:
      cfg, flat, known = gguf_file.read(gguf)
      gguf_tokenizer.write(known, scratch)
      folder = scratch
    tokenizer = tokenizer_files.read(folder, cfg.vocab_size)
  is_chat = tokenizer.chat_template is not None
  return Model(
    config=dataclasses.replace(cfg, unused_ids=tokenizer.unused_ranges),
    params=huggingface.place(
      cfg, flat, mesh=device_mesh.make(device_mesh.MeshConfig(data=1))
    ),
    tokenizer=tokenizer,
    chat_format=formats.choose(tokenizer, is_chat),
  )


def _listed(texts: Sequence[str]) -> Sequence[str]:
  """Refuses one text in place of several, whose letters would be texts."""
  if isinstance(texts, str):
    raise ValueError(f'one text {texts[:40]!r}; put it into a list')
  return texts
