"""Fine-tunes a base model into an assistant on conversations.

python -m experiments.sft --workdir runs/tiny/sft \
  --gin_file gin_configs/sft_tiny.gin --import examples/assistant.py \
  --restore_from runs/tiny/pretrain

The conversations are those given by --conversations and, where settings ask
for them, a task's demonstrations and the assistant's identity. The loss is on
the assistant's words and its stop token. Hardware, time and result stand in the
header of each gin file.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence

import jax

from experiments import command_line, explain
from llm_jax import files, record, types
from llm_jax.agent import any_task
from llm_jax.data import conversations, packing
from llm_jax.losses import next_token
from llm_jax.model import likelihood, params
from llm_jax.model import lora as model_lora
from llm_jax.optim import optimizers
from llm_jax.parallel import device_mesh
from llm_jax.tasks import demonstrations, given, protocol, questions
from llm_jax.train import fit, start, training_loop, update


@dataclasses.dataclass(frozen=True)
class Config:
  """Supervised fine-tuning of one model."""

  seed: int = 0  # conversations drawn and their order
  batch_size: int = 16  # rows of packed conversations
  sequence_length: int = 256  # tokens of a row
  n_task: int = 0  # demonstrations of the task
  think_share: float = 0.4  # of the demonstrations, with a thought
  n_identity: int = 0  # questions about the assistant
  persona: str = ''  # YAML file of who it is; '': llm_jax; --persona sets it
  too_long: str = 'drop'  # for a row; 'cut': its first turns; or 'error'
  max_turns: int = 1  # questions in one conversation, from 1 on
  loss_chunk: int = 0  # tokens of a row whose logits exist at once; 0: all
  micro_batch: int = 0  # rows computed at once; 0: as many as fit the memory
  device_memory: float = 0.0  # GiB of a device, for that; 0: as it says itself
  task: any_task.AnyTask | None = None
  lora: model_lora.Lora = model_lora.Lora()
  optimizer: optimizers.AnyOptimizer = optimizers.Optimizer(
    matrices='adamw', peak_lr=1e-3, warmup_steps=5
  )
  loop: training_loop.LoopConfig = training_loop.LoopConfig(n_steps=40)
  mesh: device_mesh.MeshConfig = device_mesh.MeshConfig()

  def __post_init__(self):
    self.lora.check(self.optimizer)
    if self.too_long not in given.TOO_LONG:
      raise ValueError(
        f'Config.too_long = {self.too_long!r}; use one of {given.TOO_LONG}'
      )


def run(
  cfg: Config,
  workdir: str,
  restore_from: str,
  conversations: Sequence[str] = (),
  persona: str = '',
) -> None:
  """Train the assistant; the same workdir resumes."""
  cfg = dataclasses.replace(cfg, persona=persona or cfg.persona)
  demonstrations.check(cfg, conversations)
  stage = start.after(
    'sft',
    cfg,
    workdir=workdir,
    restore_from=restore_from,
    n_rows=cfg.batch_size,
    teaches_chat=True,
  )
  model = stage.model_config
  lines = model_lora.trained(cfg.lora, params.table(model))
  tx = optimizers.make(cfg.optimizer, stage.n_updates, lines)
  limit = min(cfg.sequence_length, model.max_length)
  plan = fit.choose(
    fit.Step(cfg, model, tx, mesh=stage.mesh, length=limit, adapters=cfg.lora)
  )
  model = dataclasses.replace(model, remat=plan.remat)
  taken = [*demonstrations.NAMES, cfg.task.name if cfg.task else '']
  sources = given.named(conversations, taken)
  inputs = protocol.file_sums(cfg.task) | given.fingerprints(sources)
  if cfg.persona:
    questions.read_persona(cfg.persona)
    inputs |= {'persona': files.sha256(cfg.persona)}
  if stage.begin(inputs, plan):
    return

  # Data: conversations are made and read, kept as a data set, and packed.
  with record.correctable(workdir):
    dataset = make_dataset(cfg, workdir, sources)
    laid_out, left_out = given.lay_out(
      dataset, stage.chat_format.rows, length=limit, too_long=cfg.too_long
    )
    batch_fn, n_rows = packing.make_batch_fn(
      [row.rendered for row in laid_out],
      sequence_length=limit,
      batch_size=cfg.batch_size,
      seed=cfg.seed,
      pad_id=stage.tokenizer.separator_id,
    )
  epochs = cfg.loop.n_steps * cfg.batch_size / n_rows
  record.mixture(workdir, given.mixture(laid_out, epochs), **left_out)
  given.write_masks(workdir, stage.tokenizer, laid_out)

  # Loss and update.
  def loss_fn(
    params: types.Params, batch: types.Batch, key: jax.Array
  ) -> tuple[jax.Array, types.Metrics]:
    del key  # nothing is drawn: there is no dropout
    logp_BT = likelihood.of_targets(
      model, params, batch, chunk_length=cfg.loss_chunk
    ).logp_BT
    loss = next_token.cross_entropy(logp_BT, batch['loss_mask_BT'])
    return loss, {'targets': batch['loss_mask_BT'].sum()}

  n_micro = cfg.batch_size // plan.micro_batch
  update_fn = update.make_update_fn(loss_fn, tx, stage.mesh, n_micro=n_micro)

  # The loop, from the newest checkpoint or from the base model.
  stage = stage.used(*demonstrations.usage(cfg.task, dataset))
  state, loop = stage.start(tx, cfg.lora)
  flops = params.train_flops_per_token(model, limit)
  for _ in loop.train(state, update_fn, batch_fn, flops_per_token=flops):
    pass  # nothing is evaluated on the way; see experiments/evaluate.py
  summary = {
    'tokens': cfg.loop.n_steps * cfg.batch_size * limit,
    'conversations': len(laid_out),
    **left_out,
    'result': f'{loop.writer.last("loss", 20):.3f} nats a token of its answers',
  }
  record.finish(workdir, summary)


def make_dataset(
  cfg: Config, workdir: str, sources: Mapping[str, str]
) -> list[given.Item]:
  """What settings ask for, then what is given, as one data set."""

  def make() -> Iterator[given.Item]:
    yield from demonstrations.make(cfg)
    yield from given.read(sources)

  folder = os.path.join(workdir, 'conversations')
  conversations.build(make, folder)
  return conversations.read(folder)


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    explain.fine_tuning,
    conversations='file, folder or pattern of conversations in JSON lines or '
    'Parquet, as path or URL, as those of OpenAI, ShareGPT, Alpaca, OASST '
    'or prompt and completion; several with a name each: name=...',
    persona='YAML file of who the assistant is: its name, maker and facts',
  )
