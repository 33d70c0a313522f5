"""Keys of config.json that change no logits, whatever wrote them.

All others are known to a class (families.py) or refused by name.
"""

import re
from typing import Any

# Keys that change no logits: training, generation, labels, bookkeeping.
IGNORED = (
  'model_type architectures transformers_version _name_or_path dtype '
  'torch_dtype use_cache cache_implementation initializer_range '
  'attention_dropout resid_pdrop embd_pdrop attn_pdrop bos_token_id '
  'eos_token_id pad_token_id pretraining_tp n_ctx reorder_and_upcast_attn '
  'summary_type summary_use_proj summary_activation summary_first_dropout '
  'summary_proj_to_labels task_specific_params id2label label2id '
  'output_hidden_states output_attentions return_dict problem_type '
  'chunk_size_feed_forward _attn_implementation_autoset '
  '_sliding_window_pattern router_aux_loss_coef output_router_logits '
  'router_jitter_noise'
)
# Keys of others without effect at these values; () is any value. They are
# read past, and named.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
  'use_mrope': (False,),
  'rope_interleaved': (False,),
  'mrope_section': (None,),
  'is_llama_config': (True, False),
  'partial_rotary_factor': (1.0,),
  'rotary_pct': (1.0,),
  'qk_layernorm': (False,),
  'use_qk_norm': (False,),
  'clip_qkv': (None,),
  'use_bias': (False,),
  'qkv_bias': (False,),
  'add_bias': (False,),
  'lm_head_bias': (False,),
  'mlp_bias': (False,),
  'attention_bias': (False,),
  'is_encoder_decoder': (False,),
  'is_decoder': (False, True),
  'add_cross_attention': (False,),
  'use_sliding_window': (False,),
  'logit_scale': (1.0,),
  'tie_encoder_decoder': (False,),
  'pruned_heads': ({},),
  'embedding_multiplier': (1.0,),
  'logits_scaling': (1.0,),
  'residual_multiplier': (1.0,),
  'head_dim_scale': (1.0,),
  'num_nextn_predict_layers': (0,),
  'use_parallel_residual': (False,),
  'no_rope_layers': ([],),
  'attention_multiplier': (1.0,),
  **dict.fromkeys(
    [
      'use_flash_attn',
      'use_flash_attention_2',
      '_flash_attn_2_enabled',
      '_attn_implementation',
      'attn_implementation',
      '_experts_implementation',
      'tokenizer_class',
      'finetuning_task',
      'training_args',
      'datasets',
      'license',
      'library_name',
      'eos_token_ids',
      'unk_token_id',
      'sep_token_id',
      'bos_token',
      'eos_token',
      'pad_token',
      'vocab_size_multiple',
      'torchscript',
      'use_bfloat16',
      'tf_legacy_loss',
      'auto_map',
      'hidden_dropout',
      'hidden_dropout_prob',
      'embd_dropout',
      'classifier_dropout',
      'use_gradient_checkpointing',
      'gradient_checkpointing',
      'max_length',
      'min_length',
      'do_sample',
      'early_stopping',
      'num_beams',
      'num_beam_groups',
      'diversity_penalty',
      'temperature',
      'top_k',
      'top_p',
      'typical_p',
      'repetition_penalty',
      'length_penalty',
      'no_repeat_ngram_size',
      'encoder_no_repeat_ngram_size',
      'bad_words_ids',
      'num_return_sequences',
      'return_dict_in_generate',
      'output_scores',
      'forced_bos_token_id',
      'forced_eos_token_id',
      'remove_invalid_values',
      'exponential_decay_length_penalty',
      'suppress_tokens',
      'begin_suppress_tokens',
      'decoder_start_token_id',
      'cross_attention_hidden_size',
      'prefix',
      'seq_length',
    ],
    (),
  ),
}
# Of fine-tuning tools and of converters, whatever they say.
_TOOLS = re.compile(r'unsloth|axolotl|llamafactory|peft|transformers\.js|mlx')


def is_neutral(key: str, value: Any) -> bool:
  """Whether a key that no class knows changes nothing at its value."""
  allowed = _NEUTRAL.get(key)
  if allowed is None:
    return bool(_TOOLS.match(key.lstrip('_')))
  # In Python True == 1 == 1.0; a switch is no number.
  same = [x for x in allowed if x == value]
  same = [x for x in same if isinstance(x, bool) == isinstance(value, bool)]
  return not allowed or bool(same)
