"""Published folders: read as transformers reads them, written as it writes."""

import dataclasses
import functools
import json
import pathlib
import re
import shutil
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from flax import traverse_util
from safetensors import numpy as safetensors_numpy

from llm_jax.interop import families, huggingface, tokenizer_files
from llm_jax.model import config, params, sizes, transformer
from llm_jax.parallel import device_mesh
from llm_jax.tokenizer import encoding, loading
from llm_jax.tokenizer import huggingface as tokenizer_json
from llm_jax.train import checkpoint
from tests.chat import published_templates
from tests.model import slow_transformer, start_params
from tools import import_hf, make_golden_models

GOLDEN = pathlib.Path(__file__).parent / 'golden'
NAMES = sorted(make_golden_models.MODELS)
TOKENS_BT = make_golden_models.TOKENS_BT
POSITIONS_BT = np.broadcast_to(np.arange(12), TOKENS_BT.shape)
CFG = slow_transformer.LAYOUTS['qwen3']
# Excerpts of published config.json files, by our names of their sizes.
CONFIGS = json.loads((GOLDEN.parent / 'published_configs.json').read_text())
QWEN2 = CONFIGS['qwen2-0.5b']


@functools.partial(jax.jit, static_argnums=0)
def logits(cfg, params):
  with jax.default_matmul_precision('highest'):
    hidden_BTD, *_ = transformer.apply(cfg, params, TOKENS_BT, POSITIONS_BT)
    return transformer.unembed(cfg, params, hidden_BTD)


def read(folder):
  cfg, flat = huggingface.read(folder)
  return cfg, traverse_util.unflatten_dict(flat, sep='/')


@functools.cache
def new_params(cfg):
  return start_params.random_like(params.abstract(params.table(cfg)))


def read_tensors(folder):
  files = sorted(pathlib.Path(folder).glob('*.safetensors'))
  found = [safetensors_numpy.load_file(file) for file in files]
  return {name: x for tensors in found for name, x in tensors.items()}


def edit(folder, name='config.json', **values):
  path = pathlib.Path(folder) / name
  path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def copy(tmp_path):
  """A folder of qwen3_tied that a test may damage."""
  return shutil.copytree(GOLDEN / 'qwen3_tied', tmp_path / 'copy')


@pytest.mark.parametrize('name', NAMES)
def test_logits_are_those_of_transformers(name):
  cfg, params = read(GOLDEN / name)
  expected_BTV = np.load(GOLDEN / name / 'logits.npy')
  got_BTV = logits(cfg, params)[..., : cfg.vocab_size]
  # float32 on both sides, sums in another order, logits up to 6.
  np.testing.assert_allclose(got_BTV, expected_BTV, atol=2e-5)


@pytest.mark.parametrize('name', NAMES)
def test_both_spellings_of_a_config_are_one_model(name):
  old = json.loads((GOLDEN / name / 'config_4.json').read_text())
  new = json.loads((GOLDEN / name / 'config.json').read_text())
  assert ('rope_theta' in old) == ('rope_parameters' in new)
  assert families.from_json(old) == families.from_json(new)


@pytest.mark.parametrize('max_shard_bytes', [1 << 30, 3000])
@pytest.mark.parametrize('name', NAMES)
def test_read_and_written_tensors_are_equal(
  name, max_shard_bytes, tmp_path, monkeypatch
):
  cfg, params = read(GOLDEN / name)
  monkeypatch.setattr(huggingface, '_MAX_SHARD_BYTES', max_shard_bytes)
  huggingface.write(tmp_path / 'a', cfg, params)
  expected, got = read_tensors(GOLDEN / name), read_tensors(tmp_path / 'a')
  assert got.keys() == expected.keys()
  assert all(np.array_equal(got[k], expected[k]) for k in got)
  files = list((tmp_path / 'a').glob('*.safetensors'))
  assert (len(files) > 1) == (max_shard_bytes == 3000)
  again, params_again = read(tmp_path / 'a')
  assert again == cfg
  jax.tree.map(np.testing.assert_array_equal, params_again, params)


