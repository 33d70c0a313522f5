"""FineWeb's chain as datatrove runs it: the peer that tools.bench_web times.

  python tools/bench_web_datatrove.py --warc 'crawl/*.warc.gz' --out peer \
    --lid lid.176.ftz --workers 2

It needs an interpreter that has datatrove (tried: 0.10.1 with the extras
`processing` and `multilingual`, and spaCy) and nothing of this project. The
steps and settings are those of datatrove's own example for FineWeb: WARC, URL,
trafilatura, language, Gopher repetition, Gopher quality, C4 without its rule
on line ends, FineWeb quality, JSONL; then MinHash in four stages with 14
buckets of 8 hashes over 5-grams, and personal data last. Each WARC file is a
task of a local executor.

Everything runs offline, so four things differ, none of which slows it down:
the language model is the file that --lid names, in place of a download; the
public suffixes are the snapshot inside tldextract; the tokens are not counted,
as that downloads GPT-2's vocabulary; and a worker imports trafilatura before
it forks the child that extracts, as that import alone can outlast the deadline
of the child's first page. The lists of URLs are unpacked before the clock
starts. Removed documents are not written.

It does NOT judge what it measures: the last line of stdout is a JSON object
with documents in, kept and dropped by reason for each step, and seconds of
each stage. Logs of datatrove go to stderr.
"""

import argparse
import functools
import glob
import gzip
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time

_UNPACK = (
  'from datatrove.pipeline.filters import URLFilter;'
  "f = URLFilter(); f.download_data(); f.tldextractor('a.example.com')"
)


def _preload(data, rank: int = 0, world_size: int = 1, *, lid: str = ''):
  """A first step: the model's place, and what the extractor would import."""
  import trafilatura  # noqa: F401
  from datatrove.utils.lid import FT176LID

  FT176LID.MODEL_URL = lid
  return data


def _set_up(cache: pathlib.Path):
  """Fills the caches that datatrove would fill from the internet."""
  os.environ['HF_ASSETS_CACHE'] = str(cache / 'assets')
  os.environ['TLDEXTRACT_CACHE'] = str(cache / 'tldextract')
  os.environ['HF_HUB_OFFLINE'] = '1'
  spec = importlib.util.find_spec('tldextract')
  snapshot = pathlib.Path(spec.origin).with_name('.tld_set_snapshot')
  os.environ['TLDEXTRACT_PUBLIC_SUFFIX_LIST_URLS'] = snapshot.as_uri()
  # In a process of its own, so that its 4.6 million domains are freed.
  subprocess.run([sys.executable, '-c', _UNPACK], check=True)


def _stages(files: pathlib.Path, n_files: int, out: pathlib.Path, args):
  """Yields (name, executor) in the order in which they must run."""
  from datatrove.executor import LocalPipelineExecutor
  from datatrove.pipeline import dedup, extractors, filters, formatters
  from datatrove.pipeline.dedup import minhash
  from datatrove.pipeline.readers import JsonlReader, WarcReader
  from datatrove.pipeline.writers.jsonl import JsonlWriter

  def executor(name, pipeline, tasks):
    return name, LocalPipelineExecutor(
      pipeline=pipeline,
      tasks=tasks,
      workers=min(args.workers, tasks),
      logging_dir=str(out / 'logs' / name),
    )

  yield executor(
    'base',
    [
      functools.partial(_preload, lid=os.path.abspath(args.lid)),
      WarcReader(
        '/', paths_file=str(files), default_metadata={'dump': 'bench'}
      ),
      filters.URLFilter(),
      extractors.Trafilatura(favour_precision=True, timeout=args.timeout_s),
      filters.LanguageFilter(languages=['en']),
      filters.GopherRepetitionFilter(),
      filters.GopherQualityFilter(),
      filters.C4QualityFilter(filter_no_terminal_punct=False),
      filters.FineWebQualityFilter(),
      JsonlWriter(str(out / 'base')),
    ],
    n_files,
  )
  config = minhash.MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
  signatures, buckets, remove = (
    str(out / name) for name in ('signatures', 'buckets', 'remove')
  )
  yield executor(
    'minhash_1',
    [
      JsonlReader(str(out / 'base')),
      dedup.MinhashDedupSignature(output_folder=signatures, config=config),
    ],
    n_files,
  )
  yield executor(
    'minhash_2',
    [
      dedup.MinhashDedupBuckets(
        input_folder=signatures, output_folder=buckets, config=config
      )
    ],
    config.num_buckets,
  )
  yield executor(
    'minhash_3',
    [
      dedup.MinhashDedupCluster(
        input_folder=buckets, output_folder=remove, config=config
      )
    ],
    1,
  )
  yield executor(
    'minhash_4',
    [
      JsonlReader(str(out / 'base')),
      dedup.MinhashDedupFilter(input_folder=remove),
      formatters.PIIFormatter(),
      JsonlWriter(str(out / 'final')),
    ],
    n_files,
  )


