"""Makes the golden model folders that tests/interop holds reading to.

  PYTHON -m tools.make_golden_models --out tests/interop/golden
  PYTHON4 -m tools.make_golden_models --out tests/interop/golden \\
      --configs_as config_4.json

PYTHON is an interpreter that has torch and transformers; the version stands in
each config.json. Every family gets a tiny model whose parameters are all drawn,
norms and biases too, and the logits of a fixed batch of tokens. The second form
adds the configurations as another version of transformers spells them.

  PYTHON -m tools.make_golden_models --logits_of FOLDER...

puts the logits of the same tokens into each model folder; this is how
tests/interop/parity_test.py asks transformers. It does NOT import llm_jax.
"""

import argparse
import pathlib
import shutil

import numpy as np

N_TOKENS = 48  # vocabulary of the golden models
TOKENS_BT = (np.arange(24).reshape(2, 12) * 29 + 5) % N_TOKENS
_SIZES = {
  'vocab_size': N_TOKENS, 'hidden_size': 16, 'intermediate_size': 20,
  'num_hidden_layers': 2, 'num_attention_heads': 4, 'num_key_value_heads': 2,
  'head_dim': 6, 'max_position_embeddings': 128, 'rms_norm_eps': 1e-5,
}  # fmt: skip
_LLAMA3 = {
  'rope_type': 'llama3', 'factor': 4.0, 'low_freq_factor': 1.0,
  'high_freq_factor': 5.0, 'original_max_position_embeddings': 64,
}  # fmt: skip
_SLIDING, _FULL = 'sliding_attention', 'full_attention'
_GEMMA = {'query_pre_attn_scalar': 7, 'sliding_window': 4}
# Folder -> class of the configuration and what it differs in.
MODELS = {
  'llama': ('LlamaConfig', {'rope_theta': 733.0, 'rope_scaling': _LLAMA3}),
  'llama_tied': (
    'LlamaConfig',
    {'tie_word_embeddings': True,
     'rope_scaling': {'rope_type': 'linear', 'factor': 2.5}},
  ),
  'qwen2': ('Qwen2Config', {'rope_theta': 555.0, 'tie_word_embeddings': True}),
  'qwen2_window': (
    'Qwen2Config',
    {'use_sliding_window': True, 'sliding_window': 5, 'max_window_layers': 1},
  ),
  'qwen3': ('Qwen3Config', {'rope_theta': 777.0}),
  'qwen3_tied': ('Qwen3Config', {'tie_word_embeddings': True}),
  'gemma2': (
    'Gemma2Config',
    {**_GEMMA, 'attn_logit_softcapping': 1.5, 'final_logit_softcapping': 2.0},
  ),
  'gemma3': (
    'Gemma3TextConfig',
    {**_GEMMA, 'num_hidden_layers': 3, 'rope_theta': 999.0,
     'rope_local_base_freq': 77.0, 'layer_types': [_SLIDING, _SLIDING, _FULL],
     'rope_scaling': {'rope_type': 'linear', 'factor': 3.0}},
  ),
  'gemma3_untied': (
    'Gemma3TextConfig',
    {**_GEMMA, 'sliding_window_pattern': 2, 'tie_word_embeddings': False,
     'final_logit_softcapping': 3.0},
  ),
  'gpt2': ('GPT2Config', {}),
  'gpt2_untied': ('GPT2Config', {'tie_word_embeddings': False}),
  'qwen3_moe': (
    'Qwen3MoeConfig',
    {'rope_theta': 444.0, 'num_experts': 6, 'num_experts_per_tok': 3,
     'moe_intermediate_size': 12, 'norm_topk_prob': True},
  ),
  'qwen3_moe_plain': (
    'Qwen3MoeConfig',
    {'num_experts': 4, 'num_experts_per_tok': 2, 'moe_intermediate_size': 8},
  ),
  'mixtral': (
    'MixtralConfig', {'num_local_experts': 5, 'num_experts_per_tok': 2}
  ),
}  # fmt: skip
_GPT2_SIZES = {
  'vocab_size': N_TOKENS, 'n_embd': 16, 'n_layer': 2, 'n_head': 4,
  'n_positions': 16, 'n_inner': 20,
}  # fmt: skip


def make(out: pathlib.Path, configs_as: str | None = None) -> None:
  """Write every model and its logits.

  Args:
    out: folder of the folders, which are replaced.
    configs_as: add only the configurations, under this name.
  """
  import torch
  import transformers

  for seed, (name, (class_name, options)) in enumerate(MODELS.items()):
    sizes = _GPT2_SIZES if class_name == 'GPT2Config' else _SIZES
    config = getattr(transformers, class_name)(**{**sizes, **options})
    folder = out / name
    if configs_as:
      (folder / configs_as).write_text(config.to_json_string())
      continue
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
      for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(0.3 * noise)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / 'generation_config.json').unlink(missing_ok=True)
    np.save(folder / 'logits.npy', logits(folder))


def logits(folder: pathlib.Path) -> np.ndarray:
  """Logits of the tokens under the model of a folder, in float32."""
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, attn_implementation='eager', dtype=torch.float32
  )
  with torch.no_grad():
    return model(torch.tensor(TOKENS_BT)).logits.float().numpy()


def _main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--out', type=pathlib.Path)
  parser.add_argument('--configs_as')
  parser.add_argument('--logits_of', type=pathlib.Path, nargs='+', default=[])
  args = parser.parse_args()
  if args.out:
    make(args.out, args.configs_as)
  for folder in args.logits_of:
    np.save(folder / 'logits.npy', logits(folder))


if __name__ == '__main__':
  _main()
