"""Models that are asked for text: a checkpoint of ours, or behind an endpoint.

Both take requests in the form of OpenAI's chat completions; of a checkpoint
`messages`, `seed`, `temperature` and `max_tokens` count.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llm_jax import endpoint
from llm_jax.agent import turns
from llm_jax.infer import generate
from llm_jax.train import checkpoint


class Writer(NamedTuple):
  """A model that can be asked."""

  name: str  # for people
  who: str  # tells its answers from those of others
  ask_fn: endpoint.AskFn
  is_chat: bool  # else it continues text


def of_endpoint(url: str, model: str, n_threads: int) -> Writer:
  """A model behind an endpoint, asked so many requests at once."""
  server = endpoint.Endpoint(url, model)

  def ask(requests, on_reply):
    endpoint.ask_all(server, requests, on_reply, n_threads=n_threads)

  return Writer(model, f'{model} at {url}', ask, is_chat=True)


def of_checkpoint(folder: str, batch_size: int) -> Writer:
  """The model that a stage left, asked by our engine in so many rows.

  An answer depends on its request alone, whatever is asked beside it.
  """
  loaded = checkpoint.load_model(folder)
  model = turns.of_checkpoint(loaded)
  chat_format = model.chat_format

  def ask(
    requests: Sequence[endpoint.Request],
    on_reply: Callable[[endpoint.Request, endpoint.Reply], object],
  ) -> None:
    # Requests differ in messages and seed.
    n_new = requests[0]['max_tokens']
    most = loaded.model_config.max_length - n_new
    fitting, prompts = [], []
    for request in requests:
      ids = chat_format.prompt(request['messages'])
      if len(ids) > most:
        fault = f'the prompt has more than the {most} tokens that fit'
        on_reply(request, endpoint.Reply('', fault))
      else:
        fitting.append(request)
        prompts.append(ids)

    def on_answer(i: int, answer: generate.Answer) -> None:
      text = chat_format.text(answer.token_ids)
      fault = '' if answer.stopped else endpoint.NO_END
      on_reply(fitting[i], endpoint.Reply(text, fault))

    if fitting:
      turns.answers(
        model,
        prompts,
        seeds=[request['seed'] for request in fitting],
        request=generate.Request(
          max_new_tokens=n_new,
          stop_ids=chat_format.stop_ids,
          temperature=requests[0]['temperature'],
        ),
        batch_size=batch_size,
        on_answer=on_answer,
      )

  name = f'{loaded.stage}, step {loaded.step}'
  return Writer(name, loaded.fingerprint, ask, is_chat=loaded.is_chat)