@pytest.mark.parametrize('name', ['qwen3', 'llama', 'gemma3', 'gpt2'])
def test_written_config_says_everything_twice(name, tmp_path):
  """What transformers 4 wrote stands in it, and what transformers 5 wrote."""
  cfg, params = read(GOLDEN / name)
  huggingface.write(tmp_path / 'a', cfg, params)
  written = json.loads((tmp_path / 'a' / 'config.json').read_text())
  assert written['dtype'] == written['torch_dtype'] == 'float32'
  for file in ('config.json', 'config_4.json'):
    theirs = json.loads((GOLDEN / name / file).read_text())
    for key in ('rope_theta', 'rope_scaling', 'rope_parameters', 'layer_types',
                'sliding_window', 'rope_local_base_freq', 'hidden_size',
                'query_pre_attn_scalar', 'n_embd', 'model_type'):  # fmt: skip
      if key in theirs:
        assert written[key] == theirs[key], key


@pytest.mark.parametrize(
  ('dtype', 'kind'), [('bfloat16', jnp.bfloat16), ('float16', np.float16)]
)
def test_half_precision_both_ways(dtype, kind, tmp_path):
  params = new_params(CFG)
  huggingface.write(tmp_path / 'a', CFG, params, dtype=dtype)
  cfg, got = read(tmp_path / 'a')
  is_bfloat = dtype == 'bfloat16'
  assert cfg.dtype == ('bfloat16' if is_bfloat else 'float32')
  rounded = params['layers']['wq'].astype(kind).astype(np.float32)
  np.testing.assert_array_equal(got['layers']['wq'], rounded)
  assert got['layers']['wq'].dtype == np.float32


def test_padding_rows_are_left_out_and_come_back_as_zeros(tmp_path):
  huggingface.write(tmp_path / 'a', CFG, new_params(CFG))
  modes = {path.stat().st_mode & 0o777 for path in (tmp_path / 'a').iterdir()}
  assert modes == {0o644}  # for others to read
  tensors = read_tensors(tmp_path / 'a')
  assert tensors['model.embed_tokens.weight'].shape == (60, 24)
  cfg, params = read(tmp_path / 'a')
  assert cfg.vocab_size == 60
  assert params['head'].shape == (128, 24)
  assert not params['head'][60:].any()


def test_first_files_of_gpt2_are_read(tmp_path):
  """No prefix, no tied head, and a causal mask in each layer."""
  old = shutil.copytree(GOLDEN / 'gpt2', tmp_path / 'old')
  tensors = read_tensors(old)
  tensors = {k.removeprefix('transformer.'): v for k, v in tensors.items()}
  tensors['h.0.attn.bias'] = np.ones((1, 1, 16, 16), np.float32)
  safetensors_numpy.save_file(tensors, old / 'model.safetensors')
  jax.tree.map(np.testing.assert_array_equal, read(old), read(GOLDEN / 'gpt2'))


def test_one_tensor_beside_the_model_while_reading(tmp_path):
  cfg = dataclasses.replace(CFG, n_layers=16, d_model=64, d_ff=256)
  huggingface.write(tmp_path / 'a', cfg, new_params(cfg))
  n_bytes = 4 * params.count(cfg)['total']
  read(tmp_path / 'a')
  tracemalloc.start()
  read(tmp_path / 'a')
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 1.2 * n_bytes + 200_000


@pytest.mark.parametrize(('name', 'values'), CONFIGS.items())
def test_published_configs_are_the_named_sizes(name, values):
  expected = dataclasses.replace(sizes.by_name(name), dtype='bfloat16')
  assert families.from_json(values) == expected


def test_what_changes_nothing_is_read_past_and_named(caplog):
  values = QWEN2 | {'use_mrope': False, 'unsloth_fixed': True,
                     '_name_or_path': '/x', 'rope_interleaved': False,
                     'temperature': 0.6, 'is_llama_config': True}  # fmt: skip
  with caplog.at_level('INFO'):
    assert families.from_json(values) == families.from_json(QWEN2)
  named = [r.getMessage() for r in caplog.records if 'read past' in r.message]
  assert named == [
    'config.json: read past is_llama_config, rope_interleaved, temperature, '
    'unsloth_fixed, use_mrope, which change no logits'
  ]
  for key, value in [
    ('use_mrope', True), ('rope_interleaved', True), ('logit_scale', 0.5),
    ('partial_rotary_factor', 0.5), ('quantization_config', {'bits': 4}),
    ('num_experts', 8), ('use_mrope', 0), ('logit_scale', True),
  ]:  # fmt: skip
    with pytest.raises(ValueError, match=f'config.json has {key} = '):
      families.from_json(QWEN2 | {key: value})


