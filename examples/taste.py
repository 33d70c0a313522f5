"""A taste that nobody can program: eight words about two things.

  python -m examples.taste --to runs/show/rlhf
  python -m examples.taste --to runs/show/rlhf --policy runs/show/rlhf/sft

The first writes conversations for `sft`; the second draws answers of that model
and ranks them, with some noise, for `reward_model` and `dpo`. With
--reward_model and --dpo it writes optimised.jsonl, by which `report` shows how
good the best of n answers and those of DPO are, and how far they went; with
--last it prints what a run of `rl` said at its end. tools/show_rlhf.sh does all
of it.

The taste is a formula, `taste` below, so that one can see how far a policy that
climbs a model of it gets away from it. No trainer reads it; it is the verifier
of the task, and `rl` writes it as gold_mean beside the reward.
"""

import argparse
import dataclasses
import pathlib
import random
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np

import llm_jax
from llm_jax import files
from llm_jax.evals import best_of_n
from llm_jax.infer import generate, reading
from llm_jax.tasks import protocol, splits
from llm_jax.verify import grading

_TEXT = """
  the of is to a in return file object string value if not for and this be that
  are list number class name function method type with by set as text data error
  line which new from default argument
"""
WORDS = _TEXT.split()
N_WORDS = 8
N_ANSWERS = 5  # that are ranked
N_CHOSEN = 64  # held-out prompts
_draw = random.Random('taste')
LIKED = {word: _draw.gauss(0, 0.5) for word in WORDS}
FOLLOWS = {word: _draw.sample(WORDS, 6) for word in WORDS}  # of each the likely


def taste(first: str, second: str, text: str) -> float:
  """How good a text about two words is: 0.3 for what the demonstrator writes.

  Each word has a value of its own, once; a word that is asked for is worth
  0.75 more; a word again, a ninth word or one that is none is worth -1.
  """
  words = text.split()
  said = LIKED.keys() & set(words)
  return (
    sum(LIKED[word] for word in sorted(said))
    + 0.75 * (first in said)
    + 0.75 * (second in said)
    - (len(words) - len(said))
    - max(0, len(words) - N_WORDS)
  )


@dataclasses.dataclass(frozen=True)
class Taste(splits.Made):
  """What is better than 2 counts as right; the reward is the taste."""

  name: str = 'taste'
  max_new_tokens: ClassVar = 12  # an answer of the length wanted has 9
  n_demonstrations: ClassVar = 1200
  n_ranked: ClassVar = 1000
  noise: ClassVar = 0.5
  most: ClassVar = 512

  def _make(self, draw: random.Random) -> tuple[str, protocol.Problem]:
    first, second = draw.sample(WORDS, 2)
    prompt = f'Write about {first} and {second}.'
    return prompt, protocol.Problem(self.name, prompt, f'{first} {second}')

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str:
    """Words that like to follow each other, and a topic now and then."""
    del think
    draw = random.Random(f'{self.name}/{problem.prompt}')
    words = [draw.choice(WORDS)]
    while len(words) < N_WORDS:
      u = draw.random()
      word = draw.choice(
        problem.reference.split()
        if u < 0.15
        else WORDS
        if u < 0.3
        else FOLLOWS[words[-1]]
      )
      if word not in words:
        words.append(word)
    return ' '.join(words)

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score:
    """The taste."""
    found = taste(*problem.reference.split(), answer)
    return grading.Score(found > 2, f'{found:.2f}', reward=found)


class Study(Protocol):
  """A task whose verifier is the gold, and how much of it is studied."""

  max_new_tokens: ClassVar[int]
  n_demonstrations: ClassVar[int]
  n_ranked: ClassVar[int]  # rankings of N_ANSWERS
  noise: ClassVar[float]  # of the gold, when ranking
  most: ClassVar[int]  # answers to a prompt, of which the best is chosen

  def problems(
    self, split: str, count: int, seed: int
  ) -> Sequence[protocol.Problem]: ...

  def demonstrate(self, problem: protocol.Problem, think: bool) -> str: ...

  def score(self, problem: protocol.Problem, answer: str) -> grading.Score: ...


def gold(study: Study, problem: protocol.Problem, text: str) -> float:
  """What an answer is worth."""
  reward = study.score(problem, text).reward
  assert reward is not None
  return reward


def answers(
  model: llm_jax.Model,
  study: Study,
  problems: Sequence[protocol.Problem],
  n: int,
) -> list[list[str]]:
  """n answers to each problem, drawn from the whole distribution."""
  asked = [protocol.exchange(p.prompt, '')[:1] for p in problems]
  prompts = [model.chat_format.prompt(one) for one in asked for _ in range(n)]
  drawn = generate.generate(
    model.config,
    model.params,
    prompts=prompts,
    seeds=range(len(prompts)),
    request=generate.Request(
      study.max_new_tokens, model.chat_format.stop_ids, 1.0
    ),
    batch_size=256,
  )
  texts = [model.chat_format.text(answer.token_ids) for answer in drawn]
  return [texts[i : i + n] for i in range(0, len(texts), n)]


