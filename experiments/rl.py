"""Teaches a model by policy gradient: a verifier's reward, or a model's.

python -m experiments.rl --workdir runs/tiny/rl --restore_from runs/tiny/sft \
  --gin_file gin_configs/rl_tiny.gin --import examples/assistant.py

From an assistant, or straight from a base model (R1-Zero style). Batches depend
on the parameters: rollout -> score -> advantage -> update. See each gin file.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from concurrent import futures

from experiments import command_line, explain
from llm_jax import dataclass_json, record
from llm_jax.agent import any_task, toolbox, turns
from llm_jax.chat import formats
from llm_jax.evals import scoring
from llm_jax.model import lora as model_lora
from llm_jax.model import params
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.rl import (
  algorithms,
  demonstrations,
  learn,
  metrics,
  prompts,
  reward_models,
  rollout,
)
from llm_jax.tasks import given, protocol
from llm_jax.train import best_model, start, training_loop, update


@dataclasses.dataclass(frozen=True)
class Config:
  """Reinforcement learning on one task."""

  seed: int = 0  # problems, samples and random rewards
  n_prompts: int = 32  # problems a step
  n_samples: int = 8  # answers to each
  n_problems: int = 0  # distinct ones, in epochs; 0: all of a file, else new
  max_new_tokens: int = 40  # longest answer
  temperature: float = 1.0  # of the rollouts and of the policy trained, > 0
  reward: str = 'verifier'  # 'model'; or 'random', the control
  evaluate_every: int = 20  # steps
  task: any_task.AnyTask = dataclasses.field(kw_only=True)
  preset: str = ''  # a named algorithm: grpo, dr_grpo, dapo, ...
  algorithm: algorithms.Algorithm = algorithms.Algorithm()
  rollouts: rollout.Rollouts = rollout.Rollouts()
  updates: learn.Updates = learn.Updates()
  ptx: demonstrations.Ptx = demonstrations.Ptx()
  lora: model_lora.Lora = model_lora.Lora()
  tools: toolbox.Toolbox = toolbox.Toolbox()
  evaluation: scoring.Scoring = scoring.Scoring(
    n_problems=128, n_samples=1, max_new_tokens=40, batch_size=128
  )
  optimizer: optimizers.AnyOptimizer = optimizers.Optimizer(
    matrices='adamw',
    peak_lr=5e-4,
    b2=0.98,
    clip_norm=0.5,
    warmup_steps=5,
    schedule='linear',
  )
  loop: training_loop.LoopConfig = training_loop.LoopConfig()
  mesh: device_mesh.MeshConfig = device_mesh.MeshConfig()

  def __post_init__(self):
    rollout.check_reward(self.reward, self.task)
    self.lora.check(self.optimizer)
    names = 'n_prompts n_samples evaluate_every'
    dataclass_json.require_at_least(self, names, 1)
    rollout.make_request(self.max_new_tokens, (), self.temperature)  # checks
    algorithm = algorithms.choose(self.preset, self.algorithm)
    algorithm.check_answers(self.n_prompts, self.n_samples)


def run(
  cfg: Config,
  workdir: str,
  restore_from: str,
  reward_model: Sequence[str] = (),
  conversations: Sequence[str] = (),
  chat: bool = False,
  base: bool = False,
) -> None:
  """Train the policy; the same workdir resumes."""
  algorithm = algorithms.choose(cfg.preset, cfg.algorithm)
  n_rows = cfg.updates.rows(cfg.n_prompts * cfg.n_samples)  # of an update
  stage = start.after(
    'rl',
    cfg,
    workdir=workdir,
    restore_from=restore_from,
    n_rows=n_rows,
    is_chat=formats.override(chat, base),
    tools=cfg.tools.schemas(),
  )
  policy_cfg = stage.model_config
  problems = prompts.load(stage, cfg.task, prompts.count(cfg))
  stop_ids = stage.chat_format.stop_ids
  request = rollout.make_request(cfg.max_new_tokens, stop_ids, cfg.temperature)
  first, row_length = prompts.check(policy_cfg, problems, request)
  reward_fn, known = reward_models.choose(reward_model, stage, row_length)
  sources = given.named(conversations, ())
  taught = demonstrations.load(stage, sources, row_length)
  if taught:
    first, n_rows = min(first, taught.first), n_rows + cfg.ptx.n_rows

  # Loss, optimizer and update.
  has_values = algorithm.has_values
  lines = model_lora.trained(cfg.lora, params.table(policy_cfg, has_values))
  tx = optimizers.make(cfg.optimizer, stage.n_updates, lines)
  plan = cfg.updates.plan(stage, tx, n_rows=n_rows, length=row_length)
  trained_cfg = dataclasses.replace(policy_cfg, remat=plan.remat)
  loss_fn = algorithms.make_loss_fn(
    algorithm, trained_cfg, first=first, temperature=cfg.temperature
  )
  update_fn = update.make_update_fn(
    loss_fn, tx, stage.mesh, n_micro=n_rows // plan.micro_batch
  )

  # Begin, or go on from the newest checkpoint.
  inputs = protocol.file_sums(cfg.task) | cfg.tools.inputs() | known
  inputs |= given.fingerprints(sources)
  if stage.begin(inputs, plan, prompts.mixture(problems, cfg, taught)):
    return
  state, loop = stage.start(tx, cfg.lora, has_values)
  n_done = int(state.step)
  opened = contextlib.ExitStack()
  best = best_model.Best(workdir, n_done, 'eval_sampled')
  learner = learn.Learner(stage, algorithm, update_fn, taught=taught)
  annotate = learn.make_annotate_fn(learner, plan.micro_batch, cfg.temperature)
  using = opened.enter_context(cfg.tools.opened())
  sampler = rollout.Sampler(
    stage=stage,
    problems=problems,
    request=request,
    dead_groups=functools.partial(algorithms.dead_groups, algorithm),
    pool=futures.ThreadPoolExecutor(cfg.rollouts.n_threads),
    reward_fn=reward_fn,
  )

  def evaluate(step: int) -> None:
    is_due = step % cfg.evaluate_every == 0 or step == cfg.loop.n_steps
    if is_due and protocol.has_verifier(cfg.task):
      model = turns.of_stage(stage, state, using)
      sampled = metrics.evaluate(model, cfg, writer=loop.writer, step=step)
      if step:
        best.offer(sampled, state)

  with opened, sampler.pool, best, loop:
    if not n_done:
      evaluate(0)
    for step in loop.steps(n_done):
      policy = turns.of_stage(stage, state, using, mesh=stage.mesh)
      rollouts = rollout.collect(sampler, policy, cfg.loop.batch_number(step))
      batch = rollout.training_batch(rollouts.trained_groups, row_length)
      batch = annotate(policy.params, batch)
      advantages, found = learn.token_advantages(
        learner, batch, rollouts.trained_reward_PR
      )
      state, learned = learn.update_policy(
        learner, state, batch=batch | advantages, step=step
      )
      lines = metrics.lines(rollouts, cfg.rollouts.n_written)
      loop.writer.rollouts(step, lines)
      loop.write(step, learned | found | metrics.describe(rollouts, cfg))
      evaluate(step)
      if loop.is_due(step):
        loop.save(step, state)
  record.finish(workdir, metrics.summary(loop.writer, best.value, cfg.task))


if __name__ == '__main__':
  command_line.main(Config, run, explain.reinforcement)