def test_mistral_without_a_window_is_of_llamas_layout():
  values = CONFIGS['llama3-8b'] | {'sliding_window': None, 'head_dim': 128}
  expected = families.from_json(values)
  assert families.from_json(values | {'model_type': 'mistral'}) == expected
  with pytest.raises(ValueError, match='sliding_window = 4096; only None'):
    families.from_json(
      values | {'model_type': 'mistral', 'sliding_window': 4096}
    )


def test_windows_of_the_later_layers_as_qwen2_first_said_it():
  values = QWEN2 | {'use_sliding_window': True, 'max_window_layers': 21}
  cfg = families.from_json(values)
  assert (cfg.layer_kinds, cfg.window) == ('G' * 21 + 'LLL', 32_768)


@pytest.mark.parametrize('name', sizes.SIZES)
def test_every_named_size_survives_its_config(name):
  cfg = sizes.by_name(name)
  values = families.to_json(cfg, families.of_model(cfg), 'float32')
  assert families.from_json(values) == cfg


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'model_type': 'gemma3'}, "model_type 'gemma3', which cannot be read"),
    ({'attention_bias': True}, 'attention_bias = True; only False'),
    ({'hidden_act': 'gelu'}, "hidden_act = 'gelu'; only 'silu'"),
    ({'num_experts': 8}, 'num_experts = 8, unknown for Qwen3ForCausalLM'),
    ({'rope_theta': 5.0}, "has both {'rope_theta': 5.0} and rope_parameters"),
    ({'rope_scaling': {'type': 'linear', 'factor': 2.0}}, '; delete one'),
    ({'rope_parameters': {'rope_type': 'yarn'}}, "rope type 'yarn'; only"),
    ({'rope_parameters': {'factor': 2.0}}, "['factor'] for the rope type"),
    ({'layer_types': ['chunked_attention'] * 2, 'use_sliding_window': True},
     "['chunked_attention'] among them"),
    ({'intermediate_size': 21}, 'is float32 [20, 16], but by config.json it'),
    ({'num_hidden_layers': 3}, "11 missing ['model.layers.2.input_layernorm"),
    ({'num_hidden_layers': 1}, "11 unknown ['model.layers.1.input_layernorm"),
  ],
)  # fmt: skip
def test_what_would_change_the_logits_is_refused(values, message, copy):
  edit(copy, **values)
  with pytest.raises(ValueError, match=re.escape(message)):
    read(copy)


def test_broken_folders_are_refused(copy, tmp_path):
  tensors = read_tensors(copy)
  head_VD = tensors['model.embed_tokens.weight']
  file = copy / 'model.safetensors'
  safetensors_numpy.save_file(tensors | {'lm_head.weight': head_VD}, file)
  read(copy)
  safetensors_numpy.save_file(tensors | {'lm_head.weight': head_VD + 1}, file)
  with pytest.raises(ValueError, match='lm_head.weight unlike its embedding'):
    read(copy)
  file.write_bytes(file.read_bytes()[:-7])
  with pytest.raises(ValueError, match='model.safetensors is damaged'):
    read(copy)
  file.unlink()
  with pytest.raises(ValueError, match='convert the checkpoint to safetensors'):
    read(copy)
  index = {'weight_map': {'model.norm.weight': '../copy/secret'}}
  (copy / 'model.safetensors.index.json').write_text(json.dumps(index))
  with pytest.raises(ValueError, match="names '../copy/secret'"):
    read(copy)
  with pytest.raises(ValueError, match=r'config.json is missing'):
    read(tmp_path)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'activation': 'relu_squared'},
     "Qwen3ForCausalLM, needs activation = 'silu_gated' instead of 'relu_sq"),
    ({'value_embeddings': True}, 'value_embeddings = False instead of True'),
    ({'logit_softcap': 3.0}, 'logit_softcap = 0.0 instead of 3.0'),
    ({'bias': 'qkv'}, "bias = 'none' instead of 'qkv'"),
    ({'local_rope_theta': 9.0}, 'local_rope_theta = 0.0 instead of 9.0'),
  ],
)  # fmt: skip
def test_what_no_class_can_express_is_refused(change, message, tmp_path):
  cfg = dataclasses.replace(CFG, **change)
  with pytest.raises(ValueError, match=re.escape(message)):
    huggingface.write(tmp_path / 'a', cfg, {})
  assert list(tmp_path.iterdir()) == []


