"""The engine against answers made alone, by a slow reference, or by hand."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.infer import engine, generate, quantize, requests, sampling, slots
from llm_jax.model import config, transformer
from llm_jax.model import params as param_table
from llm_jax.parallel import device_mesh
from tests.model import start_params

CFG = config.ModelConfig(
  vocab_size=50, n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, head_dim=8,
  d_ff=24, max_length=64,
)  # fmt: skip
LINES = param_table.table(CFG)
RANDOM = np.random.default_rng(0)
PROMPTS = [RANDOM.integers(50, size=n).tolist() for n in (3, 7, 1, 12, 5, 3)]
Request = requests.Request


@pytest.fixture(scope='module')
def params():
  tree = start_params.init(CFG)
  # Sharper logits, so that draws and greedy choices differ clearly.
  return tree | {'head': tree['head'] * 6}


def make(params, n_rows=2, **values):
  values = {'n_slots': 40, 'max_chunk': 4, 'cfg': CFG} | values
  own = {k: values.pop(k) for k in ('min_bucket', 'token_bytes') if k in values}
  return engine.Engine(slots.Plan(n_rows=n_rows, **values), params, **own)


def finish(rows, jobs):
  """Answers to (prompt, seed, request), by the order of the jobs."""
  numbers = [rows.submit(*job) for job in jobs]
  answers, pieces = {}, {number: [] for number in numbers}
  while not rows.is_idle:
    for update in rows.step():
      pieces[update.number] += update.token_ids
      if update.answer is not None:
        answers[update.number] = update.answer
        assert pieces[update.number] == update.answer.token_ids
  return [answers[number] for number in numbers]


def ids(answers):
  return [answer.token_ids for answer in answers]


@functools.partial(jax.jit, static_argnums=0)
def forward(cfg, params, tokens_1T):
  positions_1T = jnp.arange(tokens_1T.shape[1])[None]
  hidden_1TD, *_ = transformer.apply(cfg, params, tokens_1T, positions_1T)
  return transformer.unembed(cfg, params, hidden_1TD)[0, :, :50]


def slow_logits(params, tokens):
  """Behind the last token, in one pass without a cache."""
  padded = np.zeros((1, 64), np.int32)
  padded[0, : len(tokens)] = tokens
  return np.asarray(forward(CFG, params, padded))[len(tokens) - 1]


# Lengths, stop tokens and each rule, greedy and drawn.
REQUESTS = [
  Request(9, ()),
  Request(14, (3, 17), temperature=0.0),
  Request(3, (), temperature=0.6, top_k=3),
  Request(11, (7,), top_p=0.7, min_p=0.1),
  Request(13, (), temperature=0.0, repetition_penalty=1.7),
  Request(8, (), banned_ids=tuple(range(25)), temperature=1.4),
]
JOBS = list(zip(PROMPTS, range(6), REQUESTS, strict=True))


@pytest.fixture(scope='module')
def alone(params):
  """Each of JOBS in an engine of its own."""
  return [finish(make(params, 1), [job])[0] for job in JOBS]


@pytest.mark.parametrize(
  'n_rows', [2, *(pytest.param(n, marks=pytest.mark.nightly) for n in (1, 5))]
)
def test_answer_depends_on_neither_neighbours_nor_row(params, alone, n_rows):
  together = finish(make(params, n_rows), JOBS[::-1])[::-1]
  assert ids(together) == ids(alone)
  for got, expected in zip(together, alone, strict=True):
    np.testing.assert_allclose(got.logps, expected.logps, atol=1e-5)
    assert got.stopped == expected.stopped
  assert len(alone[0].token_ids) == 9


@pytest.mark.parametrize(
  'change',
  [
    {'max_chunk': 16},
    {'n_slots': 64},
    *(
      pytest.param(change, marks=pytest.mark.nightly)
      for change in (
        {'min_bucket': 32},
        {'cfg': dataclasses.replace(CFG, unroll_layers=not CFG.unroll_layers)},
      )
    ),
    {'mesh': {'data': 2, 'tensor': 2}},
  ],
)
def test_answer_depends_on_no_shape_or_mesh(params, alone, change):
  if 'mesh' in change:
    mesh = device_mesh.make(device_mesh.MeshConfig(**change['mesh']))
    shardings = param_table.shardings(LINES, mesh)
    params, change = jax.device_put(params, shardings), {'mesh': mesh}
  # Those without rules of their own: the rest takes long to compile.
  assert ids(finish(make(params, 2, **change), JOBS[:2])) == ids(alone[:2])


def test_reads_only_a_bucket_of_the_cache(params, alone, monkeypatch):
  monkeypatch.setattr(engine, '_MIN_READ', 8)
  n_reads = []
  decode = slots.decode

  def spy(plan, n_read, params, state, released_B):
    n_reads.append(n_read)
    # What is not read may hold anything.
    state = dict(state)
    state['cache'] = [
      {k: x.at[:, :, n_read:].set(1e4) for k, x in part.items()}
      for part in state['cache']
    ]
    return decode(
      plan, n_read, params=params, state=state, released_B=released_B
    )

  monkeypatch.setattr(slots, 'decode', spy)
  cfg = dataclasses.replace(CFG, unroll_layers=True)
  jobs = JOBS[:1] + JOBS[2:3]
  got = finish(make(params, 2, cfg=cfg), jobs)
  assert ids(got) == [alone[0].token_ids, alone[2].token_ids]
  assert set(n_reads) == {8, 16}


def test_shared_prompt_is_read_once(params, monkeypatch):
  n_read = []
  prefill = slots.prefill

  def spy(plan, params, prompt_PT, length_P):
    n_read.append(len(prompt_PT))
    return prefill(plan, params, prompt_PT, length_P)

  monkeypatch.setattr(slots, 'prefill', spy)
  jobs = [(PROMPTS[i // 5], i, Request(2 + i % 3, ())) for i in range(15)]
  rows = make(params, 4)
  got = finish(rows, jobs)
  assert sum(n_read) <= 4  # 3 prompts, padded to a power of two
  expected = [finish(make(params, 1), [job])[0] for job in jobs]
  assert ids(got) == ids(expected)
  assert len({tuple(a.token_ids[:2]) for a in got[:5]}) > 1
  assert not rows._prefixes  # nobody waits for them any more


def test_rows_are_refilled(params):
  rows = make(params, 4, max_chunk=2)
  lengths = [2 + 7 * (i % 4 == 0) for i in range(40)]
  finish(rows, [(PROMPTS[0], i, Request(n, ())) for i, n in enumerate(lengths)])
  assert rows.n_drawn == sum(lengths)
  # Batches of four would take 9 steps each, less the token of the start.
  assert rows.n_steps < 60


def test_truncation_keeps_what_sorting_keeps():
  """All paths: the list of the most likely, and the search beyond it."""
  x_BV = RANDOM.normal(size=(256, 256)).astype(np.float32) * 2
  x_BV[:, 200:] = -1e30
  x_BV[5, :8] = 9.0  # ties
  k_B = RANDOM.choice([0, 1, 3, 40, 150, 199], 256)
  p_B = RANDOM.choice([0.05, 0.5, 0.9, 0.999, 1.0], 256).astype(np.float32)
  m_B = RANDOM.choice([0.0, 0.0, 0.02, 0.4], 256).astype(np.float32)
  rules = sampling.Rules(jnp.ones(256), *map(jnp.array, (k_B, p_B, m_B)))
  threshold_B = np.asarray(jax.jit(sampling._threshold)(x_BV, rules))
  n_beyond = 0
  for x_V, k, p, m, threshold in zip(
    x_BV, k_B, p_B, m_B, threshold_B, strict=True
  ):
    order = np.argsort(-x_V, kind='stable')[: k or None]
    mass = np.exp(x_V[order].astype(np.float64) - x_V.max())
    n_kept = (
      int(np.sum(np.cumsum(mass) - mass < p * mass.sum()))
      if p < 1
      else len(order)
    )
    kept = x_V[order][:n_kept]
    least = max(kept.min(), x_V.max() + (np.log(m) if m else -np.inf))
    expected = set(np.flatnonzero(x_V >= least))
    got = set(np.flatnonzero(x_V >= threshold))
    # Sums are rounded, so that the last few of hardly any mass may differ.
    p_V = np.exp(x_V - x_V.max())
    assert p_V[list(got ^ expected)].sum() < 1e-4 * p_V.sum(), (k, p, m)
    n_beyond += len(expected) > sampling._N_LISTED
  assert n_beyond > 10


def test_search_is_exact_to_the_last_bit():
  """256 neighbouring floats, beside the mask of the padding."""
  order = RANDOM.permutation(256)
  x_BV = np.full((1, 512), -1e30, np.float32)
  x_BV[0, :256] = (0x3F800000 + order.astype(np.int32)).view(np.float32)
  for k in (129, 200, 255):
    rules = sampling.Rules(
      jnp.ones(1), jnp.array([k]), jnp.ones(1), jnp.zeros(1)
    )
    threshold = float(sampling._threshold(jnp.array(x_BV), rules)[0])
    assert (x_BV >= threshold).sum() == k


def test_greedy_logps_are_untruncated():
  logits_BV = jnp.array([[1.0, 2.0, 0.5, 1.5] + [-1e30] * 124])
  zero = jnp.zeros(1)
  rules = sampling.Rules(zero, jnp.array([1]), zero + 0.1, zero)
  token_B, logp_B = sampling.sample(logits_BV, rules, jnp.uint32([0]), zero)
  assert token_B.tolist() == [1]
  np.testing.assert_allclose(logp_B[0], jax.nn.log_softmax(logits_BV)[0, 1])


@pytest.mark.parametrize(
  ('temperature', 'truncation', 'n_kept', 'limit'),
  [(2.0, (), 6, 20.5), (1.0, (5, 0.8, 0.0), 3, 13.8)],  # 1 in 1,000
)
def test_draws_follow_the_distribution(temperature, truncation, n_kept, limit):
  """20,000 draws: chi-square with n_kept - 1 degrees of freedom."""
  n = 20_000
  p_V = np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
  padded_V = jnp.full(128, -1e30).at[:6].set(jnp.log(p_V) * temperature)
  rules = sampling.Rules(*(jnp.full(n, x) for x in (temperature, *truncation)))
  tokens, logps = jax.jit(sampling.sample)(
    jnp.broadcast_to(padded_V, (n, 128)), rules,
    jnp.arange(n, dtype=jnp.uint32), jnp.full(n, 3),
  )  # fmt: skip
  p_V = p_V[:n_kept] / p_V[:n_kept].sum()
  counts = np.bincount(tokens, minlength=128)
  assert counts[n_kept:].sum() == 0
  assert ((counts[:n_kept] - n * p_V) ** 2 / (n * p_V)).sum() < limit
  np.testing.assert_allclose(logps, np.log(p_V)[tokens], atol=1e-5)


def test_token_without_mass_is_never_drawn():
  """One token of a block has all of it; numbers at the edges of blocks."""
  p_V = np.zeros(4096, np.float32)
  p_V[64::128] = np.random.default_rng(0).random(32)
  p_V /= p_V.sum()
  cdf_C = np.asarray(jnp.cumsum(jnp.array(p_V).reshape(32, 128).sum(1)))
  edge_C = cdf_C[:-1] / cdf_C[-1]
  below_C = np.nextafter(edge_C, np.float32(0))
  above_C = np.nextafter(edge_C, np.float32(1))
  uniform_B = np.concatenate(
    [edge_C, below_C, np.nextafter(below_C, np.float32(0)), above_C,
     np.float32([0, 1 - 2**-24, 1 - 2**-23])]
  )  # fmt: skip
  p_BV = np.broadcast_to(p_V, (len(uniform_B), 4096))
  token_B = np.asarray(jax.jit(sampling._invert)(p_BV, uniform_B))
  assert set(token_B % 128) == {64}
  assert len(set(token_B)) == 32


def test_repetition_penalty_by_hand(params):
  request = Request(8, (), temperature=0.0, repetition_penalty=1.8)
  jobs = [(prompt, 0, request) for prompt in PROMPTS]
  for prompt, answer in zip(PROMPTS, finish(make(params), jobs), strict=True):
    text = list(prompt)
    for token in answer.token_ids:
      logits_V = slow_logits(params, text).copy()
      seen = sorted(set(text))
      at = logits_V[seen]
      logits_V[seen] = np.where(at > 0, at / 1.8, at * 1.8)
      assert token == logits_V.argmax()
      text.append(token)


def test_padding_of_a_prompt_is_not_seen(params):
  """Token 0 pads prompts; with a penalty that forbids, it must stay."""
  head = params['head'].at[0].set(params['head'][5])  # token 0 as token 5
  request = Request(1, (), temperature=0.0, repetition_penalty=1e6)
  for prompt in ([5], [5, 5, 5]):
    (answer,) = finish(make(params | {'head': head}), [(prompt, 0, request)])
    logits_V = slow_logits(params | {'head': head}, prompt).copy()
    logits_V[5] = -1e9 if logits_V[5] < 0 else 0
    assert answer.token_ids == [logits_V.argmax()]


def test_new_neighbours_do_not_end_an_answer(params):
  """Each start draws in all rows; only that of the new one counts."""
  frequent = tuple(range(40, 48))
  long = (PROMPTS[1], 3, Request(30, frequent, top_k=40))
  jobs = [long] + [(PROMPTS[2], i, Request(1, ())) for i in range(60)]
  got = finish(make(params, 2, max_chunk=1), jobs)[0]
  assert got.token_ids == finish(make(params, 1), [long])[0].token_ids
  assert len(got.token_ids) > 5


def test_choices_are_those_of_the_model(params):
  request = Request(6, (), temperature=0.5, top_k=2)
  rows = make(params, 2, n_top=5)
  answers = finish(rows, [(PROMPTS[0], 0, request), (PROMPTS[1], 1, request)])
  for prompt, answer in zip(PROMPTS[:2], answers, strict=True):
    assert len(answer.choices) == 6
    text = list(prompt)
    for token, choice in zip(answer.token_ids, answer.choices, strict=True):
      logp_V = np.asarray(jax.nn.log_softmax(slow_logits(params, text)))
      np.testing.assert_allclose(choice.logp, logp_V[token], atol=1e-4)
      best = np.argsort(-logp_V)[:5]
      assert choice.top_ids == best.tolist()
      np.testing.assert_allclose(choice.top_logps, logp_V[best], atol=1e-4)
      text.append(token)


def test_stop_string_ends_an_answer_across_tokens(params):
  letters = [bytes([97 + i % 26]) for i in range(128)]
  job = (PROMPTS[0], 4, Request(20, ()))
  (whole,) = finish(make(params, 1), [job])
  text = b''.join(letters[i] for i in whole.token_ids)
  at = next(i for i in range(3, 15) if text.find(text[i : i + 3]) == i)
  stop = text[at : at + 3]
  request = Request(20, (), stop_strings=(b'#', stop, stop[1:] + b'#'))
  rows = make(params, 2, token_bytes=letters.__getitem__)
  jobs = [(PROMPTS[0], 4, request), job, (PROMPTS[0], 4, request)]
  cut, other, again = finish(rows, jobs)
  assert cut.token_ids == again.token_ids == whole.token_ids[: at + 3]
  assert cut.stop_string == stop
  assert cut.stopped
  assert len(cut.logps) == at + 3
  assert other.token_ids == whole.token_ids


def test_cancelled_request_gives_its_row_away(params, alone):
  rows = make(params, 1)
  long = rows.submit(PROMPTS[1], 0, Request(30, ()))
  waiting = rows.submit(PROMPTS[1], 0, Request(30, ()))
  rows.step()
  rows.cancel(long)
  rows.cancel(waiting)
  rows.cancel(12345)
  assert rows.is_idle
  assert ids(finish(rows, JOBS[:1])) == ids(alone[:1])


def n_steps_of_two_tokens(rows):
  """More than one if a row that nobody wants is still at work."""
  before = rows.n_steps
  finish(rows, [(PROMPTS[0], 0, Request(2, ()))])
  return rows.n_steps - before


def test_nobody_waits_for_rows_that_are_released(params):
  rows = make(params, 2, token_bytes=lambda i: b'x')
  for _ in range(2):
    rows.submit(PROMPTS[1], 0, Request(30, ()))
  rows.step()
  rows.cancel(0)
  rows.cancel(1)
  assert n_steps_of_two_tokens(rows) == 1
  request = Request(30, (), stop_strings=(b'xx',))
  finish(rows, [(PROMPTS[1], seed, request) for seed in range(2)])
  assert n_steps_of_two_tokens(rows) == 1


def test_answer_slides_over_the_context(params):
  """Rows of 16 slots; greedy over the last half whenever one is full."""
  request = Request(40, (), temperature=0.0, slides=True)
  prompt = PROMPTS[1]
  rows = make(params, 2, n_slots=16)
  answer, other = finish(rows, [(prompt, 0, request), (prompt, 1, request)])
  text, seen = list(prompt), list(prompt)
  for token in answer.token_ids:
    if len(seen) == 16:
      seen = seen[-8:]
    assert token == slow_logits(params, seen).argmax()
    text.append(token)
    seen.append(token)
  assert len(answer.token_ids) == len(other.token_ids) == 40
  assert not answer.stopped
  rows = make(params, 1, n_slots=16)  # it keeps its turn
  rows.submit(prompt, 0, request)
  rows.submit(prompt, 0, Request(2, ()))
  ended = [u.number for _ in range(20) for u in rows.step() if u.answer]
  assert ended == [0, 1]


def test_sliding_draws_are_all_different(params):
  """All tokens alike: a position drawn again would repeat a token."""
  flat = params | {'head': 0 * params['head']}
  request = Request(60, (), slides=True)
  (answer,) = finish(make(flat, 1, n_slots=16), [(PROMPTS[0], 0, request)])
  for start in range(8):
    assert answer.token_ids[13 + start : 21 + start] != answer.token_ids[5:13]
  assert len(set(answer.token_ids)) > 25


def test_on_answer_is_called_as_soon_as_one_ends(params):
  called = []
  answers = generate.generate(
    CFG, params, PROMPTS[:3], [1, 2, 3], Request(20, (17,)), 2,
    on_answer=lambda index, answer: called.append((index, answer.token_ids)),
  )  # fmt: skip
  assert sorted(called) == list(enumerate(ids(answers)))


@pytest.mark.parametrize('int8_cache', [False, True])
def test_int8_is_near_the_floats(params, int8_cache):
  """Greedy over 12 tokens: the logps that each form gives to its own."""
  request = Request(12, (), temperature=0.0)
  rounded = params if int8_cache else quantize.int8(params, LINES)
  rows = make(rounded, 2, int8_cache=int8_cache, n_top=1)
  for prompt, answer in zip(
    PROMPTS, finish(rows, [(p, 0, request) for p in PROMPTS]), strict=True
  ):
    text = list(prompt)
    for token, logp in zip(answer.token_ids, answer.logps, strict=True):
      exact = jax.nn.log_softmax(slow_logits(params, text))[token]
      assert abs(logp - exact) < 0.15
      text.append(token)
  n_bytes = sum(x.nbytes for x in jax.tree.leaves(rounded))
  if not int8_cache:
    floats = sum(x.nbytes for x in jax.tree.leaves(params))
    assert n_bytes < 0.5 * floats  # of 16 numbers each has a scale of 4 bytes


def test_int8_rounds_to_half_a_step(params):
  rounded = quantize.int8(params, LINES)
  back = quantize.as_arrays(rounded, 'float32')
  for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True):
    assert x.shape == y.shape
    # Of the largest number; a scale of its own for each output is finer.
    assert float(jnp.abs(x - y).max()) <= float(jnp.abs(x).max()) / 254 * 1.01
  scale = rounded['layers']['wo'].scale
  assert scale.shape == (CFG.n_layers, 1, 1, CFG.d_model)


BAD_JOBS = [
  ([1], 2**32, {}, 'seed 4294967296; use an integer from 0'),
  ([1], -1, {}, 'seed -1; use'),
  ([1], 0.5, {}, 'seed 0.5; use'),
  ([], 0, {}, 'the prompt is empty'),
  ([1, 50], 0, {}, 'the prompt: 50 is no token; ids are integers from 0 to 49'),
  ([-1], 0, {}, 'the prompt: -1 is no token'),
  ([1.5], 0, {}, 'the prompt: 1.5 is no token'),
  ([1], 0, {'banned_ids': (3, 50)}, 'banned_ids: 50 is no token'),
  ([1], 0, {'banned_ids': (-1,)}, 'banned_ids: -1 is no token'),
  ([1], 0, {'banned_ids': tuple(range(50))}, 'banned_ids are all 50 tokens'),
  ([1], 0, {'stop_ids': (128,)}, 'stop_ids: 128 is no token'),
  ([1], 0, {'stop_ids': tuple(range(9))}, 'stop_ids .*; use at most 8'),
  ([1], 0, {'stop_strings': ('a',)}, 'stop_strings .*; use bytes'),
  ([1], 0, {'stop_strings': (b'',)}, 'stop_strings .*; use bytes'),
  ([1], 0, {'stop_strings': (b'a',)}, 'need the bytes of tokens'),
  ([1] * 31, 0, {}, 'has 31 tokens; with max_new_tokens 10 it exceeds the 40'),
  *(
    ([1], 0, {name: value}, f'{name} {value}; use ')
    for name, values in (
      ('temperature', (math.inf, math.nan, -0.1, 1e-9, 1e9)),
      ('max_new_tokens', (0, -3, 2.5)),
      ('top_k', (-1, 2**31, 0.5)),
      ('top_p', (0, 1e-9, 1.1, math.nan)),
      ('min_p', (-0.1, 1.1, math.nan)),
      ('repetition_penalty', (0, -1, math.inf, math.nan, 1e-9)),
    )
    for value in values
  ),
]


def test_what_cannot_be_done_is_refused_and_the_others_are_served(params):
  """At submit, before, between and after the steps of other requests."""
  rows = make(params, 1)

  def submit(prompt, seed, rules):
    rules = {'max_new_tokens': 10, 'stop_ids': ()} | rules
    rows.submit(prompt, seed, Request(**rules))

  def refuse_all():
    for prompt, seed, rules, message in BAD_JOBS:
      with pytest.raises(ValueError, match=message):
        submit(prompt, seed, rules)

  expected = finish(rows, JOBS[:1])
  refuse_all()
  rows.submit(*JOBS[0])
  updates = rows.step()
  refuse_all()
  while not rows.is_idle:
    updates += rows.step()
  assert [u.answer.token_ids for u in updates if u.answer] == ids(expected)


def test_the_last_temperatures_draw_tokens_that_there_are(params):
  """The vocabulary of 50 is padded, and half of it banned."""
  requests_of_each = [
    Request(12, (), temperature=t, banned_ids=tuple(range(25)))
    for t in (0.0, 1e-6, 1e6)
  ]
  jobs = [(PROMPTS[0], 0, request) for request in requests_of_each]
  greedy, coldest, hottest = finish(make(params, 1), jobs)
  assert coldest.token_ids == greedy.token_ids
  assert set(hottest.token_ids) <= set(range(25, 50))
  np.testing.assert_allclose(hottest.logps, -np.log(25), atol=1e-4)


@pytest.mark.parametrize(
  'sizes',
  [{'n_rows': 0}, {'n_slots': 65}, {'n_slots': 0}, {'max_chunk': 0},
   {'min_bucket': 0}, {'n_top': -1}, {'n_top': 51}],
)  # fmt: skip
def test_an_engine_that_cannot_be_is_refused(params, sizes):
  ((name, value),) = sizes.items()
  with pytest.raises(ValueError, match=f'{name} = {value}; use '):
    make(params, **sizes)