def _list_documents(folder: pathlib.Path, path: pathlib.Path) -> int:
  """Writes id and URL of every document of a folder; returns how many."""
  n_documents = 0
  with path.open('w') as out:
    for part in sorted(folder.glob('*.jsonl.gz')):
      with gzip.open(part, 'rt') as lines:
        for line in lines:
          row = json.loads(line)
          kept = {'id': row['id'], 'url': row['metadata']['url']}
          out.write(json.dumps(kept) + '\n')
          n_documents += 1
  return n_documents


def _main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--warc', required=True, help='glob of WARC files')
  parser.add_argument('--out', required=True, type=pathlib.Path)
  parser.add_argument('--lid', required=True, help='lid.176.ftz or .bin')
  parser.add_argument('--workers', type=int, default=2)
  parser.add_argument(
    '--timeout_s', type=float, default=1.0, help='deadline of one page'
  )
  parser.add_argument(
    '--cache', type=pathlib.Path, help='kept between runs; default OUT/cache'
  )
  args = parser.parse_args()
  warcs = sorted(os.path.abspath(path) for path in glob.glob(args.warc))
  if not warcs:
    parser.error(f'--warc {args.warc!r} matches no file')
  out = args.out.absolute()
  if out.exists() and any(p.name != 'cache' for p in out.iterdir()):
    parser.error(f'--out {out} is not empty; name a new folder')
  out.mkdir(parents=True, exist_ok=True)
  files = out / 'warc.paths'
  files.write_text(''.join(f'{path[1:]}\n' for path in warcs))
  _set_up((args.cache or out / 'cache').absolute())
  seconds, steps = {}, []
  for name, executor in _stages(files, len(warcs), out, args=args):
    start = time.perf_counter()
    stats = executor.run()
    seconds[name] = round(time.perf_counter() - start, 3)
    for step in stats.stats:
      counts = {k: metric.total for k, metric in step.stats.items()}
      if 'total' in counts or 'documents' in counts:
        wall_s = round(step.time_stats.total, 2)
        steps.append(
          {'stage': name, 'step': step.name, 'wall_s': wall_s} | counts
        )
  kept, base = out / 'kept.jsonl', out / 'kept_before_minhash.jsonl'
  result = {
    'peer': 'datatrove',
    'version': importlib.metadata.version('datatrove'),
    'n_files': len(warcs),
    'workers': args.workers,
    'documents_in': next(s['documents'] for s in steps if 'documents' in s),
    'documents_before_minhash': _list_documents(out / 'base', base),
    'documents_kept': _list_documents(out / 'final', kept),
    'kept': str(kept),
    'kept_before_minhash': str(base),
    'seconds': seconds,
    'seconds_all': round(sum(seconds.values()), 3),
    'steps': steps,
  }
  print(json.dumps(result))


if __name__ == '__main__':
  _main()
