"""Pretrains a Transformer on token shards, mixed by weight.

python -m experiments.pretrain --workdir runs/tiny/pretrain \
  --gin_file gin_configs/pretrain_tiny.gin \
  --tokens runs/tiny/tokens --tokenizer runs/tiny/tokenizer

With --restore_from in place of --tokenizer a model goes on with other text.
Hardware, time and result stand in the header of each gin file.
"""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from jax.sharding import Mesh

from experiments import command_line, explain
from llm_jax import record, types
from llm_jax.agent import turns
from llm_jax.data import mixture, shards
from llm_jax.evals import bits_per_byte, continuations
from llm_jax.losses import next_token
from llm_jax.model import config as model_config
from llm_jax.model import likelihood, params
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.tokenizer import infilling
from llm_jax.train import fit, start, training_loop, update


@dataclasses.dataclass(frozen=True)
class Config:
  """Pretraining of one model."""

  seed: int = 0  # parameters and order of the data
  batch_size: int = 16  # rows of the tokens' sequence_length
  sources: tuple[str, ...] = ()  # of --tokens; (): all that there are
  weights: tuple[float, ...] = ()  # of each source in a batch; (): by tokens
  max_epochs: tuple[float, ...] = ()  # of each source, 0: any; (): any of all
  keep_documents: bool = True  # False: tokens see the documents before theirs
  fim_rate: float = 0.0  # of documents, cut for their middles to be filled in
  valid_source: str = ''  # its valid split is never trained on; '': the first
  valid_rows: int = 512  # rows of an evaluation; all of them if there are fewer
  evaluate_every: int = 100  # steps
  sample_every: int = 50  # steps
  sample_prompts: tuple[str, ...] = ('The',)  # texts that are continued
  sample_tokens: int = 40  # tokens of a sample
  balance_weight: float = 0.01  # of the experts' load balance in the loss
  loss_chunk: int = 0  # tokens of a row whose logits exist at once; 0: all
  micro_batch: int = 0  # rows computed at once; 0: as many as fit the memory
  device_memory: float = 0.0  # GiB of a device, for that; 0: as it says itself
  model: model_config.ModelConfig = model_config.ModelConfig()
  optimizer: optimizers.AnyOptimizer = optimizers.Optimizer()
  loop: training_loop.LoopConfig = training_loop.LoopConfig()
  mesh: device_mesh.MeshConfig = device_mesh.MeshConfig()

  def __post_init__(self):
    lists = {'weights': self.weights, 'max_epochs': self.max_epochs}
    mixture.check_lists(self.sources, lists)


