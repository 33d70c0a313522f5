"""Training steps of a transformers model: the peer that bench_train times.

  python tools/bench_train_torch.py FOLDER eager|compile float32 LEARNING_RATE

FOLDER holds `model`, as tools.export_hf writes it, and `batch.npz`. For each
number on standard input that many steps run, and their losses are printed as
one line of JSON. The loss is the mean cross-entropy of the given targets,
attention is PyTorch's own (sdpa), the optimizer its fused AdamW. It needs torch
and transformers and nothing of this project.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers


def main(folder: str, mode: str, dtype: str, learning_rate: float):
  """Serves steps until standard input ends."""
  path = pathlib.Path(folder)
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = transformers.AutoModelForCausalLM.from_pretrained(
    path / 'model', dtype=torch.float32, attn_implementation='sdpa'
  ).to(device)
  model.config.use_cache = False
  model.train()
  call = torch.compile(model) if mode == 'compile' else model
  with np.load(path / 'batch.npz') as arrays:
    inputs = torch.from_numpy(arrays['inputs_BT']).long().to(device)
    targets = torch.from_numpy(arrays['targets_BT']).long().to(device)
  decayed = [p for p in model.parameters() if p.dim() > 1]
  others = [p for p in model.parameters() if p.dim() <= 1]
  groups = [
    {'params': decayed, 'weight_decay': 0.1},
    {'params': others, 'weight_decay': 0.0},
  ]
  optimizer = torch.optim.AdamW(
    groups, lr=learning_rate, betas=(0.9, 0.95), fused=True
  )

  def step() -> torch.Tensor:
    with torch.autocast(device, torch.bfloat16, dtype == 'bfloat16'):
      logits = call(input_ids=inputs).logits
    loss = torch.nn.functional.cross_entropy(
      logits.flatten(0, 1).float(), targets.flatten()
    )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()

  for line in sys.stdin:
    losses = [step() for _ in range(int(line))]
    print(json.dumps([float(loss) for loss in losses]), flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:4], learning_rate=float(sys.argv[4]))
