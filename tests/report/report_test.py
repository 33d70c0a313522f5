"""The report of a hand-written run: complete, escaped, honest about gaps."""

import html.parser
import json
import pathlib
import re
import shutil

import pytest

from experiments import report as report_recipe
from llm_jax.report import artifacts, findings, markdown
from llm_jax.report import page as report_html
from tests.report import synthetic_run

_VOID = {'meta', 'br', 'img', 'link', 'input', 'hr'}
# SVG elements that the charts close at once.
_SELF_CLOSED = {'path', 'circle', 'rect'}


class Page(html.parser.HTMLParser):
  """Collects tags and attributes, and checks that tags are nested."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.attributes, self.text, self._open = [], [], [], []
    self.feed(text)
    assert self._open == [], f'not closed: {self._open}'

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += [(tag, name, value or '') for name, value in attrs]
    if tag not in _VOID:
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    assert tag in _SELF_CLOSED
    self.tags.append(tag)

  def handle_endtag(self, tag):
    assert self._open, f'</{tag}> without a start'
    assert self._open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture(name='run_dir')
def _run_dir(tmp_path):
  return synthetic_run.write(tmp_path / 'run', n_steps=300)


def _html(run_dir):
  return report_html.render(artifacts.collect(run_dir))


def test_hostile_text_is_only_text(run_dir):
  text = _html(run_dir)
  page = Page(text)
  assert 'script' not in page.tags
  assert not [a for a in page.attributes if a[1].startswith('on')]
  shown = ''.join(page.text)
  assert r'<script>alert(1)</script>"' in shown  # as text, not as a tag
  assert r'\x1b[31m\u202e' in shown
  assert '\x1b' not in text
  assert '\u202e' not in text
  # Samples, removed documents, answers and the command line all carry it.
  assert text.count('&lt;script&gt;') > 20


def test_page_needs_nothing_else(run_dir):
  text = _html(run_dir)
  page = Page(text)
  for tag, name, value in page.attributes:
    assert name not in {'src', 'srcset', 'data', 'action'}, (tag, value)
    if name == 'href':
      assert value.startswith('#')
  style = text[text.index('<style>') : text.index('</style>')]
  assert 'url(' not in style
  assert '@import' not in style
  assert "default-src 'none'" in text


def test_page_is_accessible(run_dir):
  text = _html(run_dir)
  page = Page(text)
  assert '<html lang="en">' in text
  assert page.tags.count('h1') == 1
  assert page.tags.count('table') == page.tags.count('caption') > 5
  charts = text.count('<svg viewBox="0 0 440')
  assert charts >= 8
  assert text.count('<desc>') == text.count('</title><desc>') == charts
  ids = [value for _, name, value in page.attributes if name == 'id']
  assert len(ids) == len(set(ids))
  for _, name, value in page.attributes:
    if name == 'href':
      assert value[1:] in ids
    if name == 'aria-labelledby':
      assert value in ids
  assert 'prefers-color-scheme: dark' in text


def test_colours_are_legible():
  """WCAG AA: text and lines against the page in both schemes."""
  style = report_html.report_style.CSS
  schemes = re.findall(r':root \{(.*?)\}', style, re.DOTALL)
  assert len(schemes) == 2
  for scheme in schemes:
    colours = dict(re.findall(r'--(\w+): (#\w{6})', scheme))
    for name, colour in colours.items():
      if name in {'page', 'rule', 'tint'}:
        continue
      for ground in ('page', 'tint'):
        assert _contrast(colour, colours[ground]) >= 4.5, (name, colour)


def _contrast(first, second):
  """Source: WCAG 2.2, relative luminance and contrast ratio."""

  def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (
      p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    )
    return 0.2126 * r + 0.7152 * g + 0.0722 * b

  low, high = sorted((luminance(first), luminance(second)))
  return (high + 0.05) / (low + 0.05)


def test_record_has_the_promised_keys(run_dir):
  report = artifacts.collect(run_dir)
  assert [stage['name'] for stage in report['stages']] == [
    'crawl', 'clean', 'tokenizer', 'tokens', 'pretrain', 'sft',
    'rl_seed0', 'rl_seed1', 'rl_seed2', 'rl_zero', 'evaluate',
  ]  # fmt: skip
  for stage in report['stages']:
    assert {'name', 'seconds', 'tokens'} <= set(stage)
  assert report['stages'][4]['tokens'] == 4_915_200
  row = report['evaluation'][0]
  assert {
    'checkpoint', 'task', 'n', 'greedy', 'sampled', 'pass_at_k', 'interval'
  } <= set(row)  # fmt: skip
  assert report['funnel']['steps'][0]['documents_in'] == 214
  assert report['provenance']['sft']['git_dirty'] is True
  # sha256 of {"seed":0}, by `printf '{"seed":0}' | sha256sum`.
  assert report['provenance']['sft']['config_fingerprint'].startswith(
    'bd0488843468'
  )
  assert report['missing'] == []
  json.dumps(report, allow_nan=False)


def test_numbers_reach_the_page(run_dir):
  report = artifacts.collect(run_dir)
  for text in (report_html.render(report), markdown.render(report)):
    assert 'rl, mean of 3 seeds' in text
    assert '84.1' in text  # (82.5 + 84.5 + 85.3) / 3
    assert '4,915,200' in text
    assert '012345678' in text
    assert 'gzip -9' in text
  page = ''.join(Page(report_html.render(report)).text)
  assert 'Accuracy without thinking tokens' in page
  assert 'pii: e mail48' in page
  assert 'quality: too many symbols — 3 documents, 9.0 kB' in page


def test_mean_of_seeds_by_hand(run_dir):
  line = findings.best_rl(artifacts.collect(run_dir), 'free')
  assert line is not None
  assert line.n_seeds == 3
  assert line.sampled == pytest.approx(0.841, abs=1e-12)
  # s = 0.0144222, t(0.975; 2) = 4.302653: ± 0.0358266.
  assert line.sampled_interval == pytest.approx(
    (0.8051734, 0.8768266), abs=1e-6
  )


def test_all_of_the_headline_is_of_means_where_each_has_seeds(run_dir):
  path = run_dir / 'evaluate' / 'evaluation.json'
  evaluation = json.loads(path.read_text())
  rows = []
  for row in evaluation['rows']:
    if row['checkpoint'] in ('base', 'sft'):
      for i in range(3):
        name, sampled = f'{row["checkpoint"]}_seed{i}', 0.1 * (1 + i)
        rows.append(row | {'checkpoint': name, 'sampled': sampled})
    else:
      rows.append(row)
  path.write_text(json.dumps(evaluation | {'rows': rows}))
  report = artifacts.collect(run_dir)
  shown = {what: number for what, number, _ in findings.headline(report)}
  assert (shown['Base model'], shown['After SFT']) == ('20.0%', '20.0%')
  assert shown['After RL'] == '84.1%'
  # What a stage achieved is its own.
  sentences = dict(findings.achieved(report))
  assert sentences['rl_seed0'].startswith('82.5% of sampled')
  assert sentences['rl_seed2'].startswith('85.3% of sampled')


def test_pass_at_k_with_intervals(run_dir):
  """Of a checkpoint over problems, of a mean over seeds."""
  path = run_dir / 'evaluate' / 'evaluation.json'
  evaluation = json.loads(path.read_text())
  for row in evaluation['rows']:
    if row['checkpoint'] == 'sft':
      row['interval']['pass_at_k'] = {
        k: [value - 0.05, value + 0.05] for k, value in row['pass_at_k'].items()
      }
  path.write_text(json.dumps(evaluation))
  report = artifacts.collect(run_dir)
  by_name = {name: cells for name, *cells in findings.pass_at_k(report)}
  assert by_name['Checkpoint'] == ['k = 1', 'k = 2', 'k = 4', 'k = 8']
  assert by_name['base'][0] == '26.8'  # an evaluation of before
  assert by_name['sft'][0] == '29.1 (24.1–34.1)'
  assert by_name['rl, mean of 3 seeds'][0] == '84.1 (80.5–87.7)'
  # 1 - (1 - p)² is .969375, .975975, .978391; s = .0046496, ± .0115502.
  assert by_name['rl, mean of 3 seeds'][1] == '97.5 (96.3–98.6)'
  page = ''.join(Page(report_html.render(report)).text)
  for text in (page, markdown.render(report)):
    assert '29.1 (24.1–34.1)' in text
    assert '97.5 (96.3–98.6)' in text


def test_same_artifacts_give_the_same_bytes(run_dir):
  assert _html(run_dir) == _html(run_dir)


@pytest.mark.parametrize(
  ('gone', 'said'),
  [
    ('clean/funnel.json', 'the funnel'),
    ('tokenizer/report.json', 'the tokenizer report'),
    ('evaluate/evaluation.json', 'the evaluation'),
    ('pretrain/done.json', 'pretrain/done.json: missing'),
    ('rl_zero/rollouts.jsonl', 'rl_zero/rollouts.jsonl: missing'),
    ('pretrain/metrics.jsonl', 'pretrain/metrics.jsonl: missing'),
    ('rl_zero/run.json', ''),
    ('crawl', 'crawl/: no run of this stage'),
  ],
)
def test_what_is_missing_is_said(run_dir, gone, said):
  path = run_dir / gone
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  assert said in ''.join(Page(_html(run_dir)).text)
  markdown.render(artifacts.collect(run_dir))


@pytest.mark.parametrize(
  'name',
  ['clean/funnel.json', 'tokenizer/report.json', 'evaluate/evaluation.json',
   'sft/done.json'],
)  # fmt: skip
@pytest.mark.parametrize('content', ['{"steps": [', '[]', '{}', '\xff'])
def test_damaged_artifacts_stop_nothing(run_dir, name, content):
  (run_dir / name).write_text(content, encoding='latin-1')
  report = artifacts.collect(run_dir)
  Page(report_html.render(report))
  markdown.render(report)
  if content != '{}':
    assert any(line.startswith(f'{name}: ') for line in report['missing'])


def test_empty_run_is_all_missing(tmp_path):
  report = artifacts.collect(tmp_path)
  assert len(report['missing']) == len(artifacts.STAGES)
  assert 'Missing from this run' in report_html.render(report)
  assert '% ' not in markdown.render(report)


def test_no_folder_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere'):
    artifacts.collect(tmp_path / 'nowhere')


def test_torn_and_repeated_lines(run_dir):
  """After kill -9 and a resume the last line of a step counts."""
  path = run_dir / 'sft' / 'metrics.jsonl'
  path.write_text(
    '{"step": 1, "loss": 4.0}\n{"step": 2, "loss": 3.0}\n'
    '{"step": 2, "loss": 2.5}\n{"step": 3, "loss": NaN}\n{"step": 3, "lo'
  )
  report = artifacts.collect(run_dir)
  assert report['training']['sft']['series']['loss'] == [
    [1, 4.0],
    [2, 2.5],
    [3, None],
  ]
  assert 'sft/metrics.jsonl: 1 unreadable lines' in report['missing']
  page = report_html.render(report)
  assert '1 values that are not finite are left out' in page


def test_long_series_are_means_of_bins():
  rows = [{'step': step, 'loss': float(step % 2)} for step in range(10_000)]
  points = artifacts.series(rows)['loss']
  assert len(points) <= 220
  assert points[-1][0] == 9999
  # Every bin of an alternating series holds as many ones as zeros, or one
  # more; its mean is within 1/(2·45) of a half.
  assert all(abs(y - 0.5) < 0.012 for _, y in points[:-1])


def test_samples_show_first_and_last_step():
  rows = [
    {'step': step, 'prompt': p, 'text': f'{p}{step}'}
    for step in range(0, 1000, 10)
    for p in 'abcde'
  ]
  shown = artifacts.spread(rows)
  steps = [row['step'] for row in shown]
  assert steps[0] == 0
  assert steps[-1] == 990
  assert steps == sorted(steps)
  assert len(shown) <= 18


def test_samples_of_one_prompt_differ_by_mode(run_dir):
  samples = artifacts.collect(run_dir)['samples']['rl_zero']
  assert [row['mode'] for row in samples] == ['greedy', 'sampled'] * 3
  assert 'step 20, sampled' in ''.join(Page(_html(run_dir)).text)


def test_rollouts_of_steps_are_browsed_without_a_script(run_dir):
  report = artifacts.collect(run_dir)
  steps = report['rollouts']['rl_zero']
  assert [steps[0]['step'], steps[-1]['step']] == [1, 60]
  assert len(steps) == 24
  assert all(len(step['answers']) == 8 for step in steps)
  text = report_html.render(report)
  page = ''.join(Page(text).text)
  assert 'step 60: 8 of 256 answers, 4 of these right' in page
  assert 'reward 1, 3 tokens' in page
  assert 'reward 0, 3 tokens, cut off' in page
  assert 'more characters)' in page
  section = text[text.index('<section id="rollouts"') :]
  section = section[: section.index('</section>')]
  assert section.count('<article class="good"') == 4 * 24 * 4
  assert section.count('type="radio" name="show-rl_zero"') == 3
  for shown, hidden in (('right', 'bad'), ('wrong', 'good')):
    rule = f'[value="{shown}"]:checked) .{hidden} {{ display: none; }}'
    assert rule in report_html.report_style.CSS


def test_torn_and_foreign_rollouts_are_passed_over(run_dir):
  path = run_dir / 'rl_zero' / 'rollouts.jsonl'
  line = json.loads(path.read_text().split('\n')[0]) | {'reward': 'much'}
  path.write_text(f'{{"step": 1}}\n{json.dumps(line)}\n{{"step": 2, "te')
  report = artifacts.collect(run_dir)
  assert 'rl_zero' not in report['rollouts']
  assert 'rl_zero/rollouts.jsonl: 1 unreadable lines' in report['missing']
  Page(report_html.render(report))


def test_recipe_writes_three_forms(run_dir, tmp_path, capsys):
  workdir = tmp_path / 'out' / 'report'
  report_recipe.run(report_recipe.Config(), str(workdir), str(run_dir))
  names = {path.name for path in pathlib.Path(workdir).iterdir()}
  assert names == {'report.html', 'report.md', 'report.json'}
  record = json.loads((workdir / 'report.json').read_text())
  assert report_html.render(record) == (workdir / 'report.html').read_text()
  assert '| pretrain' in capsys.readouterr().out


def test_markdown_cells_cannot_break_the_table():
  text = markdown.table(('a', 'b'), [('x|y', '<b>\nz\x1b')])
  lines = text.splitlines()
  assert len(lines) == 3
  assert len({len(line) for line in lines}) == 1
  assert r'x\|y' in lines[2]
  assert r'&lt;b> z\x1b' in lines[2]