def run(
  cfg: Config,
  workdir: str,
  tokens: Sequence[str],
  tokenizer: str | None = None,
  restore_from: str | None = None,
) -> None:
  """Train the model; the same workdir resumes."""
  stage = start.new(
    'pretrain', cfg, workdir, tokenizer_dir=tokenizer, restore_from=restore_from
  )
  cfg, vocabulary, n_steps = stage.cfg, stage.tokenizer, stage.cfg.loop.n_steps

  # Data: every row is a function of (seed, step), so the step is all its state.
  mixed, held_out = mixture.open_sources(
    tokens,
    cfg.sources,
    cfg.weights,
    valid_name=cfg.valid_source,
    batch_size=cfg.batch_size,
    tokenizer_fingerprint=vocabulary.fingerprint,
  )
  n_batches = cfg.loop.batch_number(n_steps)
  mixture.check_epochs(mixed, n_batches, cfg.max_epochs)
  length = mixed[0][0].sequence_length
  model_config.check_fits(cfg.model, vocabulary.vocab_size, length)
  valid = bits_per_byte.read(held_out, vocabulary, cfg.valid_rows)
  measured, infill = {'valid': valid}, None
  if cfg.fim_rate:
    infill = infilling.Infilling(vocabulary, cfg.fim_rate, cfg.seed)
    measured |= bits_per_byte.middles(valid, vocabulary)
  batch_fn = mixture.make_batch_fn(
    mixed, cfg.seed, keep_documents=cfg.keep_documents, infill=infill
  )
  inputs = {f'tokens {i}': shards.fingerprint(x) for i, x in enumerate(tokens)}

  # The step, then the loop, from the newest checkpoint or from the beginning.
  n_bytes_V = bits_per_byte.text_bytes(vocabulary, cfg.model.padded_vocab_size)
  tx, update_fn, plan = make_step(
    cfg, stage.mesh, length, n_bytes_V=n_bytes_V, n_updates=stage.n_updates
  )
  if stage.begin(inputs, plan, mixture.table(mixed, n_batches)):
    return
  state, loop = stage.used(cfg.sample_prompts, fills=bool(infill)).start(tx)
  flops = params.train_flops_per_token(cfg.model, length)
  steps = loop.train(state, update_fn, batch_fn, flops_per_token=flops)
  for step, trained in steps:
    is_last = step == n_steps
    if step % cfg.evaluate_every == 0 or is_last:
      found = {
        f'{name}_bits_per_byte': bits_per_byte.bits_per_byte(
          cfg.model, trained.params, held_out=text, batch_size=plan.micro_batch
        )
        for name, text in measured.items()
        if name == 'valid' or is_last
      }
      loop.writer.metrics(step, found | mixture.progress(mixed, step))
      for name, bits in found.items():
        logging.info('step %d | %s %.4f', step, name, bits)
    if step % cfg.sample_every == 0 or is_last:
      model = turns.of_stage(stage, trained)
      for prompt, text in continuations.sample(
        model, cfg.sample_prompts, cfg.sample_tokens
      ):
        loop.writer.sample(step, {'prompt': prompt, 'text': text})
        logging.info('step %d | generating: %r', step, f'{prompt}{text}')
  summary = {
    'tokens': n_steps * cfg.batch_size * length,
    **mixture.progress(mixed, n_steps),
    'result': f'{loop.writer.last("valid_bits_per_byte"):.3f} bits per byte',
  }
  record.finish(workdir, summary)


def make_step(
  cfg: Config, mesh: Mesh, length: int, n_bytes_V: np.ndarray, n_updates: int
) -> tuple[optax.GradientTransformation, update.UpdateFn, fit.Plan]:
  """Make the optimizer, the update, and its plan for rows of that length."""
  tx = optimizers.make(cfg.optimizer, n_updates, params.table(cfg.model))
  plan = fit.choose(fit.Step(cfg, cfg.model, tx, mesh=mesh, length=length))
  model = dataclasses.replace(cfg.model, remat=plan.remat)

  def loss_fn(
    params: types.Params, batch: types.Batch, key: jax.Array
  ) -> tuple[jax.Array, types.Metrics]:
    del key  # nothing is drawn: there is no dropout
    logp_BT, _, balance = likelihood.of_targets(
      model, params, batch, chunk_length=cfg.loss_chunk
    )
    mask_BT = batch['loss_mask_BT']
    n_bytes = (jnp.asarray(n_bytes_V)[batch['targets_BT']] * mask_BT).sum()
    bits = -(logp_BT * mask_BT).sum() / math.log(2)
    loss = next_token.cross_entropy(logp_BT, mask_BT)
    metrics: types.Metrics = {'bits_per_byte': (bits, n_bytes)}
    if 'n_lost_B1' in batch:
      metrics['fim_lost_tokens'] = batch['n_lost_B1'].sum()
    if balance is not None:
      loss += cfg.balance_weight * balance
      metrics['balance'] = (balance, jnp.ones(()))
    return loss, metrics

  n_micro = cfg.batch_size // plan.micro_batch
  return tx, update.make_update_fn(loss_fn, tx, mesh, n_micro=n_micro), plan


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    explain.pretraining,
    tokens='folder of token shards with manifest.json',
    tokenizer='folder of the tokenizer that made them; a model given by '
    '--restore_from has its own',
  )
