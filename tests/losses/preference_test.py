"""Losses of ranked answers: values by hand, gradients by enumeration.

TRL is not needed: the values of its losses at given margins are written down.
"""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_jax.losses import preference

Preference = preference.Preference


def answers(group, rank):
  return preference.Answers(jnp.array(group), jnp.array(rank))


def ranked(*rank):
  return answers([[1] * len(rank)], [rank])


class RewardModelTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_values_by_hand(self):
    pl = self.variant(preference.plackett_luce)
    bt = self.variant(preference.bradley_terry)
    score_BA = jnp.array([[2.0, 1.0, 0.0]])
    assert pl(score_BA, ranked(0, 1, 2)) == pytest.approx(0.720868, abs=1e-6)
    assert pl(score_BA, ranked(2, 1, 0)) == pytest.approx(3.720868, abs=1e-6)
    assert bt(score_BA, ranked(0, 1, 2)) == pytest.approx(0.251150, abs=1e-6)
    two_BA = jnp.array([[1.0, 0.0]])
    for loss in (pl, bt):
      assert loss(two_BA, ranked(0, 1)) == pytest.approx(0.313262, abs=1e-6)
    # A lead of 1 that must be 1: ln 2; and (1 + 0)^2 of centring.
    value = bt(two_BA, ranked(0, 1), 1.0, 0.25)
    assert value == pytest.approx(math.log(2) + 0.25, abs=1e-6)


def test_every_prompt_counts_the_same_and_padding_nothing():
  """Two prompts in one row, one of them with three answers, and a gap."""
  score_BA = jnp.array([[2.0, 9.0, 1.0, 1.0, 0.0, 0.0], [7.0] * 6])
  laid_out = answers(
    [[1, 0, 1, 2, 1, 2], [0] * 6], [[0, 0, 1, 0, 2, 1], [0] * 6]
  )
  for loss, of_three in (
    (preference.bradley_terry, 0.251150),
    (preference.plackett_luce, 0.720868),
  ):
    value, grad_BA = jax.value_and_grad(loss)(score_BA, laid_out)
    assert value == pytest.approx((of_three + 0.313262) / 2, abs=1e-6)
    assert not np.asarray(grad_BA)[[0, 1], [1, 1]].any()
    assert np.isfinite(grad_BA).all()


def test_plackett_luce_is_a_distribution_over_rankings():
  """By enumeration: sums to 1, and the mean score function is 0."""
  score_BA = jax.random.normal(jax.random.key(0), (1, 4))
  total, mean_grad_BA = 0.0, 0.0
  for rank in itertools.permutations(range(4)):
    loss, grad_BA = jax.value_and_grad(preference.plackett_luce)(
      score_BA, ranked(*rank)
    )
    total += jnp.exp(-loss)
    mean_grad_BA += jnp.exp(-loss) * grad_BA
  assert total == pytest.approx(1, abs=1e-5)
  np.testing.assert_allclose(mean_grad_BA, 0, atol=1e-5)


def test_tied_answers_are_not_compared():
  """Rank 0 before two tied ones: two pairs, and two draws by themselves."""
  score_BA = jnp.array([[0.5, -1.0, 2.0]])
  pairs = [math.log1p(math.exp(x - 0.5)) for x in (-1.0, 2.0)]
  value = preference.bradley_terry(score_BA, ranked(0, 1, 1))
  assert value == pytest.approx(sum(pairs) / 2, abs=1e-6)
  first = math.log(sum(map(math.exp, (0.5, -1, 2)))) - 0.5
  value = preference.plackett_luce(score_BA, ranked(0, 1, 1))
  assert value == pytest.approx(first, abs=1e-6)


# method, options, loss and its gradient in the margin, at margin 6, beta .1.
MARGINS = [
  ('dpo', {}, 0.437488, -0.035434),
  ('cdpo', {'label_smoothing': 0.1}, 0.497488, -0.035434 + 0.1 * 0.1),
  # The slope of the turned pair is beta + L'(m): L' - e beta / (1 - 2 e).
  ('robust', {'label_smoothing': 0.1}, 0.362488, -0.035434 - 0.0125),
  ('hinge', {}, 0.4, -0.1),
  ('ipo', {}, 1.0, 2.0),
]  # fmt: skip