def ranked(policy: llm_jax.Model, study: Study) -> list[dict[str, object]]:
  """Rankings of answers by somebody who is not always sure."""
  draw = random.Random('rankings')
  problems = study.problems('train', study.n_ranked, seed=1)
  rows = []
  for problem, texts in zip(
    problems,
    answers(policy, study, problems=problems, n=N_ANSWERS),
    strict=True,
  ):
    felt = [
      gold(study, problem, text) + draw.gauss(0, study.noise) for text in texts
    ]
    ranking = [1 + sum(other > own for other in felt) for own in felt]
    rows.append(
      {'prompt': problem.prompt, 'responses': texts, 'ranking': ranking}
    )
  return rows


def gone(
  policy: llm_jax.Model, reward_model: llm_jax.Model, study: Study, n: int
) -> tuple[list[list[str]], np.ndarray, np.ndarray]:
  """n answers to each held-out prompt, with proxy_PN and gold_PN."""
  problems = study.problems('held_out', N_CHOSEN, seed=0)
  texts = answers(policy, study, problems=problems, n=n)
  pairs = [
    (problem, text)
    for problem, own in zip(problems, texts, strict=True)
    for text in own
  ]
  proxies = reward_model.score(
    [protocol.exchange(problem.prompt, text or ' ') for problem, text in pairs]
  )
  golds = [gold(study, *pair) for pair in pairs]
  shape = len(problems), n
  return texts, np.reshape(proxies, shape), np.reshape(golds, shape)


def optimised(
  start: llm_jax.Model,
  reward_model: llm_jax.Model,
  by_dpo: llm_jax.Model | None,
  study: Study,
) -> list[dict[str, object]]:
  """KL, proxy and gold of the best of n answers, and of the policy of DPO."""
  _, proxy_PN, gold_PN = gone(start, reward_model, study=study, n=study.most)
  print(
    f'gold of the start: {gold_PN.mean():.2f}, deviation {gold_PN.std():.2f}'
  )
  rows: list[dict[str, object]] = [
    {
      'name': 'best of n',
      'kl': best_of_n.divergence(n),
      'proxy': best_of_n.expected(proxy_PN, proxy_PN, n),
      'gold': best_of_n.expected(proxy_PN, gold_PN, n),
    }
    for n in (2**i for i in range(study.most.bit_length()))
  ]
  if by_dpo is None:
    return rows
  problems = study.problems('held_out', N_CHOSEN, seed=0)
  texts, proxy_PN, gold_PN = gone(by_dpo, reward_model, study=study, n=16)
  pairs = [
    (model.chat_format.prompt(asked), answer)
    for model in [start]
    for problem, own in zip(problems, texts, strict=True)
    for asked in [protocol.exchange(problem.prompt, '')[:1]]
    for answer in (
      [*model.tokenizer.encode(text), model.chat_format.stop_ids[0]]
      for text in own
    )
  ]
  logps = [
    np.array(
      [
        logp_T.sum()
        for logp_T in reading.logp(
          model.config, model.params, pairs, batch_size=256
        )
      ]
    )
    for model in (by_dpo, start)
  ]
  kl = float((logps[0] - logps[1]).mean())
  for name, x, y, z in (
    ('dpo', 0.0, rows[0]['proxy'], rows[0]['gold']),
    ('dpo', kl, float(proxy_PN.mean()), float(gold_PN.mean())),
  ):
    rows.append({'name': name, 'kl': x, 'proxy': y, 'gold': z})
  return rows


def last_answers(run: pathlib.Path) -> list[str]:
  """What a run of rl said at its end."""
  rows = list(files.read_jsonl(run / 'rollouts.jsonl', dict))
  return [
    f'{row["prompt"]} -> {row["text"]}'
    for row in rows
    if row['step'] == rows[-1]['step']
  ][::2]


def main(study: Study) -> None:
  """What of the study is written or printed, as the arguments say."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--to', required=True)
  parser.add_argument('--policy')
  parser.add_argument('--reward_model')
  parser.add_argument('--dpo')
  parser.add_argument('--last', help='run of rl whose last answers are printed')
  args = parser.parse_args()
  to = pathlib.Path(args.to)
  to.mkdir(parents=True, exist_ok=True)
  if args.last:
    print('\n'.join(last_answers(pathlib.Path(args.last))))
    return
  if not args.policy:
    problems = study.problems('train', study.n_demonstrations, seed=0)
    rows = [
      {'messages': protocol.exchange(p.prompt, study.demonstrate(p, False))}
      for p in problems
    ]
    name = 'conversations.jsonl'
  elif not args.reward_model:
    rows, name = ranked(llm_jax.load(args.policy), study), 'rankings.jsonl'
  else:
    by_dpo = llm_jax.load(args.dpo) if args.dpo else None
    models = map(llm_jax.load, (args.policy, args.reward_model))
    rows, name = optimised(*models, by_dpo, study), 'optimised.jsonl'
  files.write_jsonl(to / name, rows)
  print(f'{to / name}: {len(rows):,} rows')


if __name__ == '__main__':
  main(Taste())
