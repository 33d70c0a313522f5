"""Trains a model that scores answers, on rankings of answers.

python -m experiments.reward_model --workdir runs/tiny/reward_model \
  --gin_file gin_configs/reward_model_tiny.gin \
  --restore_from runs/tiny/sft --preferences pairs.jsonl

A scalar head reads the last token of an answer; it is trained with the whole
assistant, or base model. One prompt in ten is held out, to be measured by.
Hardware, time and result stand in the header of each gin file.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging

from experiments import command_line, explain
from llm_jax import dataclass_json, record, types
from llm_jax.data import preferences as preference_rows
from llm_jax.evals import preferences as preference_evals
from llm_jax.losses import preference
from llm_jax.model import likelihood, params
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.tasks import given
from llm_jax.tasks import preferences as preference_tasks
from llm_jax.train import checkpoint, fit, start, training_loop, update


@dataclasses.dataclass(frozen=True)
class Config:
  """Training of one reward model."""

  seed: int = 0  # order of the rankings
  batch_size: int = 16  # rows, each with the answers to a prompt or to several
  sequence_length: int = 512  # tokens of a row: all answers to a prompt
  loss: str = 'bradley_terry'  # or plackett_luce
  margin: float = 0.0  # bradley_terry: by which the better answer is to lead
  centring: float = 0.0  # bradley_terry: weight of what pulls scores to 0
  evaluate_every: int = 50  # steps
  micro_batch: int = 0  # rows computed at once; 0: as many as fit the memory
  device_memory: float = 0.0  # GiB of a device; 0: as it says itself
  optimizer: optimizers.AnyOptimizer = optimizers.Optimizer(
    matrices='adamw', peak_lr=3e-4, warmup_steps=10, schedule='linear'
  )
  loop: training_loop.LoopConfig = training_loop.LoopConfig(n_steps=100)
  mesh: device_mesh.MeshConfig = device_mesh.MeshConfig()

  def __post_init__(self):
    names = 'batch_size sequence_length evaluate_every'
    dataclass_json.require_at_least(self, names, 1)
    if self.loss not in (known := ('bradley_terry', 'plackett_luce')):
      raise ValueError(f'Config.loss = {self.loss!r}; use one of {known}')
    if self.loss != 'bradley_terry' and (self.margin or self.centring):
      raise ValueError(
        f'Config.margin = {self.margin}, Config.centring = {self.centring} are '
        f'for bradley_terry, not {self.loss}; leave them out'
      )


def run(
  cfg: Config, workdir: str, restore_from: str, preferences: Sequence[str]
) -> None:
  """Train the reward model; the same workdir resumes."""
  stage = start.after(
    checkpoint.SCORING_STAGE,
    cfg,
    workdir=workdir,
    restore_from=restore_from,
    n_rows=cfg.batch_size,
    teaches_chat=True,
  )
  model = stage.model_config
  lines = params.table(model, has_value_head=True)
  tx = optimizers.make(cfg.optimizer, stage.n_updates, lines)
  length = cfg.sequence_length
  rows = fit.Rows(
    cfg.batch_size,
    micro_batch=cfg.micro_batch,
    device_memory=cfg.device_memory,
  )
  plan = fit.choose(fit.Step(rows, model, tx, mesh=stage.mesh, length=length))
  model = dataclasses.replace(model, remat=plan.remat)
  sources = given.named(preferences, ())
  if stage.begin(preference_tasks.fingerprints(sources), plan):
    return

  # Data: rankings are laid out; those of one prompt in ten are held out.
  with record.correctable(workdir):
    limits = preference_tasks.Limits(model.max_length, row=length)
    laid_out, left_out = preference_tasks.load(
      sources, stage.chat_format, limits
    )
    trained, held_out = preference_tasks.split(laid_out)
    batch_fn, n_rows = preference_rows.make_batch_fn(
      [row.group for row in trained],
      sequence_length=length,
      batch_size=cfg.batch_size,
      seed=cfg.seed,
      pad_id=stage.tokenizer.separator_id,
    )
  epochs = cfg.loop.n_steps * cfg.batch_size / n_rows
  mixture = preference_tasks.mixture(trained, epochs)
  record.mixture(workdir, mixture, **left_out, held_out=len(held_out))

  # Loss and update.
  def loss_fn(
    params: types.Params, batch: types.Batch, key: jax.Array
  ) -> tuple[jax.Array, types.Metrics]:
    del key  # nothing is drawn: there is no dropout
    score_BA = likelihood.scores_of_answers(model, params, batch)
    answers = preference.Answers(batch['group_BA'], batch['rank_BA'])
    if cfg.loss == 'plackett_luce':
      loss = preference.plackett_luce(score_BA, answers)
    else:
      loss = preference.bradley_terry(
        score_BA, answers, margin=cfg.margin, centring=cfg.centring
      )
    return loss, preference.describe('score', score_BA, answers)

  n_micro = cfg.batch_size // plan.micro_batch
  update_fn = update.make_update_fn(loss_fn, tx, stage.mesh, n_micro=n_micro)

  def evaluate(params: types.Params) -> dict[str, Any]:
    """Score held-out answers, and compare with their ranks."""
    scores = preference_evals.scores(model, params, held_out)
    return preference_evals.agreement(held_out, scores, cfg.seed)

  # The loop, from the newest checkpoint or from the model that is given.
  state, loop = stage.start(tx, has_values=True)
  result: dict[str, Any] = {}
  if int(state.step) == cfg.loop.n_steps:  # it was killed behind its last step
    result = evaluate(state.params)
  for step, new in loop.train(state, update_fn, batch_fn):
    if step % cfg.evaluate_every == 0 or step == cfg.loop.n_steps:
      result = evaluate(new.params)
      names = ('accuracy', 'loss', 'calibration_error')
      loop.writer.metrics(step, {f'eval_{n}': result[n] for n in names})
      said = preference_evals.sentence(result)
      logging.info('step %d/%d | %s', step, cfg.loop.n_steps, said)
  tokens = cfg.loop.n_steps * cfg.batch_size * length
  summary = {'tokens': tokens, **left_out, **result}
  said = preference_evals.sentence(result)
  record.finish(workdir, {**summary, 'result': said})


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    explain.fine_tuning,
    preferences='file, folder or pattern of ranked answers in JSON lines or '
    'Parquet; see docs/how-to/preferences.md; several by name: name=...',
  )