def policy_loss(cfg, logp, ref_logp=(0.0, 0.0), n_tokens=(1, 1)):
  def loss(logp_BA):
    return preference.policy(
      cfg,
      logp_BA,
      jnp.array([ref_logp]),
      n_tokens_BA=jnp.array([n_tokens]),
      answers=ranked(0, 1),
    )

  (value, found), grad_BA = jax.value_and_grad(loss, has_aux=True)(
    jnp.array([logp])
  )
  found = {name: float(a / b) for name, (a, b) in found.items()}
  return float(value), np.asarray(grad_BA[0]), found


@pytest.mark.parametrize(('method', 'options', 'value', 'slope'), MARGINS)
def test_losses_of_a_margin(method, options, value, slope):
  """log ratios 2 and -4."""
  cfg = Preference(method, **options)
  got, grad_A, found = policy_loss(cfg, (-3.0, -6.0), (-5.0, -2.0))
  assert got == pytest.approx(value, abs=1e-6)
  np.testing.assert_allclose(grad_A, [slope, -slope], atol=1e-6)
  assert found == pytest.approx(
    {'reward_chosen': 0.2, 'reward_rejected': -0.4, 'reward_margin': 0.6}
    | {'logp_chosen': -3, 'logp_rejected': -6, 'accuracy': 1}
    | {'logp_margin': 3},
    abs=1e-6,
  )


def test_robust_is_unbiased_under_turned_pairs():
  """By enumeration of both labels; cDPO is not."""
  margin, share = jnp.array(1.7), 0.2

  def expected(loss_fn, method):
    cfg = Preference(method, beta=1.0, label_smoothing=share)
    return (1 - share) * loss_fn(margin, cfg) + share * loss_fn(-margin, cfg)

  clean = float(preference.dpo(margin, Preference(beta=1.0)))
  assert expected(preference.robust, 'robust') == pytest.approx(clean, abs=1e-6)
  assert abs(expected(preference.dpo, 'cdpo') - clean) > 0.1


def test_gradient_of_dpo_vanishes_where_theory_says():
  """pi = ref exp(r / beta) / Z; all pairs, weighted as Bradley-Terry's judge.

  Source: arXiv:2305.18290 eq. 4.
  """
  beta, reward_A = 0.5, jnp.array([1.0, -0.3, 0.4])
  ref_A = jnp.log(jnp.array([0.2, 0.5, 0.3]))

  def expected(logits_A):
    logp_A = jax.nn.log_softmax(logits_A)
    total = 0.0
    for i, j in itertools.permutations(range(3), 2):
      loss, _ = preference.policy(
        Preference(beta=beta),
        logp_A[jnp.array([[i, j]])],
        ref_A[jnp.array([[i, j]])],
        n_tokens_BA=jnp.ones((1, 2)),
        answers=ranked(0, 1),
      )
      total += jax.nn.sigmoid(reward_A[i] - reward_A[j]) * loss
    return total

  best_A = ref_A + reward_A / beta
  np.testing.assert_allclose(jax.grad(expected)(best_A), 0, atol=1e-6)
  assert abs(np.asarray(jax.grad(expected)(ref_A))).max() > 0.05


def test_without_a_reference():
  """Mean log-probabilities -.5 and -1, of 4 and 2 tokens."""
  given = {'logp': (-2.0, -2.0), 'n_tokens': (4, 2)}
  value, _, _ = policy_loss(Preference('simpo', beta=2.0, gap=1.0), **given)
  assert value == pytest.approx(0.693147, abs=1e-6)
  value, _, _ = policy_loss(Preference('orpo', beta=1.0), **given)
  assert value == pytest.approx(0.5 + 0.320300, abs=1e-6)
  # What is certain has infinite odds, and still a finite loss.
  value, grad_A, _ = policy_loss(Preference('orpo'), logp=(0.0, -2.0))
  assert np.isfinite([value, *grad_A]).all()


