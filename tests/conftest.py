"""What every test shares: eight virtual CPU devices and a compilation cache.

It does NOT define fixtures; a test file holds what it needs.

A test that is marked `nightly` runs only by ./tools/test.sh --nightly, which
runs all the others too. NIGHTLY names each, and what of it every run keeps.
"""

import itertools
import os
import pathlib

import jax
import pytest

from experiments import process

NIGHTLY = {
  'agent/tools_test.py': {
    'test_any_text_is_a_call_or_a_fault': '300 calls of 10,000',
  },
  'experiments/dpo_test.py': {
    'test_other_losses': 'one of seven; losses/preference_test.py has all',
  },
  'experiments/reward_model_test.py': {
    'test_resumed_is_uninterrupted_bit_for_bit': 'one ending of two',
    'test_micro_batches_change_nothing': 'means over prompts, of a loss',
  },
  'experiments/smollm_test.py': {
    'test_200_conversations_lower_the_loss_on_others': 'tiny models',
    'test_a_verifier_teaches_what_it_half_knows': 'tiny models',
  },
  'experiments/stories_test.py': {
    'test_it_becomes_a_chat_model_and_learns_what_pays': 'tiny models',
    'test_continued_pretraining_lowers_its_loss': 'tiny models',
  },
  'interop/published_models_test.py': {
    'test_prompt_ids_are_those_of_llama_cpp': 'templates of its shape',
  },
  'train/checkpoint_test.py': {
    'test_checkpoint_of_one_mesh_is_restored_on_any_other': 'two of seven',
    'test_no_flipped_bit_goes_unnoticed': '8 bits of 60',
  },
  'train/processes_test.py': {
    'test_a_lost_peer_ends_both_and_they_start_again': 'the kill, of 3 faults',
  },
  'experiments/resume_test.py': {
    'test_losses_after_kills_equal_an_uninterrupted_run': 'a kill a loop of 4; '
    'a finished run is asked for again with pretraining alone',
    'test_a_run_is_done_again_from_its_record': 'pretraining of three',
  },
  'model/transformer_test.py': {
    'test_cache_equals_no_cache_with_ragged_rows': '5 layouts scanned or not',
    'test_no_token_sees_a_later_one_or_beyond_its_windows': '3 layouts of 10',
    'test_packed_documents_equal_documents_alone': '3 layouts of 10',
    'test_scan_and_remat_change_no_gradient': 'one way of four a layout',
    'test_likelihood_is_that_of_the_logits': 'a layout in chunks or whole',
  },
  'parallel/device_mesh_test.py': {
    'test_sharded_equals_single_device': 'every pair of axes, 3 at a time',
  },
  'web/crawler_records_test.py': {
    'test_killed_in_each_kind_of_write': 'two kinds of five',
  },
  'web/pipeline_test.py': {
    'test_killed_at_any_stage_the_result_is_the_same': '3 stages of 5',
  },
  'web/engines_test.py': {
    'test_beam_writes_the_same_bytes': 'in several processes',
  },
  'web/fuzz_test.py': {
    'test_warc_files': 'a tenth',
    'test_compressed_streams': 'a tenth',
    'test_pages': 'a tenth',
    'test_charsets': 'a tenth',
  },
  'verify/sandbox_test.py': {
    'test_escape_is_stopped': 'the user who runs the tests',
    'test_only_work_passes': 'the user who runs the tests',
    'test_layers_are_said': 'the user who runs the tests',
  },
  'train/continuation_test.py': {
    'test_longer_run_is_as_if_it_had_been_planned': 'one schedule of three',
  },
  'train/depth_test.py': {
    'test_small_depths_are_ordered_in_loss': 'two depths of three',
  },
  'train/fit_test.py': {
    'test_estimate_against_compiled_memory': 'a mesh of three',
  },
  'parallel/compile_ahead_test.py': {
    'test_chunks_keep_whole_logits_out_of_memory': 'a mesh of two',
  },
  'infer/processes_test.py': {
    'test_two_processes_equal_one': 'pretraining in two processes',
  },
  'evals/evaluate_test.py': {
    'test_kill_9_loses_no_finished_checkpoint': 'a call that goes on',
  },
  'model/lora_test.py': {
    'test_gradients_on_a_mesh_are_those_of_one_device': 'one device',
  },
  'experiments/rl_test.py': {
    'test_sigkill_in_the_middle_of_rollouts': 'a kill between steps',
  },
  'infer/engine_test.py': {
    'test_answer_depends_on_neither_neighbours_nor_row': 'two rows of 1, 2, 5',
    'test_answer_depends_on_no_shape_or_mesh': '3 changes of 5',
  },
}

# Each worker has its own folders: JAX writes cache entries without a lock. The
# recipes that a test starts (and may kill while they write) get another one.
_TESTS = pathlib.Path(__file__).resolve().parent
_CACHE = _TESTS.parent / '.cache' / 'jax'
_WORKER = os.environ.get('PYTEST_XDIST_WORKER', 'single')

os.environ['LLM_JAX_CACHE'] = str(_CACHE / f'{_WORKER}_recipes')
# Compiling takes most of the time, and most of that what makes programs fast
# that run for long. 0 would take less, but misses the tolerance of some tests.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=1')
process.keep_freed_memory()
jax.config.update('jax_compilation_cache_dir', str(_CACHE / _WORKER))
# Of a thousand programs most compile in less than JAX cares to keep.
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_sessionstart(session):
  """Gives each worker what the others compiled in earlier runs."""
  if hasattr(session.config, 'workerinput'):
    return
  for kind in ('', '_recipes'):
    folders = [_CACHE / f'{name}{kind}' for name in ('single', 'gw0', 'gw1')]
    for source, target in itertools.permutations(folders, 2):
      target.mkdir(parents=True, exist_ok=True)
      for path in source.glob('*-cache'):
        if not (target / path.name).exists():
          os.link(path, target / path.name)


def pytest_make_parametrize_id(config, val, argname):
  """Bytes go by the parameter's name: gzip puts the time into them."""
  del config
  return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items):
  for item in items:
    if item.get_closest_marker('nightly'):
      name = str(item.path.relative_to(_TESTS))
      if item.originalname not in NIGHTLY.get(name, ()):
        raise pytest.UsageError(f'{item.nodeid} is not in NIGHTLY of conftest')


def pytest_terminal_summary(terminalreporter):
  """The time of this process and its children, checks before it included."""
  minutes = sum(os.times()[:4]) / 60
  terminalreporter.write_line(f'{minutes:.1f} minutes of CPU time')