def test_local_layers_scaled_too_are_refused_both_ways():
  values = json.loads((GOLDEN / 'qwen2_window' / 'config.json').read_text())
  cfg = families.from_json(values)
  values['rope_parameters'] |= {'rope_type': 'linear', 'factor': 2.0}
  with pytest.raises(ValueError, match='ours needs no rope_scaling'):
    families.from_json(values)
  cfg = dataclasses.replace(cfg, rope_scaling=config.RopeScaling('linear'))
  with pytest.raises(ValueError, match='no rope_scaling, as it would scale'):
    families.of_model(cfg)


def test_a_fractional_query_scalar_and_gpt2_with_groups_are_refused():
  gemma = dataclasses.replace(
    slow_transformer.LAYOUTS['gemma3'], query_pre_attn_scalar=6.5
  )
  with pytest.raises(ValueError, match='a whole query_pre_attn_scalar'):
    families.of_model(gemma)
  with pytest.raises(ValueError, match=r'n_kv_heads = 4.*n_heads \* head_dim'):
    families.of_model(slow_transformer.LAYOUTS['gpt2'])


def test_default_query_scalar_is_the_width_of_a_head():
  cfg = dataclasses.replace(
    slow_transformer.LAYOUTS['gemma3'], query_pre_attn_scalar=0.0
  )
  values = families.to_json(cfg, families.of_model(cfg), 'float32')
  assert values['query_pre_attn_scalar'] == cfg.head_dim


def test_writing_overwrites_nothing_and_loses_no_value(tmp_path):
  params = jax.tree.map(lambda x: x * 1e5, new_params(CFG))
  with pytest.raises(ValueError, match='beyond float16; use float32'):
    huggingface.write(tmp_path / 'a', CFG, params, dtype='float16')
  assert not (tmp_path / 'a').exists()
  with pytest.raises(ValueError, match="dtype 'int8'; use one of float32"):
    huggingface.write(tmp_path / 'a', CFG, params, dtype='int8')
  huggingface.write(tmp_path / 'a', CFG, params)
  with pytest.raises(FileExistsError, match='give a new folder'):
    huggingface.write(tmp_path / 'a', CFG, params)


def test_folder_to_checkpoint_and_back(tmp_path):
  """An assistant of ours goes out, comes in as it was and goes out again."""
  vocabulary = encoding.Tokenizer.from_merges([(97, 98)], 'qwen2')
  vocabulary.save(tmp_path / 'vocabulary')
  cfg = dataclasses.replace(CFG, vocab_size=vocabulary.vocab_size)
  out, again = tmp_path / 'out', tmp_path / 'again'
  huggingface.write(out, cfg, new_params(cfg), tmp_path / 'vocabulary', True)
  generation = json.loads((out / 'generation_config.json').read_text())
  end, turn = map(vocabulary.special_id, ('<|endoftext|>', '<|im_end|>'))
  assert generation['eos_token_id'] == [turn, end]
  settings = json.loads((out / 'tokenizer_config.json').read_text())
  assert settings['tokenizer_class'] == 'PreTrainedTokenizerFast'
  assert settings['eos_token'] == '<|im_end|>'
  assert settings['model_input_names'] == ['input_ids', 'attention_mask']
  assert '<|im_sep|>' in (out / 'chat_template.jinja').read_text()

  import_hf.run(str(out), str(tmp_path / 'stage'))
  model = checkpoint.load_model(str(tmp_path / 'stage'))
  assert (model.model_config, model.is_chat, model.step) == (cfg, True, 0)
  loaded = loading.load(model.tokenizer_dir)
  text = 'abab 1234 <|im_end|>'
  assert loaded.encode(text) == vocabulary.encode(text)
  assert loaded.special_names == vocabulary.special_names
  huggingface.write(again, cfg, model.params, model.tokenizer_dir, True)
  first, second = read_tensors(out), read_tensors(again)
  assert all(np.array_equal(first[name], second[name]) for name in first)
  names = {path.name for path in out.iterdir()} - {'model.safetensors'}
  assert names > {'tokenizer.json', 'chat_template.jinja'}
  for name in names:
    assert (out / name).read_bytes() == (again / name).read_bytes(), name


