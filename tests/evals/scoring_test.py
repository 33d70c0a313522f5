"""Scoring against answers that the test writes itself."""

import re

import pytest

from llm_jax.agent import turns
from llm_jax.chat import formats, template
from llm_jax.evals import scoring
from llm_jax.infer import generate
from llm_jax.tasks import addition, questions, splits
from llm_jax.tokenizer import encoding
from tests.evals import tiny_checkpoint

TOKENIZER = tiny_checkpoint.tokenizer()
CFG = scoring.Scoring(n_problems=6, n_samples=4, batch_size=8)


class Script:
  """Stands in for the sampler: answers as a function of the prompt says."""

  def __init__(self, monkeypatch, answer):
    self.requests, self.prompts, self.seeds = [], [], []
    self._answer = answer
    monkeypatch.setattr(generate, 'generate', self)

  def __call__(self, cfg, params, prompts, seeds, request, **_):
    self.requests.append(request)
    self.prompts.append(prompts)
    self.seeds.append(seeds)
    answers = []
    for index, prompt in enumerate(prompts):
      text, stopped = self._answer(TOKENIZER.decode(prompt), index, request)
      ids = TOKENIZER.encode(text) + [request.stop_ids[0]] * stopped
      answers.append(generate.Answer(ids, [0.0] * len(ids), stopped))
    return answers


def _model(is_chat=False):
  return turns.Model(
    tiny_checkpoint.MODEL,
    {},
    TOKENIZER,
    formats.choose(TOKENIZER, is_chat),
  )


def _numbers(prompt):
  return sorted(map(int, re.findall('[0-9]+', prompt)))


def _sum(prompt):
  return f'{sum(_numbers(prompt)):04}'


def test_counts_by_hand(monkeypatch):
  """Greedy: 4 of 6 right. Sampled: problem i has i mod 3 right of 4."""

  def answer(prompt, index, request):
    if request.temperature == 0:
      return (_sum(prompt) if index < 4 else '0000x'), True
    problem, sample = divmod(index, 4)
    return (_sum(prompt) if sample < problem % 3 else '0000x'), True

  Script(monkeypatch, answer)
  row = scoring.evaluate(_model(), addition.Addition(), CFG, direct=False)
  assert (row['n'], row['n_samples'], row['mode']) == (6, 4, 'free')
  assert row['greedy'] == pytest.approx(4 / 6)
  assert row['sampled'] == pytest.approx((0 + 1 + 2) * 2 / 24)
  # pass@2 of 0, 1 and 2 right of 4: 0, 1 - 3/6, 1 - 1/6.
  assert row['pass_at_k'] == pytest.approx(
    {'1': 0.25, '2': (0 + 1 / 2 + 5 / 6) / 3, '4': 2 / 3}
  )
  # Wilson for 4 of 6: (4/6 + z²/12 ± z √(8/216 + z²/144)) / (1 + z²/6).
  assert row['interval']['greedy'] == pytest.approx(
    [0.29999, 0.90323], abs=1e-5
  )
  low, high = row['interval']['sampled']
  assert low < 0.25 < high
  assert row['interval']['pass_at_k']['1'] == pytest.approx([low, high])
  low, high = row['interval']['pass_at_k']['4']  # of four of six problems
  assert 0 < low < 0.5 < 5 / 6 < high <= 1
  assert row['mean_length'] == pytest.approx(5 * 6 / 24 + 6 * 18 / 24)
  assert row['tokens'] == 5 * 6 + 6 * 18 + 4 * 5 + 2 * 6
  # By kind: the parts make the whole.
  assert set(row['kinds']) <= set(questions.of('addition'))
  kinds = row['kinds'].values()
  assert sum(kind['n'] for kind in kinds) == 6
  for name in ('greedy', 'sampled'):
    parts = sum(kind['n'] * kind[name] for kind in kinds)
    assert parts / 6 == pytest.approx(row[name])
  assert all(
    low <= k['greedy'] <= high for k in kinds for low, high in [k['interval']]
  )


def test_problems_are_held_out_and_seeds_differ(monkeypatch):
  script = Script(monkeypatch, lambda prompt, index, request: ('1', True))
  scoring.evaluate(_model(), addition.Addition(), CFG, direct=False)
  scoring.evaluate(_model(is_chat=True), addition.Addition(), CFG, direct=False)
  greedy_base, sampled_base, greedy_chat, sampled_chat = script.prompts
  start = TOKENIZER.special_id('<|endoftext|>')
  for prompt, chat_prompt in zip(greedy_base, greedy_chat, strict=True):
    assert prompt[0] == start
    text = TOKENIZER.decode(prompt[1:])
    text = re.fullmatch('Question: (.*)\nAnswer:', text)[1]
    assert splits.is_held_out('+'.join(map(str, _numbers(text))))
    # The chat model is asked the same problem, through the template.
    asked = [{'role': 'user', 'content': text}]
    rendered = template.render(TOKENIZER, asked, add_generation_prompt=True)
    assert chat_prompt == rendered.token_ids
  assert sampled_base[:4] == [greedy_base[0]] * 4
  assert len(set(script.seeds[1])) == 24  # no two samples share a draw
  assert script.seeds[1] == script.seeds[3]  # and every model gets the same
  assert len(sampled_chat) == 24


def test_answer_that_does_not_end_is_wrong(monkeypatch):
  Script(monkeypatch, lambda prompt, index, request: (_sum(prompt), False))
  row = scoring.evaluate(_model(), addition.Addition(), CFG, direct=False)
  assert row['greedy'] == row['sampled'] == 0
  assert row['stopped_share'] == 0
  assert row['samples'][0]['reason'] == 'no end within 4 tokens'


def test_thinking_is_counted_and_forbidden(monkeypatch):
  def answer(prompt, index, request):
    banned = set(request.banned_ids)
    thought = '<think>\n</think>\n'
    can_think = not banned & set(TOKENIZER.encode(thought))
    return (thought if can_think else '') + _sum(prompt), True

  script = Script(monkeypatch, answer)
  free = scoring.evaluate(_model(), addition.Addition(), CFG, direct=False)
  direct = scoring.evaluate(_model(), addition.Addition(), CFG, direct=True)
  assert free['think_share'] == 1
  assert direct['think_share'] == 0
  assert direct['mode'] == 'direct'
  assert script.requests[0].banned_ids == ()
  assert script.requests[2].max_new_tokens == CFG.max_direct_tokens


def test_thought_ids_are_all_that_can_open_a_thought():
  vocabulary = encoding.Tokenizer.from_merges(
    [(ord('<'), ord('t')), (ord('a'), ord('<')), (ord('t'), ord('h'))], 'qwen2'
  )
  found = {
    vocabulary.token_bytes(i)
    for i in scoring.thought_ids(vocabulary, '<think>')
  }
  assert found == {b'<', b'<t', b'a<'}
  # Control tokens are spelt with '<' too, and must stay free to end answers.
  assert not set(scoring.thought_ids(vocabulary, '<think>')) & set(
    vocabulary.special_ids
  )
  # But for the mark of a thought, where a published vocabulary has it so.
  published = encoding.Tokenizer(
    {bytes([i]): i for i in range(256)},
    'qwen2',
    special_ids={'<think>': 256, '<a>': 257},
    vocab_size=258,
  )
  assert scoring.thought_ids(published, '<think>') == (ord('<'), 256)


@pytest.mark.parametrize(
  ('field', 'value'), [('n_samples', 0), ('temperature', 0.0)]
)
def test_bad_values_are_named(field, value):
  with pytest.raises(ValueError, match=f'Scoring.{field} = {value}'):
    scoring.Scoring(**{field: value})
