"""Teaches a model by policy gradient with a verifier.

python -m experiments.rl --workdir runs/tiny/rl \
  --gin_file gin_configs/rl_tiny.gin --restore_from runs/tiny/sft

From an assistant, or straight from a base model (R1-Zero style): what the
checkpoint was trained on decides how problems are put to it. Hardware, time
and result stand in the header of each gin file.

The loop is this recipe's own, since its batches depend on the parameters:
rollout -> score -> advantage -> update, on the same arrays.
"""

import dataclasses
import functools
from concurrent import futures

import jax
from absl import logging

from experiments import command_line
from llm_jax import record
from llm_jax.chat import prompting
from llm_jax.evals import scoring
from llm_jax.infer import generate
from llm_jax.model import params
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.rl import algorithm as algorithm_lib
from llm_jax.rl import credit, learn, rollout
from llm_jax.rl import metrics as rl_metrics
from llm_jax.rl import prompts as questions_lib
from llm_jax.rl import reward as reward_lib
from llm_jax.tasks import addition, any_task, protocol
from llm_jax.tokenizer import encoding
from llm_jax.train import best as best_lib
from llm_jax.train import checkpoint, fit, metrics, start, training_loop, update


@dataclasses.dataclass(frozen=True)
class Config:
  """Reinforcement learning on one task."""

  seed: int = 0  # problems, samples and random rewards
  n_prompts: int = 32  # problems a step
  n_samples: int = 8  # answers to each
  n_problems: int = 0  # distinct ones, in epochs; 0: new ones at every step
  max_new_tokens: int = 40  # longest answer
  temperature: float = 1.0  # of the rollouts
  reward: str = 'verifier'  # or 'random', the control
  evaluate_every: int = 20  # steps
  task: any_task.AnyTask = addition.Addition()
  preset: str = ''  # a named algorithm: grpo, dr_grpo, dapo, ...
  algorithm: algorithm_lib.Algorithm = algorithm_lib.Algorithm()
  rollouts: rollout.Rollouts = rollout.Rollouts()
  updates: learn.Updates = learn.Updates()
  evaluation: scoring.Scoring = scoring.Scoring(
    n_problems=128, n_samples=1, max_new_tokens=40, batch_size=128
  )
  optimizer: optimizers.Optimizer = optimizers.Optimizer(
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
    if self.reward not in reward_lib.KINDS:
      raise ValueError(
        f'Config.reward = {self.reward!r}; use one of {reward_lib.KINDS}'
      )
    algorithm = algorithm_lib.choose(self.preset, self.algorithm)
    if self.n_samples < 2 and algorithm.baseline != 'value':
      raise ValueError(
        f'Config.n_samples = {self.n_samples}: the baseline is made of a '
        'group; use 2 or more, or the preset ppo'
      )


def run(cfg: Config, workdir: str, restore_from: str) -> None:
  """Train the policy; the same workdir resumes."""
  algorithm = algorithm_lib.choose(cfg.preset, cfg.algorithm)
  n_steps = cfg.loop.n_steps
  n_rows = cfg.updates.rows(cfg.n_prompts * cfg.n_samples)  # of an update
  mesh = device_mesh.make(cfg.mesh, n_rows)
  model = checkpoint.load_model(restore_from, mesh)
  policy_cfg, is_chat = model.model_config, model.is_chat

  # What is asked: new problems at every step, or a pool of them in epochs.
  vocabulary = encoding.Tokenizer.load(model.tokenizer_dir)
  n_draws = max(n_steps, 1 + cfg.rollouts.max_refills)
  questions = questions_lib.load(
    cfg.task, cfg.n_problems or cfg.n_prompts * n_draws, cfg.seed, vocabulary,
    is_chat,
  )  # fmt: skip
  prompts = [question.token_ids for question in questions]
  stop_id = prompting.stop_id(vocabulary, is_chat)
  request = generate.Request(cfg.max_new_tokens, (stop_id,), cfg.temperature)
  length = max(map(len, prompts)) + cfg.max_new_tokens - 1
  first = min(map(len, prompts)) - 1  # no earlier target was drawn
  generate.check(policy_cfg, prompts, request)

  # Loss and update.
  lines = params.table(policy_cfg, algorithm.baseline == 'value')
  tx = optimizers.make(cfg.optimizer, n_steps * cfg.updates.n_a_step, lines)
  plan = fit.choose(
    policy_cfg, tx, mesh, n_rows, length, micro_batch=cfg.updates.micro_batch
  )
  loss_fn = algorithm_lib.make_loss_fn(
    algorithm, dataclasses.replace(policy_cfg, remat=plan.remat), first
  )
  update_fn = update.make_update_fn(
    loss_fn, tx, mesh, n_rows // plan.micro_batch
  )
  look_fn = learn.make_look_fn(
    algorithm, policy_cfg, model.params, mesh, plan.micro_batch
  )

  # Begin, or go on from the newest checkpoint.
  inputs = {'model': model.fingerprint} | protocol.file_sums(cfg.task)
  machine = {'devices': str(jax.devices()), 'mesh': dict(mesh.shape)}
  machine['plan'] = dataclasses.asdict(plan)
  if record.begin(workdir, 'rl', cfg, inputs, machine):
    logging.info('rl in %s is already finished', workdir)
    return
  state, writer = start.start(
    workdir, 'rl', policy_cfg, model.tokenizer_dir, is_chat, tx, cfg.seed, mesh,
    cfg.loop.watch, model.params, has_values=algorithm.baseline == 'value',
  )  # fmt: skip
  n_done = int(state.step)
  best = best_lib.Best(workdir, n_done, 'eval_sampled')

  def evaluate(step: int) -> None:
    asked = scoring.Model(policy_cfg, state.params, vocabulary, is_chat)
    result = scoring.evaluate(asked, cfg.task, cfg.evaluation, direct=False)
    values = rl_metrics.evaluation(result)
    writer.metrics(step, values)
    sample = result['samples'][0]
    writer.sample(step, {'prompt': sample['prompt'], 'text': sample['answer']})
    logging.info('step %d/%d | %s', step, n_steps, values)
    if step:
      best.offer(values['eval_sampled'], state)

  # The loop.
  pool = futures.ThreadPoolExecutor(cfg.rollouts.n_threads)
  sampler = rollout.Sampler(
    policy_cfg, request, cfg.task, vocabulary, questions, cfg.n_prompts,
    cfg.n_samples, cfg.rollouts.batch_size, cfg.reward, cfg.seed, mesh, pool,
  )  # fmt: skip
  learner = learn.Learner(
    algorithm, cfg.updates, look_fn, update_fn, mesh, length,
    cfg.max_new_tokens, cfg.seed,
  )  # fmt: skip
  dead = functools.partial(credit.dead_groups, algorithm)
  if not n_done:
    evaluate(0)
  with pool, best, training_loop.Run(cfg.loop, workdir, writer) as loop:
    for step in loop.steps(n_done):
      draw_fn = functools.partial(rollout.draw, sampler, state.params, step)
      collected = rollout.collect(draw_fn, dead, cfg.rollouts.max_refills)
      writer.rollouts(step, rl_metrics.lines(collected, cfg.rollouts.n_written))
      state, values = learn.learn(learner, state, collected, step)
      loop.write(step, values | rl_metrics.describe(collected, cfg.task))
      if step % cfg.evaluate_every == 0 or step == n_steps:
        evaluate(step)
      if loop.is_due(step):
        loop.save(step, state)
  writer.close()
  lines = metrics.read(f'{workdir}/{metrics.METRICS}')
  n_tokens = sum(line.get('sampled_tokens', 0) for line in lines)
  record.finish(workdir, {'tokens': n_tokens, 'best_sampled': best.value})


if __name__ == '__main__':
  command_line.main(Config, run)