def test_tokenizer_of_another_size_is_refused(tmp_path):
  encoding.Tokenizer.from_merges([], 'qwen2').save(tmp_path / 'v')
  with pytest.raises(ValueError, match='has 320 tokens, the model 60'):
    huggingface.write(tmp_path / 'a', CFG, new_params(CFG), tmp_path / 'v')


TEMPLATE = (
  "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
)


@pytest.fixture
def published_folder(tmp_path):
  """As of Llama 3: another end of text, <think> from text, and 5 ids unused."""
  folder = tmp_path / 'published'
  encoding.Tokenizer.from_merges([(97, 98)], 'cl100k').save(folder)
  values = json.loads((folder / 'tokenizer.json').read_text())
  vocab = values['model']['vocab']
  values['model']['vocab'] = {t: i for t, i in vocab.items() if i < 257}
  values |= {'added_tokens': [], 'normalizer': {'type': 'NFC'}}
  values = tokenizer_json.with_added_tokens(
    values,
    {'<|begin_of_text|>': 257, '<|end_of_text|>': 260, '<|eot_id|>': 262},
  )
  values = tokenizer_json.with_added_tokens(values, {'<think>': 261}, False)
  (folder / 'spec.json').unlink()
  (folder / 'ranks.tiktoken').unlink()
  for name, content in {
    'tokenizer.json': values,
    'config.json': {'eos_token_id': 260, 'bos_token_id': 257},
    'generation_config.json': {'eos_token_id': [262, 260], 'top_p': 0.9},
    'tokenizer_config.json': {
      'bos_token': {'content': '<|begin_of_text|>'},
      'eos_token': '<|eot_id|>', 'chat_template': TEMPLATE,
      'padding_side': 'left',
    },
  }.items():  # fmt: skip
    (folder / name).write_text(json.dumps(content))
  return folder


def test_published_tokens_stay_what_they_are(published_folder):
  got = tokenizer_files.read(published_folder, 267)
  assert got.special_names == (
    '<|begin_of_text|>', '<|end_of_text|>', '<|eot_id|>'
  )  # fmt: skip
  facts = got.published
  assert facts.chat_template == TEMPLATE
  assert facts.token_names['bos_token'] == '<|begin_of_text|>'
  assert (got.prefix_ids, got.separator_id) == ((257,), 257)
  assert got.eos_ids == (262, 260)
  assert got.unused_ids == (258, 259, 263, 264, 265, 266)
  text = "abab 1234 it's\r\n <|im_start|>e\u0301<|eot_id|>"
  ours = encoding.Tokenizer.from_merges([(97, 98)], 'cl100k')
  composed = text.replace('e\u0301', 'é')
  assert got.encode(text) == ours.encode(composed)
  assert got.encode('<think>') == [261]
  written = published_templates.written(got, '<think>a<|eot_id|>')
  assert written == [261, 97, 262]
  assert got.decode([261]) == '<think>'


