"""What is measured and written of the rollouts and the updates of a step."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from llm_jax.agent import turns
from llm_jax.evals import scoring, statistics
from llm_jax.rl import rollout
from llm_jax.tasks import protocol
from llm_jax.train import metrics

_REFLECTION = re.compile(
  r'\b(wait|hmm+|let me (re-?)?(check|think|verify|try|see)|double[- ]check'
  r'|on second thought|that(\'s| is) not right)\b',
  re.IGNORECASE,
)
# Later updates of a step compare with a policy that has moved.
_OF_FIRST_UPDATE = ('mean_logp_difference', 'max_logp_difference')


def reflects(text: str) -> bool:
  """Whether an answer holds words by which a writer looks back.

  >>> reflects('84? Wait, I forgot the carry.'), reflects('84, she waited')
  (True, False)
  """
  return _REFLECTION.search(text) is not None


def describe(collected: rollout.Collected, cfg: Any) -> dict[str, float]:
  """Verdicts, lengths, entropy, thinking and time of one step's answers.

  Args:
    collected: the step; all that was drawn counts, not the batch alone.
    cfg: of the recipe, with task and reward.

  Returns:
    accuracy, which is pass@1, and pass_at_k of larger k, where there is a
    verifier, and gold_mean, its mean reward, where another is learnt;
    equal_share (of answers that a group has already); reward_mean,
    dead_group_share and drawn_groups; mean_length, min_length and max_length
    (tokens, stop token included), truncated_share, entropy (nats a token,
    estimated from the drawn tokens, so at their temperature), call_share,
    think_share, reflection_share; judge_tokens (of all verdicts);
    sampled_tokens (their sum) and how many a second, rollout_s, score_s
    (waiting for verdicts) and verifier_s (of all verdicts, in however many
    threads).
  """
  groups, reward_PR, task = collected.groups, collected.reward_PR, cfg.task
  answers = [answer for group in groups for answer in group.answers]
  texts = [text for group in groups for text in group.texts]
  lengths = [len(answer.token_ids) for answer in answers]
  n_tokens, n = sum(lengths), len(answers)
  n_drawn = sum(sum(answer.drawn) for answer in answers)
  n_correct = [group.n_correct for group in groups]
  verdicts = {}
  if protocol.has_verifier(task):
    verdicts['accuracy'] = sum(n_correct) / n
    if cfg.reward != 'verifier':
      verdicts['gold_mean'] = float(rollout.verdicts(groups).mean())
    passes = statistics.pass_at_powers(reward_PR.shape[1], n_correct)
    for k, estimates in passes.items():
      if k > 1:
        verdicts[f'pass_at_{k}'] = sum(estimates) / len(groups)
  n_distinct = sum(len(set(group.texts)) for group in groups)
  return verdicts | {
    'equal_share': 1 - n_distinct / n,
    'reward_mean': float(reward_PR.mean()),
    'dead_group_share': float(collected.is_dead_P.mean()),
    'drawn_groups': len(groups),
    'mean_length': n_tokens / n,
    'min_length': min(lengths),
    'max_length': max(lengths),
    'truncated_share': sum(not a.stopped for a in answers) / n,
    'entropy': -sum(sum(a.logps) for a in answers) / n_drawn,
    'call_share': sum(len(a.results) > 0 for a in answers) / n,
    'think_share': sum(map(task.thinks, texts)) / n,
    'reflection_share': sum(map(reflects, texts)) / n,
    'sampled_tokens': n_tokens,
    'sampled_tokens_per_s': n_tokens / collected.rollout_s,
    'rollout_s': collected.rollout_s,
    'score_s': collected.score_s,
    'judge_tokens': sum(s.judge_tokens for g in groups for s in g.scores),
    'verifier_s': sum(group.score_s for group in groups),
  }


def evaluate(
  model: turns.Model, cfg: Any, writer: metrics.Writer, step: int
) -> float:
  """Measure a policy on held-out problems; the numbers are written and logged.

  Args:
    model: the policy.
    cfg: of the recipe, with task, evaluation and loop.
    writer: of the run.
    step: of the run.

  Returns:
    The share of sampled answers that are right.
  """
  result = scoring.evaluate(model, cfg.task, cfg.evaluation, direct=False)
  names = ('greedy', 'sampled', 'think_share', 'call_share', 'mean_length')
  values = {f'eval_{name}': result[name] for name in names}
  for k, share in result['pass_at_k'].items():
    if k != '1':
      values[f'eval_pass_at_{k}'] = share
  writer.metrics(step, values)
  sample = result['samples'][0]
  writer.sample(step, {'prompt': sample['prompt'], 'text': sample['answer']})
  said = scoring.sentence(result)
  logging.info('step %d/%d | %s', step, cfg.loop.n_steps, said)
  return values['eval_sampled']


def join_updates(updates: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """One number for each metric of the updates of a step.

  The largest of max_*, the smallest of min_*, the last of skipped, the first
  of what compares the sampler with the trainer, the mean of all others.

  Args:
    updates: metrics of each; none if every group was dead.

  Returns:
    By name; empty without updates.
  """
  joined = {}
  for name in updates[0] if updates else ():
    values = [float(metrics[name]) for metrics in updates]
    if name in _OF_FIRST_UPDATE:
      joined[name] = values[0]
    elif name == 'skipped':
      joined[name] = values[-1]
    elif name.startswith(('max_', 'min_')):
      joined[name] = max(values) if name.startswith('max_') else min(values)
    else:
      joined[name] = sum(values) / len(values)
  return joined


def lines(collected: rollout.Collected, limit: int) -> Iterator[dict[str, Any]]:
  """The first answers of a step as lines of rollouts.jsonl.

  Args:
    collected: the step; rewards are before a KL or a length is taken off.
    limit: answers that are written; each line says of how many.

  Yields:
    group, answer (their numbers, from 0), of (answers of the step), prompt,
    text, correct, reason, reward, tokens, logp (mean, nats a token, at the
    temperature of the draw), finished, and trained (whether the group is of
    the batch).
  """
  reward_PR = collected.reward_PR
  n_answers, n_samples = reward_PR.size, reward_PR.shape[1]
  for number in range(min(limit, n_answers)):
    index, sample = divmod(number, n_samples)
    group = collected.groups[index]
    answer, score = group.answers[sample], group.scores[sample]
    yield {
      'group': index,
      'answer': sample,
      'of': n_answers,
      'prompt': group.prompt.problem.prompt,
      'text': group.texts[sample],
      'correct': score.correct,
      'reason': score.reason,
      'reward': float(reward_PR[index, sample]),
      'tokens': len(answer.token_ids),
      'logp': sum(answer.logps) / sum(answer.drawn),
      'finished': answer.stopped,
      'trained': index in collected.batch_P,
    }


def summary(
  writer: metrics.Writer, best_sampled: float, task: protocol.Task
) -> dict[str, Any]:
  """What done.json holds of a finished run.

  Args:
    writer: of the run's numbers.
    best_sampled: the best share of sampled answers that was right.
    task: what was asked.
  """
  tokens = {'tokens': writer.total('sampled_tokens')}
  if not protocol.has_verifier(task):
    reward, length = writer.last('reward_mean'), writer.last('mean_length')
    said = f'reward {reward:.3f}, {length:.0f} tokens an answer'
    return tokens | {'result': f'{said}; nobody verified them'}
  sampled, greedy = writer.last('eval_sampled'), writer.last('eval_greedy')
  return {
    **tokens,
    'best_sampled': best_sampled,
    'result': f'{sampled:.1%} of sampled and {greedy:.1%} of greedy answers to '
    'held-out problems are right'
    + (f'. {found}' if (found := protocol.note(task)) else ''),
  }
