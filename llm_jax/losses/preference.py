"""Losses of ranked answers: of scores that rank them, and of a policy's logp.

A row of a batch holds the answers to one prompt or to several, each at a place
of its own. They are compared within their prompt, and every prompt counts the
same, however many answers it has: each loss is a mean over prompts. Takes
arrays, never a model, and computes no log-probabilities.
"""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from llm_jax import types

Metrics = dict[str, Any]  # pairs, as update.make_update_fn takes them

MISMATCHED = -1  # as rank: an answer to another prompt, for the KL of KTO
_CERTAIN = -1e-7  # mean logp above which ORPO's odds are not told apart
_BY_MARGIN = ('dpo', 'cdpo', 'robust', 'hinge', 'ipo')
_LOSSES = (*_BY_MARGIN, 'simpo', 'orpo', 'kto')


class Answers(NamedTuple):
  """Which answers of a row belong together, and how they are ranked."""

  group_BA: types.Array  # from 1, equal for one prompt's; 0: no answer there
  rank_BA: types.Array  # 0 is the best; equal ones are tied

  def same(self) -> jax.Array:
    """Whether A and O answer one prompt, and are ranked."""
    group_BA, rank_BA = jnp.asarray(self.group_BA), jnp.asarray(self.rank_BA)
    group_BA = jnp.where(rank_BA == MISMATCHED, 0, group_BA)
    same_BAO = group_BA[:, :, None] == group_BA[:, None, :]
    return same_BAO & (group_BA > 0)[:, :, None]

  def pairs(self) -> jax.Array:
    """Weight of each pair of which A is better than O; a prompt's add to 1."""
    rank_BA = jnp.asarray(self.rank_BA)
    same_BAO = self.same()
    better_BAO = same_BAO & (rank_BA[:, :, None] < rank_BA[:, None, :])
    n_BA = jnp.einsum(
      'BAO,BO->BA', same_BAO.astype(jnp.float32), better_BAO.sum(axis=2)
    )
    return better_BAO / jnp.maximum(n_BA, 1)[:, :, None]


def bradley_terry(
  score_BA: jax.Array,
  answers: Answers,
  margin: float = 0.0,
  centring: float = 0.0,
) -> jax.Array:
  """-log sigmoid(s_w - s_l - margin) + centring (s_w + s_l)^2, mean of pairs.

  Args:
    score_BA: of each answer.
    answers: which are compared; ties are not.
    margin: by which the better one is to lead.
    centring: pulls scores to 0, which differences alone leave open.

  Returns:
    The mean over prompts of the mean over a prompt's pairs.

  Source: arXiv:2203.02155 eq. 1; margin arXiv:2307.09288 eq. 2, centring
  arXiv:2312.09244 section 2.
  """
  chex.assert_equal_shape([score_BA, answers.group_BA, answers.rank_BA])
  w_BA1, l_B1O = score_BA[:, :, None], score_BA[:, None, :]
  loss_BAO = jax.nn.softplus(margin - (w_BA1 - l_B1O))
  loss_BAO += centring * (w_BA1 + l_B1O) ** 2
  return _mean(loss_BAO, answers.pairs())


def describe(name: str, x_BA: jax.Array, answers: Answers) -> Metrics:
  """Means over prompts, as metrics.

  Args:
    name: of what x is.
    x_BA: of each answer.
    answers: which are compared.

  Returns:
    x of the better and of the worse answer of pairs, as NAME_chosen and
    NAME_rejected, their NAME_margin, and accuracy: the share above 0 of that.
  """
  weight_BAO = answers.pairs()
  n_prompts = jnp.maximum(weight_BAO.sum(), 1)
  margin_BAO = x_BA[:, :, None] - x_BA[:, None, :]
  sums = {
    f'{name}_chosen': x_BA * weight_BAO.sum(axis=2),
    f'{name}_rejected': x_BA * weight_BAO.sum(axis=1),
    f'{name}_margin': margin_BAO * weight_BAO,
    'accuracy': (margin_BAO > 0) * weight_BAO,
  }
  return {key: (values.sum(), n_prompts) for key, values in sums.items()}


def plackett_luce(score_BA: jax.Array, answers: Answers) -> jax.Array:
  """-sum_k [s_(k) - logsumexp of s_(k) and of all that are ranked behind it].

  The likelihood that draws without return, by exp(s), give the ranking. Tied
  answers are not compared with each other: each is drawn before those behind.

  Args:
    score_BA: of each answer.
    answers: their ranking.

  Returns:
    The mean over prompts.

  Source: arXiv:2305.18290 appendix A.3.
  """
  chex.assert_equal_shape([score_BA, answers.group_BA, answers.rank_BA])
  weight_BAO = answers.pairs()
  itself_1AO = jnp.eye(score_BA.shape[1], dtype=bool)[None]
  left_BAO = (weight_BAO > 0) | itself_1AO
  behind_BAO = jnp.where(left_BAO, score_BA[:, None, :], -jnp.inf)
  loss_BA = jax.nn.logsumexp(behind_BAO, axis=2) - score_BA
  return loss_BA.sum() / jnp.maximum(weight_BAO.sum(), 1)