@pytest.mark.parametrize(
  ('settings', 'post', 'prefix'),
  [
    ({}, None, (257,)),  # the template writes bos
    ({'chat_template': 'no use of it'}, None, ()),  # as SmolLM2's
    ({'chat_template': None}, None, (257,)),
    ({'bos_token': None}, None, ()),  # as Qwen's
    ({'add_bos_token': False}, None, ()),
    ({'add_bos_token': True, 'chat_template': 'x'}, None, (257,)),
    ({'chat_template': 'x'}, ['<|begin_of_text|>', 0], (257,)),
    ({}, ['<|begin_of_text|>', 0, '<|end_of_text|>'], (257,)),
    ({}, [0, '<|end_of_text|>'], ()),
  ],
)  # fmt: skip
def test_what_stands_before_a_text(settings, post, prefix, published_folder):
  edit(published_folder, 'tokenizer_config.json', **settings)
  if post is not None:
    single = [
      {'SpecialToken': {'id': x}} if x else {'Sequence': {}} for x in post
    ]
    steps = [{'type': 'ByteLevel'}]
    steps.append({'type': 'TemplateProcessing', 'single': single})
    step = {'type': 'Sequence', 'processors': steps}
    edit(published_folder, 'tokenizer.json', post_processor=step)
  assert tokenizer_files.read(published_folder, 267).prefix_ids == prefix


def test_templates_by_name(published_folder):
  def read():
    return tokenizer_files.read(published_folder, 267).published

  named = [{'name': 'default', 'template': 'a'},
           {'name': 'tool_use', 'template': 'b'}]  # fmt: skip
  edit(published_folder, 'tokenizer_config.json', chat_template=named)
  assert read().chat_template == 'a'
  (published_folder / 'chat_template.json').write_text('{"chat_template": "b"}')
  assert read().chat_template == 'b'
  (published_folder / 'chat_template.jinja').write_text('c')
  assert read().chat_template == 'c'
  edit(published_folder, 'tokenizer_config.json', eos_token='<nowhere>')
  with pytest.raises(ValueError, match="eos_token is '<nowhere>', which is no"):
    read()


def test_our_control_tokens_where_they_are_wanted(published_folder, tmp_path):
  """With a template never; else in unused ids, or behind all others."""
  settings = published_folder / 'tokenizer_config.json'
  edit(published_folder, settings.name, chat_template=None)
  few = tokenizer_files.read(published_folder, 267)
  assert '<|im_end|>' not in few.special_names  # 12 names, 6 ids
  assert tokenizer_files.read(published_folder, 400).special_id(
    '<|im_end|>') == 263  # fmt: skip
  grown = tokenizer_files.read(published_folder, 267, grows=True)
  assert (grown.vocab_size, grown.unused_ids) == (273, ())
  tokenizer_files.save(published_folder, grown, tmp_path / 'saved')
  loaded = loading.load(tmp_path / 'saved')
  assert loaded.fingerprint == grown.fingerprint
  assert (loaded.published, loaded.added) == (grown.published, grown.added)
  # `tokenizers` numbers added tokens anew where it can.
  saved = (tmp_path / 'saved' / 'tokenizer.json').read_text()
  theirs = tokenizers.Tokenizer.from_str(saved)
  for name in grown.special_names:
    assert theirs.token_to_id(name) == grown.special_id(name)


def test_kept_files_come_back_as_they_were(published_folder, tmp_path):
  got = tokenizer_files.read(published_folder, 267)
  tokenizer_files.save(published_folder, got, tmp_path / 'saved')
  cfg = dataclasses.replace(CFG, vocab_size=267)
  out = tmp_path / 'out'
  huggingface.write(out, cfg, new_params(cfg), tmp_path / 'saved', True)
  for name in ('tokenizer.json', 'tokenizer_config.json',
               'generation_config.json'):  # fmt: skip
    assert (out / name).read_bytes() == (published_folder / name).read_bytes()
  ids = json.loads((out / 'config.json').read_text())
  assert (ids['bos_token_id'], ids['eos_token_id']) == (257, 260)
  # Taught our conversations, its answers end with our token.
  edit(published_folder, 'tokenizer_config.json', chat_template=None)
  got = tokenizer_files.read(published_folder, 300)
  tokenizer_files.save(published_folder, got, tmp_path / 'chat')
  cfg, out = dataclasses.replace(CFG, vocab_size=300), tmp_path / 'out2'
  huggingface.write(out, cfg, new_params(cfg), tmp_path / 'chat', True)
  generation = json.loads((out / 'generation_config.json').read_text())
  end = got.special_id('<|im_end|>')
  assert generation == {'eos_token_id': [end, 262, 260], 'top_p': 0.9}
  assert '<|im_sep|>' in (out / 'chat_template.jinja').read_text()


