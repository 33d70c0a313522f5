"""Turns WARC files into documents to train on.

  python -m experiments.clean --workdir runs/speedrun/clean \
      --warc 'runs/speedrun/crawl/*.warc.gz' \
      --gin_file gin_configs/clean_pydoc.gin

Text is extracted, told apart by language, held against the rules of Gopher, C4
and FineWeb, freed of copies and of personal data, and written as Parquet with
FineWeb's columns. funnel.json says what each step kept and removed, and why.
Any WARC files will do, Common Crawl's own included. The defaults are FineWeb's.

Hardware: 2 CPU cores, one process each. Time: 4 s for the 16.5 MB of HTML that
experiments.crawl brings by itself. Result: 311 documents, 3.7 MB of text.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from absl import logging

from experiments import command_line
from llm_jax import files, locks, record
from llm_jax.web import beam_runner, chain, pipeline


@dataclasses.dataclass(frozen=True)
class Config:
  """The chain from WARC to documents."""

  clean: chain.Clean = chain.Clean()


def run(
  cfg: Config,
  workdir: str,
  warc: Sequence[str],
  warc_root: str = 'https://data.commoncrawl.org/',
  blocklist: Sequence[str] = (),
  evaluation_set: Sequence[str] = (),
  earlier: Sequence[str] = (),
  output: str = '',
  n_workers: int = 0,
  runner: str = 'pool',
  beam_option: Sequence[str] = (),
):
  """Cleans the WARC files that match the patterns."""
  if runner not in ('pool', 'beam'):
    raise ValueError(f'--runner {runner}: give pool or beam')
  folder, place = pathlib.Path(workdir), files.to_path(output or workdir)
  warcs = {
    path: files.fingerprint(path)
    for path in files.find('warc', warc, warc_root)
  }
  # Names and contents: the order of the names decides which copy survives.
  inputs = {
    f'{i:05d} {files.name(path)}': fingerprint
    for i, (path, fingerprint) in enumerate(warcs.items())
  }
  sets = files.find('evaluation_set', evaluation_set)
  for path in sets:
    inputs[f'evaluation_set {path.name}'] = files.fingerprint(path)
  lists = [pathlib.Path(path) for path in files.find('blocklist', blocklist)]
  for path in lists:
    inputs[f'blocklist {path.name}'] = files.folder_fingerprint(path)
  before = files.find('earlier', earlier)
  for i, path in enumerate(before):
    manifest = pipeline.manifest_of(path)
    inputs[f'earlier {i:03d}'] = files.fingerprint(manifest)
  if record.begin(folder, 'clean', cfg, inputs=inputs):
    logging.info('%s is finished', folder)
  else:
    if files.is_local(place):
      place.mkdir(parents=True, exist_ok=True)
      locks.lock(pathlib.Path(place))  # two workdirs may share an output
    todo = pipeline.plan(
      cfg.clean,
      warcs,
      output=place,
      blocklists=lists,
      sets=sets,
      earlier=before,
    )
    if runner == 'beam':
      summary = beam_runner.clean(todo, beam_option)
    else:
      summary = pipeline.clean(
        todo, n_workers or os.cpu_count() or 1, lambda: record.tick(folder)
      )
    steps = files.read_json(place / 'funnel.json')['steps']
    _print_funnel(steps)
    seen, kept = steps[0]['documents_in'], steps[-1]['documents_kept']
    result = f'{kept:,} of {seen:,} documents are kept'
    record.finish(folder, summary | {'result': result})
  pipeline.remove_intermediate(place)


def _print_funnel(steps: Sequence[dict]):
  for step in steps:
    reasons = ', '.join(
      f'{reason} {removed["documents"]}'
      for reason, removed in step['removed'].items()
    )
    logging.info(
      '%-18s %7d -> %7d documents  %s',
      step['name'],
      step['documents_in'],
      step['documents_kept'],
      reasons,
    )


if __name__ == '__main__':
  command_line.main(
    Config,
    run,
    warc='WARC or WET files: path, URL, pattern, or list (.paths, .paths.gz)',
    warc_root='what the lines of such a list are relative to',
    blocklist='folder of URL lists, <category>/domains and <category>/urls',
    evaluation_set='JSONL file whose texts must not be trained on',
    earlier='output of an earlier run; what it holds is not kept again',
    output='folder or URL of the documents; default: the workdir',
    n_workers='processes; 0 for one a CPU core',
    runner='pool (this machine) or beam (Apache Beam)',
    beam_option="option of Beam's runner, such as --runner=FlinkRunner",
  )
