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
import time

import jax
from absl import logging

from experiments import command_line
from llm_jax import record, types
from llm_jax.chat import prompt as prompt_lib
from llm_jax.evals import scoring
from llm_jax.infer import generate
from llm_jax.model import likelihood
from llm_jax.optim import optimizer as optimizer_lib
from llm_jax.parallel import mesh as mesh_lib
from llm_jax.rl import algorithm as algorithm_lib
from llm_jax.rl import reward as reward_lib
from llm_jax.rl import rollout
from llm_jax.tasks import addition, any_task
from llm_jax.tokenizer import tokenizer as tokenizer_lib
from llm_jax.train import checkpoint, start, update
from llm_jax.train import loop as loop_lib
from llm_jax.train import metrics as metrics_lib


@dataclasses.dataclass(frozen=True)
class Config:
  """Reinforcement learning on one task."""

  seed: int = 0  # problems, samples and random rewards
  n_prompts: int = 32  # problems a step
  n_samples: int = 8  # answers to each
  max_new_tokens: int = 40  # longest answer
  temperature: float = 1.0  # of the rollouts
  reward: str = 'verifier'  # or 'random', the control
  evaluate_every: int = 20  # steps
  task: any_task.AnyTask = addition.Addition()
  preset: str = ''  # a named algorithm: grpo, dr_grpo, dapo, ...
  algorithm: algorithm_lib.Algorithm = algorithm_lib.Algorithm()
  evaluation: scoring.Scoring = scoring.Scoring(
    n_problems=128, n_samples=1, max_new_tokens=40, batch_size=128
  )
  optimizer: optimizer_lib.Optimizer = optimizer_lib.Optimizer(
    matrices='adamw',
    peak_lr=5e-4,
    b2=0.98,
    clip_norm=0.5,
    warmup_steps=5,
    schedule='linear',
  )
  loop: loop_lib.LoopConfig = loop_lib.LoopConfig()
  mesh: mesh_lib.MeshConfig = mesh_lib.MeshConfig()

  def __post_init__(self):
    if self.reward not in ('verifier', 'random'):
      raise ValueError(
        f'Config.reward = {self.reward!r}; use verifier or random'
      )
    if self.n_samples < 2:
      raise ValueError(
        f'Config.n_samples = {self.n_samples}: the baseline is the mean of a '
        'group; use 2 or more'
      )


def run(cfg: Config, workdir: str, restore_from: str) -> None:
  """Train the policy; the same workdir resumes."""
  algorithm = algorithm_lib.choose(cfg.preset, cfg.algorithm)
  mesh = mesh_lib.make(cfg.mesh, cfg.n_prompts * cfg.n_samples)
  model = checkpoint.load_model(restore_from, mesh)

  # The problems of the whole run in order, and how they are asked.
  vocabulary = tokenizer_lib.Tokenizer.load(model.tokenizer_dir)
  policy_cfg, n_steps = model.model_config, cfg.loop.n_steps
  problems = cfg.task.problems('train', cfg.n_prompts * n_steps, cfg.seed)
  prompts = [
    prompt_lib.token_ids(vocabulary, problem.prompt, model.is_chat)
    for problem in problems
  ]
  stop_id = prompt_lib.stop_id(vocabulary, model.is_chat)
  request = generate.Request(cfg.max_new_tokens, (stop_id,), cfg.temperature)
  length = max(map(len, prompts)) + cfg.max_new_tokens - 1
  first = min(map(len, prompts)) - 1  # no earlier target was drawn
  generate.check(policy_cfg, prompts, request)
  machine = {'devices': str(jax.devices()), 'mesh': dict(mesh.shape)}
  inputs = {'model': model.fingerprint}
  if record.begin(workdir, 'rl', cfg, inputs, machine):
    logging.info('rl in %s is already finished', workdir)
    return

  # Loss and update.
  def loss_fn(
    params: types.Params, batch: types.Batch, key: jax.Array
  ) -> tuple[jax.Array, types.Metrics]:
    del key  # nothing is drawn: there is no dropout
    logp_BT = likelihood.target_logp(policy_cfg, params, batch, first=first)
    return algorithm_lib.loss(algorithm, logp_BT, batch)

  reference_fn = algorithm_lib.make_reference_fn(
    algorithm, policy_cfg, model.params, mesh
  )
  tx = optimizer_lib.make(cfg.optimizer, n_steps)
  update_fn = update.make_update_fn(loss_fn, tx, mesh)
  state, writer = start.start(
    workdir, 'rl', policy_cfg, model.tokenizer_dir, model.is_chat, tx, cfg.seed,
    mesh, cfg.loop.watch, model.params,
  )  # fmt: skip

  def evaluate(step: int) -> None:
    asked = scoring.Model(policy_cfg, state.params, vocabulary, model.is_chat)
    result = scoring.evaluate(asked, cfg.task, cfg.evaluation, direct=False)
    values = {f'eval_{name}': result[name] for name in ('greedy', 'sampled')}
    writer.metrics(step, values)
    sample = result['samples'][0]
    writer.sample(step, {'prompt': sample['prompt'], 'text': sample['answer']})
    logging.info('step %d/%d | %s', step, n_steps, values)

  # The loop.
  n_done = int(state.step)
  if not n_done:
    evaluate(0)
  with loop_lib.Run(cfg.loop, workdir, writer) as loop:
    for step in loop.steps(n_done):
      started = time.monotonic()
      chosen = slice((step - 1) * cfg.n_prompts, step * cfg.n_prompts)
      groups = rollout.sample_groups(
        policy_cfg, state.params, prompts[chosen], cfg.n_samples, request,
        cfg.seed, step, mesh,
      )  # fmt: skip
      texts = [
        [prompt_lib.answer_text(vocabulary, a.token_ids) for a in group]
        for group in groups
      ]
      verdict_PR = reward_lib.verify(cfg.task, problems[chosen], texts)
      reward_PR = verdict_PR
      if cfg.reward == 'random':
        reward_PR = reward_lib.toss(verdict_PR.shape, cfg.seed, step)
      batch, is_dead_P = algorithm_lib.make_batch(
        algorithm, prompts[chosen], groups, reward_PR, length,
        cfg.max_new_tokens,
      )  # fmt: skip
      rollout_s = time.monotonic() - started
      if is_dead_P.all():  # a zero gradient would still move Adam's moments
        state, metrics = dataclasses.replace(state, step=state.step + 1), {}
      else:
        batch = reference_fn(mesh_lib.put_batch(mesh, batch))
        state, metrics = update_fn(state, batch)
      values = {k: float(v) for k, v in jax.device_get(metrics).items()}
      values |= rollout.describe(groups, texts, cfg.task) | {
        'accuracy': float(verdict_PR.mean()),
        'reward_mean': float(reward_PR.mean()),
        'dead_group_share': float(is_dead_P.mean()),
        'rollout_s': rollout_s,
        'update_s': time.monotonic() - started - rollout_s,
      }
      loop.write(step, values)
      if step % cfg.evaluate_every == 0 or step == n_steps:
        evaluate(step)
      if loop.is_due(step):
        loop.save(step, state)
  writer.close()
  lines = metrics_lib.read(f'{workdir}/{metrics_lib.METRICS}')
  n_tokens = sum(line.get('sampled_tokens', 0) for line in lines)
  record.finish(workdir, {'tokens': n_tokens})


if __name__ == '__main__':
  command_line.main(Config, run)