def test_rows_without_a_token_are_never_drawn(published_folder, tmp_path):
  """Not even where their logits are the highest by far."""
  cfg = dataclasses.replace(CFG, vocab_size=267)
  got = tokenizer_files.read(published_folder, 267)
  tokenizer_files.save(published_folder, got, tmp_path / 'saved')
  weights = new_params(cfg)
  weights['head'] = weights['head'].copy()
  unused = list(got.unused_ids)
  weights['head'][unused] = 50 * weights['head'][:6]
  out, stage = tmp_path / 'out', str(tmp_path / 'stage')
  huggingface.write(out, cfg, weights, tmp_path / 'saved')
  import_hf.run(str(out), stage)
  model = checkpoint.load_model(stage)
  assert model.model_config.unused_ids == ((258, 259), (263, 266))
  masked_BTV = logits(model.model_config, model.params)
  assert (masked_BTV[..., unused] == -1e30).all()
  plain_BTV = logits(cfg, model.params)
  assert np.isin(plain_BTV.argmax(-1), unused).any()
  again = tmp_path / 'again'
  huggingface.write(
    again, model.model_config, model.params, model.tokenizer_dir
  )
  first, second = read_tensors(out), read_tensors(again)
  assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_grown_model_says_the_same_of_its_own_tokens():
  cfg, flat = huggingface.read(GOLDEN / 'qwen3_tied')
  grown, bigger = huggingface.grow(cfg, flat, cfg.vocab_size + 100)
  assert bigger['embedding'].shape[0] == grown.padded_vocab_size
  old, new = cfg.vocab_size, grown.vocab_size
  mean_D = flat['embedding'][:old].mean(axis=0)
  np.testing.assert_allclose(bigger['embedding'][new - 1], mean_D, rtol=1e-6)
  assert not bigger['embedding'][new:].any()
  nested = traverse_util.unflatten_dict(bigger, sep='/')
  expected_BTV = np.load(GOLDEN / 'qwen3_tied' / 'logits.npy')
  got_BTV = logits(grown, nested)[..., :old]
  np.testing.assert_allclose(got_BTV, expected_BTV, atol=2e-5)


def test_each_part_lies_where_the_mesh_wants_it():
  cfg = dataclasses.replace(CFG, vocab_size=256, d_model=32)
  flat = {path: np.ones(line.shape, np.float32)
          for path, line in params.table(cfg).items()}  # fmt: skip
  n_bytes = sum(x.nbytes for x in flat.values())
  mesh = device_mesh.make(device_mesh.MeshConfig(data=1, fsdp=4))
  placed = huggingface.place(cfg, flat, mesh)
  assert not flat
  shards = [s for x in jax.tree.leaves(placed) for s in x.addressable_shards]
  for device in jax.devices()[:4]:
    on_it = sum(s.data.nbytes for s in shards if s.device == device)
    assert on_it < n_bytes / 3


def test_ids_by_default_are_those_that_our_models_read(tmp_path):
  """A document of ours begins with <|endoftext|>; a conversation does not."""
  vocabulary = encoding.Tokenizer.from_merges([(97, 98)], 'qwen2')
  vocabulary.save(tmp_path / 'v')
  cfg = dataclasses.replace(CFG, vocab_size=vocabulary.vocab_size)
  for is_chat, prefix in ((False, vocabulary.prefix_ids), (True, ())):
    out = tmp_path / f'chat_{is_chat}'
    huggingface.write(out, cfg, new_params(cfg), tmp_path / 'v', is_chat)
    theirs = tokenizers.Tokenizer.from_file(str(out / 'tokenizer.json'))
    expected = [*prefix, *vocabulary.encode('abab 12')]
    assert theirs.encode('abab 12').ids == expected
    read = tokenizer_files.read(out, cfg.vocab_size)
    assert read.prefix_ids == prefix
