"""Fine-tunes a base model into an assistant on conversations.

python -m experiments.sft --workdir runs/tiny/sft \
  --gin_file gin_configs/sft_tiny.gin \
  --restore_from runs/tiny/pretrain --documents runs/tiny/clean

The conversations are those given by --conversations and, where settings ask
for them, a task's demonstrations, questions about the crawled manual and the
assistant's identity. The loss is on the assistant's words and its stop token.
Hardware, time and result stand in the header of each gin file.
"""

import dataclasses
import os
from collections.abc import Sequence

import jax
from absl import logging

from experiments import command_line, explain
from llm_jax import record, types
from llm_jax.chat import template
from llm_jax.data import conversations, packing, readers
from llm_jax.losses import next_token
from llm_jax.model import likelihood, params
from llm_jax.model import lora as model_lora
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.tasks import any_task, demonstrations, protocol
from llm_jax.train import start, training_loop, update


@dataclasses.dataclass(frozen=True)
class Config:
  """Supervised fine-tuning of one model."""

  seed: int = 0  # conversations drawn and their order
  batch_size: int = 16  # rows of packed conversations
  sequence_length: int = 256  # tokens of a row
  n_task: int = 0  # demonstrations of the task
  think_share: float = 0.4  # of the demonstrations, with a thought
  n_documentation: int = 0  # questions about the manual in --documents
  n_identity: int = 0  # questions about the assistant
  text_column: str = 'text'  # of --documents
  max_turns: int = 1  # questions in one conversation, from 1 on
  task: any_task.AnyTask | None = None
  lora: model_lora.Lora = model_lora.Lora()
  optimizer: optimizers.AnyOptimizer = optimizers.Optimizer(
    matrices='adamw', peak_lr=1e-3, warmup_steps=5
  )
  loop: training_loop.LoopConfig = training_loop.LoopConfig(n_steps=40)
  mesh: device_mesh.MeshConfig = device_mesh.MeshConfig()

  def __post_init__(self):
    matrices = getattr(self.optimizer, 'matrices', 'adamw')
    if self.lora.rank and matrices != 'adamw':
      raise ValueError(
        f'Optimizer.matrices = {matrices!r} with Lora.rank = '
        f'{self.lora.rank}: Muon is for whole matrices; use adamw'
      )
    if (self.task is None) != (self.n_task == 0):
      raise ValueError(
        f'Config.n_task = {self.n_task} demonstrations of Config.task = '
        f'{self.task}: set both, as in Config.task = @Addition() and '
        'Config.n_task = 1000, or none of them'
      )


def run(
  cfg: Config,
  workdir: str,
  restore_from: str,
  documents: str | None = None,
  conversations: Sequence[str] = (),
) -> None:
  """Train the assistant; the same workdir resumes."""
  counts = cfg.n_task, cfg.n_identity, cfg.n_documentation
  if not demonstrations.check(*counts, documents) and not conversations:
    raise ValueError(
      'there is no conversation to train on; give --conversations, or set '
      'Config.task and Config.n_task, Config.n_identity, or '
      'Config.n_documentation with --documents'
    )
  stage = start.after(
    'sft',
    cfg,
    workdir=workdir,
    restore_from=restore_from,
    n_rows=cfg.batch_size,
    teaches_chat=True,
  )
  lines = model_lora.trained(cfg.lora, params.table(stage.model_config))
  if stage.begin(fingerprints(cfg, documents, conversations)):
    return

  # Data: conversations are written, made a data set, rendered and packed.
  dataset = make_dataset(cfg, workdir, documents, paths=conversations)
  rendered = [template.render(stage.tokenizer, one) for one in dataset]
  limit = min(cfg.sequence_length, stage.model_config.max_length)
  fitting = [row for row in rendered if len(row.token_ids) <= limit + 1]
  n_left_out = len(rendered) - len(fitting)
  logging.info('%d conversations; %d do not fit', len(rendered), n_left_out)
  batch_fn = packing.make_batch_fn(
    fitting,
    sequence_length=limit,
    batch_size=cfg.batch_size,
    seed=cfg.seed,
    pad_id=stage.tokenizer.separator_id,
  )

  # Loss, optimizer and update.
  def loss_fn(
    params: types.Params, batch: types.Batch, key: jax.Array
  ) -> tuple[jax.Array, types.Metrics]:
    del key  # nothing is drawn: there is no dropout
    logp_BT = likelihood.target_logp(stage.model_config, params, batch)
    loss = next_token.cross_entropy(logp_BT, batch['loss_mask_BT'])
    return loss, {'targets': batch['loss_mask_BT'].sum()}

  tx = optimizers.make(cfg.optimizer, stage.n_updates, lines)
  update_fn = update.make_update_fn(loss_fn, tx, stage.mesh)

  # The loop, from the newest checkpoint or from the base model.
  stage = stage.used(*demonstrations.usage(cfg.task, dataset))
  state, loop = stage.start(tx, cfg.lora)
  flops = params.train_flops_per_token(stage.model_config, limit)
  for _ in loop.train(state, update_fn, batch_fn, flops_per_token=flops):
    pass  # nothing is evaluated on the way; see experiments/evaluate.py
  summary = {
    'tokens': cfg.loop.n_steps * cfg.batch_size * limit,
    'conversations': len(fitting),
    'left_out_as_too_long': n_left_out,
    'result': f'{loop.writer.last("loss"):.3f} nats a token of its answers',
  }
  record.finish(workdir, summary)


def fingerprints(
  cfg: Config, documents: str | None, paths: Sequence[str]
) -> dict[str, str]:
  """Of every file that conversations are made of or read from."""
  inputs = protocol.file_sums(cfg.task)
  inputs |= {path: conversations.fingerprint(path) for path in paths}
  if documents:
    inputs['documents'] = readers.fingerprint(documents)
  return inputs


def make_dataset(
  cfg: Config, workdir: str, documents: str | None, paths: Sequence[str]
) -> list[conversations.Conversation]:
  """Write what is made, then that and those given as one data set."""
  written = os.path.join(workdir, 'written.jsonl')
  made = demonstrations.make(
    cfg.task,
    cfg.n_task,
    think_share=cfg.think_share,
    n_identity=cfg.n_identity,
    n_documentation=cfg.n_documentation,
    documents=documents,
    text_column=cfg.text_column,
    max_turns=cfg.max_turns,
    seed=cfg.seed,
  )
  conversations.write(made, written)
  dataset = os.path.join(workdir, 'conversations')
  conversations.build([written, *paths], dataset)
  return conversations.read(dataset)


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    explain.fine_tuning,
    documents='folder of Parquet documents to ask about',
    conversations="JSONL file of conversations in OpenAI's message form, or "
    'folder of a TFDS data set of them',
  )
