"""What every test shares: eight virtual CPU devices and a compilation cache.

It does NOT define fixtures; a test file holds what it needs.
"""

import os
import pathlib

import jax

from experiments import process

# Each worker has its own folders: JAX writes cache entries without a lock. The
# recipes that a test starts (and may kill while they write) get another one.
_CACHE = pathlib.Path(__file__).resolve().parent.parent / '.cache' / 'jax'
_WORKER = os.environ.get('PYTEST_XDIST_WORKER', 'single')

os.environ['LLM_JAX_CACHE'] = str(_CACHE / f'{_WORKER}_recipes')
process.keep_freed_memory()
jax.config.update('jax_compilation_cache_dir', str(_CACHE / _WORKER))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