@dataclasses.dataclass(frozen=True)
class Preference:
  """How a policy learns from ranked answers; no reward model is needed."""

  loss: str = 'dpo'  # cdpo, robust, hinge, ipo, simpo, orpo or kto
  beta: float = 0.1  # a reward is beta (log pi - log reference); orpo: weight
  label_smoothing: float = 0.0  # cdpo, robust: share of pairs ranked wrongly
  gap: float = 0.0  # simpo: lead in reward that the better answer shall have
  length_normalised: bool = False  # a mean over tokens in place of the sum
  sft_weight: float = 0.0  # of -log pi a token of the better answer, beside
  desirable_weight: float = 1.0  # kto: of the best answers
  undesirable_weight: float = 1.0  # kto: of the others

  def __post_init__(self):
    loss, smoothing = self.loss, self.label_smoothing
    is_smoothed = loss in ('cdpo', 'robust')
    weights = self.desirable_weight, self.undesirable_weight
    for is_wrong, why in (
      (loss not in _LOSSES, f'use one of {_LOSSES}'),
      (not self.beta > 0, f'beta = {self.beta} must be more than 0'),
      (is_smoothed and not 0 < smoothing < 0.5,
       f'label_smoothing = {smoothing}; it needs one above 0 and below 0.5'),
      (smoothing and not is_smoothed,
       f'label_smoothing = {smoothing} is for cdpo and robust'),
      (self.gap and loss != 'simpo', f'gap = {self.gap} is for simpo'),
      (self.length_normalised and loss not in _BY_MARGIN,
       'length_normalised is for ' + ', '.join(_BY_MARGIN)
       + '; simpo and orpo always are, and kto is not'),
      (not 0 <= self.sft_weight < float('inf'),
       f'sft_weight = {self.sft_weight} must be at least 0'),
      (self.sft_weight and loss in ('orpo', 'kto'),
       f'sft_weight = {self.sft_weight}; orpo has that term, of weight 1, and '
       'kto compares no pairs'),
      (weights != (1, 1) and loss != 'kto',
       f'desirable_weight, undesirable_weight = {weights} are for kto'),
      (min(weights) < 0, f'the weights {weights} must be at least 0'),
    ):  # fmt: skip
      if is_wrong:
        raise ValueError(f'Preference.loss = {loss!r}: {why}')

  @property
  def has_reference(self) -> bool:
    """Whether log-probabilities of a reference are needed."""
    return self.loss not in ('simpo', 'orpo')


def dpo(margin: jax.Array, cfg: Preference) -> jax.Array:
  """-log sigmoid(beta m); cDPO: the mean with that of the pair turned round.

  Source: arXiv:2305.18290 eq. 7; cDPO: E. Mitchell, "A note on DPO with noisy
  preferences", 2023, eq. 3.
  """
  right = jax.nn.softplus(-cfg.beta * margin)
  wrong = jax.nn.softplus(cfg.beta * margin)
  return right + cfg.label_smoothing * (wrong - right)


def robust(margin: jax.Array, cfg: Preference) -> jax.Array:
  """DPO's loss without bias where a known share of pairs is turned round.

  [(1 - e) L(m) - e L(-m)] / (1 - 2 e), L(m) = -log sigmoid(beta m)

  Source: arXiv:2403.00409 eq. 10.
  """
  share = cfg.label_smoothing
  right = jax.nn.softplus(-cfg.beta * margin)
  wrong = jax.nn.softplus(cfg.beta * margin)
  return ((1 - share) * right - share * wrong) / (1 - 2 * share)


def hinge(margin: jax.Array, cfg: Preference) -> jax.Array:
  """max(0, 1 - beta m). Source: arXiv:2305.10425, arXiv:2309.06657."""
  return jax.nn.relu(1 - cfg.beta * margin)


def ipo(margin: jax.Array, cfg: Preference) -> jax.Array:
  """(m - 1 / (2 beta))^2. Source: arXiv:2310.12036 eq. 17."""
  return (margin - 1 / (2 * cfg.beta)) ** 2


def simpo(mean_margin: jax.Array, cfg: Preference) -> jax.Array:
  """-log sigmoid(beta m - gap), of means over tokens, without a reference.

  Source: arXiv:2405.14734 eq. 6.
  """
  return jax.nn.softplus(cfg.gap - cfg.beta * mean_margin)


def odds_ratio(chosen_logp: jax.Array, rejected_logp: jax.Array) -> jax.Array:
  """-log sigmoid(log odds_w - log odds_l), odds = p / (1 - p), of mean logp.

  Source: arXiv:2403.07691 eq. 7.
  """

  def log_odds(logp):
    logp = jnp.minimum(logp, _CERTAIN)
    return logp - jnp.log(-jnp.expm1(logp))

  return jax.nn.softplus(log_odds(rejected_logp) - log_odds(chosen_logp))


