"""Answers to a list of prompts, or to one as a stream.

What callers without a queue of their own use; the work is that of engine.py.
"""

from collections.abc import Callable, Iterator, Sequence

from jax.sharding import Mesh

from llm_jax import types
from llm_jax.infer import engine, requests, slots
from llm_jax.model import config

Answer = engine.Answer
Request = requests.Request

STREAM_CHUNK = 4  # tokens that come together


def generate(
  cfg: config.ModelConfig,
  params: types.Params,
  prompts: Sequence[Sequence[int]],
  seeds: Sequence[int],
  request: Request,
  batch_size: int,
  mesh: Mesh | None = None,
  on_answer: Callable[[int, Answer], object] | None = None,
  token_bytes: Callable[[int], bytes] | None = None,
) -> list[Answer]:
  """Continue prompts, batch_size at a time, in shapes that do not vary.

  Args:
    cfg: the model.
    params: its parameters.
    prompts: token ids of each prompt, at least one id each.
    seeds: one for each prompt, in [0, 2^32); the same prompt, seed and
      request give the same answer in any batch.
    request: length limit, stop tokens and temperature of all of them.
    batch_size: rows that run together; the next prompt takes the row of an
      answer that has ended.
    mesh: where the parameters live, to split rows over it; None: one device.
    on_answer: called with the index of a prompt as soon as its answer ends.
    token_bytes: of a token id; for stop strings.

  Returns:
    One answer a prompt, in order.

  Raises:
    ValueError: if a prompt is empty or leaves no room for max_new_tokens.
  """
  if len(prompts) != len(seeds):
    raise ValueError(
      f'{len(prompts)} prompts but {len(seeds)} seeds; give one seed a prompt'
    )
  bucket, plan = plan_for(
    cfg, prompts, request=request, batch_size=batch_size, mesh=mesh
  )
  rows = engine.Engine(plan, params, min_bucket=bucket, token_bytes=token_bytes)
  for prompt, seed in zip(prompts, seeds, strict=True):
    rows.submit(prompt, seed, request)
  answers: dict[int, Answer] = {}
  while not rows.is_idle:
    for update in rows.step():
      if update.answer is not None:
        answers[update.number] = update.answer
        if on_answer is not None:
          on_answer(update.number, update.answer)
  return [answers[number] for number in range(len(prompts))]


def stream(
  cfg: config.ModelConfig,
  params: types.Params,
  prompt: Sequence[int],
  seed: int,
  request: Request,
) -> Iterator[int]:
  """Continue one prompt, token by token as they come.

  Args:
    cfg: the model.
    params: its parameters.
    prompt: token ids.
    seed: seed of the request; gives the same tokens as `generate`.
    request: length limit, stop tokens and temperature.

  Yields:
    Token ids; the stop token is the last if one was drawn.
  """
  n_slots, max_chunk = cfg.max_length, STREAM_CHUNK
  plan = slots.Plan(cfg, n_rows=1, n_slots=n_slots, max_chunk=max_chunk)
  row = engine.Engine(plan, params)
  row.submit(prompt, seed, request)
  while not row.is_idle:
    for update in row.step():
      yield from update.token_ids


def plan_for(
  cfg: config.ModelConfig,
  prompts: Sequence[Sequence[int]],
  request: Request,
  batch_size: int,
  mesh: Mesh | None,
) -> tuple[int, slots.Plan]:
  """Rows that hold any of the prompts with its answer; see `generate`.

  Returns:
    The length that prompts are padded to, and the rows.
  """
  check(cfg, prompts, request)
  bucket = engine.bucket(max(map(len, prompts)))
  n_slots = min(bucket + request.max_new_tokens, cfg.max_length)
  return bucket, slots.Plan(cfg, batch_size, n_slots, mesh=mesh)


def check(
  cfg: config.ModelConfig, prompts: Sequence[Sequence[int]], request: Request
) -> None:
  """Refuse prompts that cannot be continued as asked; see requests.check.

  Args:
    cfg: the model.
    prompts: token ids of each prompt.
    request: how they are to be continued.

  Raises:
    ValueError: if there is no prompt, or for the first that cannot be.
  """
  if not prompts:
    raise ValueError('no prompts to continue; give at least one')
  for i, prompt in enumerate(prompts):
    n_slots, name = cfg.max_length, f'prompt {i}'
    requests.check(cfg, prompt, request, n_slots=n_slots, name=name)
