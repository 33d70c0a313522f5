"""A small corpus with one page of each fate, and how to clean it."""

import datetime
import os
import pathlib
import random
import re
import subprocess
import sys

import experiments.clean
from llm_jax.web import chain
from llm_jax.web.crawl import fetch, warc_write
from llm_jax.web.extract import html_text

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATE = datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=datetime.UTC)
_POOLS = {
  'noun': 'bridge river village garden letter lantern harbour winter teacher '
  'orchard mountain tower captain window machine forest island market kitchen',
  'verb': 'carries follows reaches describes protects replaces measures '
  'surprises crosses remembers repairs watches supports surrounds divides',
  'word': 'old quiet narrow bright wooden distant empty gentle heavy famous '
  'simple yellow broken modern hidden honest',
  'link': 'near behind above without after beyond inside against',
}
POOLS = {kind: words.split() for kind, words in _POOLS.items()}
FORM = (
  'The {word} {noun} {verb} that {word} {noun} {link} the {noun} and {verb} '
  'a {word} {noun}.'
)


def prose(seed: int, n_sentences: int = 24) -> list[str]:
  generator = random.Random(seed)
  return [
    re.sub(r'{(\w+)}', lambda m: generator.choice(POOLS[m.group(1)]), FORM)
    for _ in range(n_sentences)
  ]


def html(sentences: list[str]) -> bytes:
  chunks = [' '.join(sentences[i : i + 3]) for i in range(0, len(sentences), 3)]
  return ''.join(f'<p>{chunk}</p>' for chunk in chunks).encode()


GERMAN = [
  'Der Fluss entspringt in den Bergen nördlich der alten Stadt und fließt '
  f'an Haus Nummer {i} vorbei.'
  for i in range(20)
]


def record(name: str, body: bytes, status=200, kind='text/html') -> bytes:
  headers = (('Content-Type', kind),)
  answer = fetch.Response(status, '', headers, body, False, '::1', DATE)
  return warc_write.encode_response(f'http://h/{name}', answer)


def write(folder: pathlib.Path) -> list[pathlib.Path]:
  """Three WARC files with one page of each fate, and one damaged record."""
  html_type, pdf = 'text/html', 'application/pdf'
  near = [*prose(1)[:-1], 'The end was never written down.']
  mail = [*prose(2), 'Write to miller@mill.example.net or ask at 8.8.8.8.']
  twin = [*prose(105)[:-1], 'The other end was written down.']
  pages = [
    [
      ('one', 200, html_type, html(prose(1))),
      ('mail', 200, html_type, html(mail)),
      ('german', 200, html_type, html(GERMAN)),
      ('missing', 404, html_type, b'<p>none</p>'),
      ('pdf', 200, pdf, b'%PDF'),
      ('empty', 200, html_type, b'<p></p>'),
    ],
    [
      ('copy', 200, html_type, html(prose(1))),
      ('near', 200, html_type, html(near)),
      ('short', 200, html_type, html(prose(3, 2))),
      ('again', 200, html_type, html(prose(4, 3) * 9)),
    ],
    [
      *((f'fill{i}', 200, html_type, html(prose(100 + i))) for i in range(30)),
      ('twin', 200, html_type, html(twin)),
    ],
  ]
  paths = []
  for number, shard in enumerate(pages):
    data = warc_write.encode_info(DATE, {'software': 'test'}, 'name')
    for name, status, kind, body in shard:
      data += record(name, body, status, kind)
    if number == 1:
      data = data[:-30]  # a torn tail: 'again' is lost
    paths.append(folder / f'crawl-{number:05d}.warc.gz')
    paths[-1].write_bytes(data)
  return paths


CFG = chain.Clean(extraction=html_text.Extraction(extractor='resiliparse'))


def _pattern(warcs) -> str:
  return f'{warcs}/*.warc.gz' if pathlib.Path(warcs).is_dir() else str(warcs)


def command(warcs, workdir, *more: str) -> list[str]:
  return [
    *(sys.executable, '-m', 'experiments.clean', '--workdir', str(workdir)),
    *('--warc', _pattern(warcs), '--n_workers', '2'),
    *('--gin_bindings', "Extraction.extractor = 'resiliparse'"),
    *more,
  ]


def clean(warcs, workdir, cfg: chain.Clean = CFG, **more):
  """The same in this process."""
  recipe = experiments.clean
  settings = {'n_workers': 2, **more}
  recipe.run(recipe.Config(cfg), str(workdir), [_pattern(warcs)], **settings)


def results(workdir: pathlib.Path) -> dict[str, bytes]:
  patterns = ('documents-*.parquet', 'keys-*.npy', 'funnel.json')
  paths = [path for pattern in patterns for path in workdir.glob(pattern)]
  paths.append(workdir / 'manifest.json')
  return {path.name: path.read_bytes() for path in paths}


def run(*command: str, code: int = 0, env: dict | None = None) -> str:
  """Runs a command that must end with this code; what it says on stderr."""
  done = subprocess.run(
    command,
    cwd=ROOT,
    capture_output=True,
    text=True,
    env={**os.environ, **(env or {})},
  )
  assert done.returncode == code, done.stderr[-3000:]
  return done.stderr
