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
# Keys of others without effect at one value, by that value.
_OFF = (
  'use_mrope rope_interleaved qk_layernorm use_qk_norm use_bias qkv_bias '
  'add_bias lm_head_bias mlp_bias attention_bias is_encoder_decoder '
  'add_cross_attention use_sliding_window tie_encoder_decoder '
  'use_parallel_residual'
)
_ONE = (
  'partial_rotary_factor rotary_pct logit_scale embedding_multiplier '
  'logits_scaling residual_multiplier attention_multiplier'
)
# Without effect whatever they say: how it is run, trained or generates.
_ANY = (
  'is_llama_config is_decoder use_flash_attn use_flash_attention_2 '
  '_flash_attn_2_enabled _attn_implementation attn_implementation '
  '_experts_implementation tokenizer_class finetuning_task training_args '
  'datasets license library_name eos_token_ids unk_token_id sep_token_id '
  'bos_token eos_token pad_token torchscript use_bfloat16 tf_legacy_loss '
  'hidden_dropout hidden_dropout_prob embd_dropout '
  'classifier_dropout use_gradient_checkpointing gradient_checkpointing '
  'max_length min_length do_sample early_stopping num_beams num_beam_groups '
  'diversity_penalty temperature top_k top_p typical_p repetition_penalty '
  'length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size '
  'bad_words_ids num_return_sequences return_dict_in_generate output_scores '
  'forced_bos_token_id forced_eos_token_id remove_invalid_values '
  'exponential_decay_length_penalty suppress_tokens begin_suppress_tokens '
  'decoder_start_token_id cross_attention_hidden_size prefix seq_length'
)
_NEUTRAL: dict[str, Any] = {
  **dict.fromkeys(_OFF.split(), False), **dict.fromkeys(_ONE.split(), 1.0),
  'pruned_heads': {}, 'num_nextn_predict_layers': 0, 'no_rope_layers': [],
}  # fmt: skip
# Of fine-tuning tools and of converters, whatever they say.
_TOOLS = re.compile(r'unsloth|axolotl|llamafactory|peft|transformers\.js|mlx')


def is_neutral(key: str, value: Any) -> bool:
  """Whether a key that no class knows changes nothing at its value."""
  if key in _ANY.split() or _TOOLS.match(key.lstrip('_')):
    return True
  # In Python False == 0 and True == 1.0; a switch is no number.
  same_kind = isinstance(_NEUTRAL.get(key), bool) == isinstance(value, bool)
  return key in _NEUTRAL and same_kind and _NEUTRAL[key] == value
