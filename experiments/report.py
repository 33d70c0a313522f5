"""Turn the artifacts of a run into report.html, report.md and report.json.

  python -m experiments.report --run_dir runs/speedrun \
      --workdir runs/speedrun/report

Reads JSON that the stages left and measures nothing; the same artifacts give
the same bytes. A second on one core.
"""

import dataclasses
import pathlib

from experiments import command_line
from llm_jax import files, locks
from llm_jax.report import artifacts, page, tables


@dataclasses.dataclass(frozen=True)
class Config:
  """A report has nothing to configure: it shows what there is."""


def run(cfg: Config, workdir: str, run_dir: str) -> None:
  """Write the three forms and print the table of stages.

  Args:
    cfg: empty.
    workdir: folder of the report; an earlier report there is replaced.
    run_dir: folder of the run, with one folder a stage.
  """
  del cfg
  report = artifacts.collect(run_dir)
  folder = pathlib.Path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  locks.lock(folder)
  files.write_json(folder / 'report.json', report)
  (folder / 'report.md').write_text(page.markdown(report), encoding='utf-8')
  (folder / 'report.html').write_text(page.html(report), encoding='utf-8')
  print(tables.markdown(tables.stages(report)))
  print(f'\n{folder / "report.html"}')


if __name__ == '__main__':
  command_line.main(Config, run, run_dir='folder of the run to report on')
