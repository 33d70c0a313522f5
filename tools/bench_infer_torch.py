"""Generation by transformers: the peer that bench_infer times.

  python tools/bench_infer_torch.py FOLDER

FOLDER is a model as tools.export_hf writes it. For each line of JSON on
standard input, with prompts, n_new, temperature and top_k, one line comes back:
the seconds that `generate` took and the tokens. It runs on one thread and needs
torch and transformers and nothing of this project.
"""

import json
import sys
import time

import torch
import transformers


def main(folder: str):
  """Serves requests until standard input ends."""
  torch.set_num_threads(1)
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation='sdpa'
  ).to(device)
  model.eval()
  model.generation_config.eos_token_id = None
  for line in sys.stdin:
    asked = json.loads(line)
    prompts = torch.tensor(asked['prompts'], device=device)
    drawn = asked['temperature'] > 0
    rules = {'temperature': asked['temperature'], 'top_k': asked['top_k']}
    torch.manual_seed(0)
    started = time.perf_counter()
    tokens = model.generate(
      prompts,
      attention_mask=torch.ones_like(prompts),
      max_new_tokens=asked['n_new'],
      do_sample=drawn,
      pad_token_id=0,
      **(rules if drawn else {}),
    )
    seconds = time.perf_counter() - started
    new = tokens[:, prompts.shape[1] :].tolist()
    print(json.dumps({'seconds': seconds, 'tokens': new}), flush=True)


if __name__ == '__main__':
  main(sys.argv[1])