def test_sft_term_has_no_reward():
  """It adds .5 nats a token of the better answer, and changes no metric."""
  given = {'logp': (-2.0, -2.0), 'ref_logp': (-3.0, -1.0), 'n_tokens': (4, 2)}
  plain, _, found = policy_loss(Preference(), **given)
  with_sft, _, same = policy_loss(Preference(sft_weight=2.0), **given)
  assert with_sft - plain == pytest.approx(2 * 0.5, abs=1e-6)
  assert found == same


def test_length_normalised_margins():
  """Log ratios 1 of 4 tokens and -1 of 2: a margin of 3 / 4."""
  given = {'logp': (-2.0, -2.0), 'ref_logp': (-3.0, -1.0), 'n_tokens': (4, 2)}
  cfg = Preference('ipo', beta=1.0, length_normalised=True)
  value, _, found = policy_loss(cfg, **given)
  assert value == pytest.approx((0.75 - 0.5) ** 2, abs=1e-6)
  assert found['reward_margin'] == pytest.approx(0.75, abs=1e-6)


def test_kto_by_hand():
  """Log ratios 2, -1, and 1 and 5 of answers to other prompts: a KL of 3."""
  laid_out = answers([[1, 1, 2, 3]], [[0, 1, -1, -1]])

  def loss(logp_BA):
    return preference.policy(
      Preference('kto', undesirable_weight=3.0),
      logp_BA,
      jnp.array([[-4.0, -1.0, -2.0, -6.0]]),
      n_tokens_BA=jnp.ones((1, 4)),
      answers=laid_out,
    )

  logp_BA = jnp.array([[-2.0, -2.0, -1.0, -1.0]])
  (value, found), grad_BA = jax.value_and_grad(loss, has_aux=True)(logp_BA)

  def sigmoid(x):
    return 1 / (1 + math.exp(-x))

  good, bad = sigmoid(0.1 * (2 - 3)), sigmoid(0.1 * (3 + 1))
  expected = ((1 - good) + 3 * (1 - bad)) / 2
  assert value == pytest.approx(expected, abs=1e-6)
  slopes = [-0.05 * good * (1 - good), 0.15 * bad * (1 - bad), 0, 0]
  np.testing.assert_allclose(grad_BA[0], slopes, atol=1e-6)
  total, n = found['kl']
  assert total / n == pytest.approx(3)
  means = {name: total / n for name, (total, n) in found.items()}
  assert means['reward_chosen'] == pytest.approx(0.2)
  assert means['reward_rejected'] == pytest.approx(-0.1)
  # Below 0 the estimate counts as 0.
  value, _ = loss(logp_BA.at[0, 2:].add(-50.0))
  expected = ((1 - sigmoid(0.2)) + 3 * (1 - sigmoid(0.1))) / 2
  assert value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
  ('settings', 'fault'),
  [
    ({'loss': 'nca'}, 'use one of'),
    ({'beta': 0.0}, 'beta = 0.0 must be more than 0'),
    ({'label_smoothing': 0.1}, 'is for cdpo and robust'),
    ({'loss': 'robust'}, 'needs one above 0 and below 0.5'),
    ({'loss': 'cdpo', 'label_smoothing': 0.5}, 'below 0.5'),
    ({'gap': 1.0}, 'gap = 1.0 is for simpo'),
    ({'loss': 'simpo', 'length_normalised': True}, 'always are'),
    ({'loss': 'orpo', 'sft_weight': 1.0}, 'has that term'),
    ({'loss': 'kto', 'sft_weight': 1.0}, 'compares no pairs'),
    ({'desirable_weight': 2.0}, 'are for kto'),
    ({'sft_weight': -1.0}, 'at least 0'),
  ],
)
def test_invalid_combinations_are_refused(settings, fault):
  with pytest.raises(ValueError, match=fault):
    Preference(**settings)
