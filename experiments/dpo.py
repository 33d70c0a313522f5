"""Trains an assistant on rankings of answers, without a reward model.

python -m experiments.dpo --workdir runs/tiny/dpo \
  --gin_file gin_configs/dpo_tiny.gin \
  --restore_from runs/tiny/sft --preferences pairs.jsonl

By DPO, cDPO, robust DPO, hinge, IPO, SimPO, ORPO or KTO. The reference is the
start; its log-probabilities are kept on disk. One prompt in ten is held out.
Hardware, time and result: see the gin files.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from experiments import command_line, explain
from llm_jax import dataclass_json, files, record, types
from llm_jax.data import preferences as preference_rows
from llm_jax.evals import preferences as preference_evals
from llm_jax.losses import preference
from llm_jax.model import likelihood, params
from llm_jax.model import lora as model_lora
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.tasks import given
from llm_jax.tasks import preferences as preference_tasks
from llm_jax.train import fit, start, train_state, training_loop, update


@dataclasses.dataclass(frozen=True)
class Config:
  """Learning from preferences by the likelihood of answers."""

  seed: int = 0  # order of the rankings
  batch_size: int = 16  # rows, each with the answers to a prompt or to several
  sequence_length: int = 512  # tokens of a row: all answers to a prompt
  method: preference.Preference = preference.Preference()
  evaluate_every: int = 50  # steps
  loss_chunk: int = 0  # tokens of a row whose logits exist at once; 0: all
  micro_batch: int = 0  # rows computed at once; 0: as many as fit the memory
  device_memory: float = 0.0  # GiB of a device; 0: as it says itself
  lora: model_lora.Lora = model_lora.Lora()
  optimizer: optimizers.AnyOptimizer = optimizers.Optimizer(
    matrices='adamw', peak_lr=1e-4, warmup_steps=10, schedule='linear'
  )
  loop: training_loop.LoopConfig = training_loop.LoopConfig(n_steps=100)
  mesh: device_mesh.MeshConfig = device_mesh.MeshConfig()

  def __post_init__(self):
    counts = 'batch_size sequence_length evaluate_every'
    dataclass_json.require_at_least(self, counts, 1)
    self.lora.check(self.optimizer)


def run(
  cfg: Config, workdir: str, restore_from: str, preferences: Sequence[str]
) -> None:
  """Train the assistant; the same workdir resumes."""
  method = cfg.method
  stage = start.after(
    'dpo',
    cfg,
    workdir=workdir,
    restore_from=restore_from,
    n_rows=cfg.batch_size,
    teaches_chat=True,
  )
  model, length = stage.model_config, cfg.sequence_length
  lines = model_lora.trained(cfg.lora, params.table(model))
  tx = optimizers.make(cfg.optimizer, stage.n_updates, lines)
  plan = fit.choose(
    fit.Step(cfg, model, tx, mesh=stage.mesh, length=length, adapters=cfg.lora)
  )
  if method.loss == 'kto' and plan.micro_batch < cfg.batch_size:
    raise ValueError(
      f'kto measures a KL over the whole batch, and {plan.micro_batch} of '
      f'{cfg.batch_size} rows fit at once; use a smaller Config.batch_size'
    )
  model = dataclasses.replace(model, remat=plan.remat)
  sources = given.named(preferences, ())
  if stage.begin(preference_tasks.fingerprints(sources), plan):
    return

  # Data: rankings with the reference's log-probability of each answer.
  with record.correctable(workdir):
    limits = preference_tasks.Limits(
      model.max_length, row=length, takes_labels=method.loss == 'kto'
    )
    rows, left_out = preference_tasks.load(sources, stage.chat_format, limits)
    trained, held_out = preference_tasks.split(rows)
    groups = [row.group for row in trained]
    if method.loss == 'kto':
      groups = preference_rows.with_mismatched(
        groups, preference.MISMATCHED, length
      )
  if method.has_reference:
    both = with_reference(stage, [*groups, *held_out])
    groups, held_out = both[: len(groups)], both[len(groups) :]
  batch_fn, n_rows = preference_rows.make_batch_fn(
    groups,
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
    del key  # nothing is drawn
    logp_BA, n_tokens_BA = likelihood.of_answers(
      model, params, batch, chunk_length=cfg.loss_chunk
    )
    return preference.policy(
      method,
      logp_BA,
      batch['ref_logp_BA'],
      n_tokens_BA=n_tokens_BA,
      answers=preference.Answers(batch['group_BA'], batch['rank_BA']),
    )

  n_micro = cfg.batch_size // plan.micro_batch
  update_fn = update.make_update_fn(loss_fn, tx, stage.mesh, n_micro=n_micro)

  # The loop, from the newest checkpoint or from the reference.
  def evaluate(state: train_state.TrainState) -> dict[str, Any]:
    """How far the implicit reward ranks held-out answers rightly."""
    params = train_state.model_params(state)
    logps = preference_evals.logps(model, params, held_out)

    def reward(answer: preference_rows.Answer, logp: float) -> float:
      ref, n = answer.ref_logp, answer.n_tokens
      return method.beta * preference.log_ratio(method, logp, ref, n_tokens=n)

    scores = [
      [*map(reward, *both)] for both in zip(held_out, logps, strict=True)
    ]
    return preference_evals.agreement(held_out, scores, cfg.seed)

  (state, loop), last = stage.start(tx, cfg.lora), cfg.loop.n_steps
  result = evaluate(state) if int(state.step) == last else {}  # was killed
  for step, new in loop.train(state, update_fn, batch_fn):
    if step % cfg.evaluate_every == 0 or step == last:
      result = evaluate(new)
      loop.writer.metrics(step, {'eval_accuracy': result['accuracy']})
      logging.info('step %d | %s', step, preference_evals.sentence(result))
  said = preference_evals.sentence(result)
  found = {'tokens': last * cfg.batch_size * length, **left_out, **result}
  record.finish(workdir, {**found, 'result': said})


def with_reference(
  stage: start.Stage, groups: Sequence[preference_rows.Group]
) -> list[preference_rows.Group]:
  """Answers with their log-probability under the start, which stays on disk."""
  path = pathlib.Path(stage.workdir) / 'reference_logp.npy'
  if not path.exists():
    logps = preference_evals.logps(stage.model_config, stage.params, groups)
    files.write_array(path, np.array([x for own in logps for x in own]))
  found = iter(files.read_array(path).tolist())
  return [[a._replace(ref_logp=next(found)) for a in group] for group in groups]


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    explain.fine_tuning,
    preferences='file, folder or pattern of ranked answers in JSON lines or '
    'Parquet; see docs/how-to/preferences.md; several by name: name=...',
  )