def kto(
  log_ratio: jax.Array, is_desirable: jax.Array, kl: jax.Array, cfg: Preference
) -> jax.Array:
  """w (1 - sigmoid(+-beta (log ratio - kl))), + where it is desirable.

  Args:
    log_ratio: log pi - log reference of each answer.
    is_desirable: whether it is one to be given.
    kl: of the policy to the reference; no gradient flows through it.
    cfg: beta, and the weights w.

  Source: arXiv:2402.01306 eq. 8.
  """
  gain = cfg.beta * (log_ratio - jax.lax.stop_gradient(kl))
  return jnp.where(
    is_desirable,
    cfg.desirable_weight * jax.nn.sigmoid(-gain),
    cfg.undesirable_weight * jax.nn.sigmoid(gain),
  )


def log_ratio(cfg: Preference, logp: Any, ref_logp: Any, n_tokens: Any) -> Any:
  """What a method compares of an answer: beta times it is its reward.

  log pi - log reference, or a mean over tokens; without a reference log pi.
  Args as of `policy`, in arrays of any shape; each answer has a token.
  """
  is_mean = cfg.length_normalised or not cfg.has_reference
  return (logp - ref_logp) / (n_tokens if is_mean else 1)


def policy(
  cfg: Preference,
  logp_BA: jax.Array,
  ref_logp_BA: types.Array,
  n_tokens_BA: types.Array,
  answers: Answers,
) -> tuple[jax.Array, Metrics]:
  """The loss of a policy that learns from ranked answers.

  Args:
    cfg: which one.
    logp_BA: log-probability of each answer, the sum over its tokens, in nats.
    ref_logp_BA: the same of the reference; 0 where none is needed.
    n_tokens_BA: tokens of each answer.
    answers: their ranking; for kto some are MISMATCHED, and the others are
      desirable where their rank is 0.

  Returns:
    Scalar loss, a mean over prompts; and metrics as update.make_update_fn takes
    them: what `describe` says of rewards and of log-probabilities; of kto,
    whose answers need no pairs, means over the desirable ones as chosen, and
    over the others as rejected.
  """
  chex.assert_equal_shape([logp_BA, ref_logp_BA, n_tokens_BA, *answers])
  weight_BAO = answers.pairs()
  n_BA = jnp.maximum(n_tokens_BA, 1) * 1.0
  ratio_BA = log_ratio(cfg, logp_BA, ref_logp_BA, n_tokens=n_BA)
  w_BA1, l_B1O = ratio_BA[:, :, None], ratio_BA[:, None, :]
  mean_logp_BA1 = (logp_BA / n_BA)[:, :, None]
  loss_fns = dict.fromkeys(('dpo', 'cdpo'), dpo)
  loss_fns |= {'robust': robust, 'hinge': hinge, 'ipo': ipo, 'simpo': simpo}
  metrics = describe('logp', logp_BA, answers)
  metrics |= describe('reward', cfg.beta * ratio_BA, answers)
  if cfg.loss == 'kto':
    is_other_BA = answers.rank_BA == MISMATCHED
    n_others = jnp.maximum(is_other_BA.sum(), 1)
    kl = jnp.maximum((ratio_BA * is_other_BA).sum() / n_others, 0)
    is_good_BA = answers.rank_BA == 0
    loss_BA = kto(ratio_BA, is_good_BA, kl=kl, cfg=cfg)
    n_same_BA = answers.same().sum(axis=2)
    weight_BA = (n_same_BA > 0) / jnp.maximum(n_same_BA, 1)
    metrics = {'kl': ((ratio_BA * is_other_BA).sum(), n_others * 1.0)}
    for name, x_BA in (('logp', logp_BA), ('reward', cfg.beta * ratio_BA)):
      for kind, is_it_BA in (('chosen', is_good_BA), ('rejected', ~is_good_BA)):
        own_BA = weight_BA * is_it_BA
        total = jnp.maximum(own_BA.sum(), 1e-9)  # a batch may have none
        metrics[f'{name}_{kind}'] = (x_BA * own_BA).sum(), total
    return _mean(loss_BA, weight_BA), metrics
  if cfg.loss == 'orpo':
    # An empty place has logp 0, whose odds are infinite.
    safe_BA = jnp.where(answers.group_BA > 0, ratio_BA, -1)
    ratio_BAO = odds_ratio(safe_BA[:, :, None], safe_BA[:, None, :])
    loss_BAO = cfg.beta * ratio_BAO - mean_logp_BA1
  else:
    loss_BAO = loss_fns[cfg.loss](w_BA1 - l_B1O, cfg)
    loss_BAO -= cfg.sft_weight * mean_logp_BA1
  return _mean(loss_BAO, weight_BAO), metrics


def _mean(x: jax.Array, weight: jax.Array) -> jax.Array:
  return (x * weight).sum() / jnp.maximum(weight.sum(), 1)
