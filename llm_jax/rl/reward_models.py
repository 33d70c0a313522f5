"""Rewards by models that score answers, in place of a verifier.

They read the ids that were drawn, never text encoded again, so that their
vocabulary must be the policy's. What they were trained on they know; far from
that their scores mean nothing, and a policy finds its way there.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from llm_jax.infer import reading
from llm_jax.tokenizer import loading
from llm_jax.train import checkpoint, start

# From prompts with answers, as ids, to a reward of each, float32.
RewardFn = Callable[[Sequence[reading.Pair]], np.ndarray]


def choose(
  folders: Sequence[str], stage: start.Stage, length: int
) -> tuple[RewardFn | None, dict[str, str]]:
  """The reward by one model or several; None where it is not a model's.

  Args:
    folders: of experiments.reward_model.
    stage: of the policy, whose answers are scored.
    length: tokens of the longest prompt with its answer, less one.

  Returns:
    The function; and the fingerprint of each model, for the record.

  Raises:
    FileNotFoundError, ValueError: if a folder holds no reward model, or one
      that cannot read the policy's answers.
    FloatingPointError, from the function: if a score is not finite.

  Source: arXiv:2310.02743, mean and uncertainty-weighted ensembles.
  """
  if (stage.cfg.reward == 'model') != bool(folders):
    raise ValueError(
      f'Config.reward = {stage.cfg.reward!r} with --reward_model {[*folders]}: '
      "'model' takes one folder at least, and only it takes any"
    )
  if not folders:
    return None, {}
  if jax.process_count() > 1:
    raise ValueError(
      "Config.reward = 'model' is computed in one process, and these are "
      f'{jax.process_count()}; leave out --distributed'
    )
  models = {
    folder: checkpoint.load_model(folder, stage.mesh, has_values=True)
    for folder in folders
  }
  for folder, model in models.items():
    tokenizer = loading.load(model.tokenizer_dir)
    for name, theirs, ours in (
      ('vocabulary', tokenizer.fingerprint, stage.tokenizer.fingerprint),
      ('chat format', model.is_chat, stage.chat_format.is_chat),
    ):
      if theirs != ours:
        raise ValueError(
          f'--reward_model {folder} has the {name} {theirs}, the policy '
          f'{ours}; give one that was trained from the same model'
        )
    if model.model_config.max_length <= length:
      raise ValueError(
        f'--reward_model {folder} reads {model.model_config.max_length} '
        f'tokens, and a prompt with its answer has up to {length + 1}; use a '
        'smaller Config.max_new_tokens'
      )

  spread_weight = stage.cfg.rollouts.spread_weight

  def reward(pairs: Sequence[reading.Pair]) -> np.ndarray:
    scores = []
    for folder, model in models.items():
      score_B = reading.scores(
        model.model_config, model.params, pairs, batch_size=min(len(pairs), 64)
      )
      if not np.isfinite(score_B).all():
        raise FloatingPointError(
          f'--reward_model {folder} gave no finite score'
        )
      scores.append(score_B)
    spread_B = np.std(scores, axis=0)
    return np.mean(scores, axis=0) - np.float32(spread_weight) * spread_B

  known = {
    f'reward_model {i}': m.fingerprint for i, m in enumerate(models.values())
  }
  return reward, known
