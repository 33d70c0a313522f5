"""The report of a hand-written run: complete, escaped, honest about gaps."""

import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from experiments import report as report_recipe
from llm_jax.report import artifacts, findings, page, tables
from tests.report import synthetic_run

CSS = importlib.resources.files('llm_jax.report') / 'templates' / 'report.css'


class Page:
  """The page as XML, which must be closed in the order in which it opened."""

  def __init__(self, text):
    text = text.removeprefix('<!DOCTYPE html>\n')
    # What HTML may leave out: the end of void tags, quotes, and values.
    text = re.sub(r'<((?:meta|input)\b[^>]*)>', r'<\1/>', text)
    text = re.sub(r'(<t[^<>]* class=)(\w+)', r'\1"\2"', text)
    text = re.sub(
      r'(<(?:details|input)\b[^>]*) (open|checked)', r'\1 \2=""', text
    )
    root = ElementTree.fromstring(text)
    self.tags = [element.tag for element in root.iter()]
    self.attributes = [
      (element.tag, *item)
      for element in root.iter()
      for item in element.items()
    ]
    self.text = ' '.join(''.join(root.itertext()).split())


@pytest.fixture(name='run_dir')
def _run_dir(tmp_path):
  return synthetic_run.write(tmp_path / 'run', n_steps=300)


@pytest.fixture(name='whole', scope='module')
def _whole(tmp_path_factory):
  """The record, the page and the Markdown of a run that lacks nothing."""
  run_dir = synthetic_run.write(tmp_path_factory.mktemp('whole') / 'run', 300)
  record = artifacts.collect(run_dir)
  return record, page.html(record), page.markdown(record)


def _edit(path, change):
  value = json.loads(path.read_text())
  change(value)
  path.write_text(json.dumps(value))


def test_hostile_text_is_only_text(whole):
  _, text, markdown = whole
  parsed = Page(text)
  assert 'script' not in parsed.tags
  assert not [a for a in parsed.attributes if a[1].startswith('on')]
  assert r'<script>alert(1)</script>"' in parsed.text  # text, not a tag
  assert r'\x1b[31m\u202e' in parsed.text
  assert not re.search('[\x1b\u202e]', text + markdown)
  # Samples, removed documents, answers and the command line all carry it.
  assert text.count('&lt;script&gt;') > 20


def test_page_needs_nothing_else(whole):
  _, text, _ = whole
  for tag, name, value in Page(text).attributes:
    assert name not in {'src', 'srcset', 'data', 'action'}, (tag, value)
    if name == 'href':
      assert value.startswith('#')
  style = text[text.index('<style>') : text.index('</style>')]
  assert style.count('</') == 0
  assert not re.search(r'url\(|@import', style)
  assert not re.search(r'url\((?!#)', text)
  assert "default-src 'none'" in text


def test_page_is_accessible(whole):
  _, text, _ = whole
  parsed = Page(text)
  assert '<html lang="en">' in text
  assert parsed.tags.count('h1') == 1
  assert parsed.tags.count('table') == parsed.tags.count('caption') > 5
  charts = [a for a in parsed.attributes if a == ('svg', 'role', 'img')]
  spoken = [a for a in parsed.attributes if a[:2] == ('svg', 'aria-label')]
  assert parsed.tags.count('svg') == len(charts) == len(spoken) == 15
  ids = [value for _, name, value in parsed.attributes if name == 'id']
  assert len(ids) == len(set(ids))
  for _, name, value in parsed.attributes:
    if name in ('href', 'aria-labelledby'):
      assert value.removeprefix('#') in ids


def test_colours_are_legible_in_both_schemes():
  """WCAG AA: text and lines against the page."""
  schemes = re.findall(r':root \{(.*?)\}', CSS.read_text(), re.DOTALL)
  assert len(schemes) == 2
  assert 'prefers-color-scheme: dark' in CSS.read_text()
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


def test_each_of_several_folders_of_a_stage_has_its_own_figures(run_dir):
  for old, new in (('tokenizer', 'tokens_9k'), ('clean', 'clean_2'),
                   ('evaluate', 'evaluate_2')):  # fmt: skip
    shutil.copytree(run_dir / old, run_dir / new)
  _edit(
    run_dir / 'tokens_9k' / 'report.json',
    lambda x: x.update(vocab_size=9000, bytes_per_token={'own': 4.5}),
  )
  _edit(
    run_dir / 'clean_2' / 'funnel.json',
    lambda x: x['steps'][0].update(documents_in=999),
  )
  record = artifacts.collect(run_dir)
  said = findings.achieved(record)
  assert said['clean'] == said['clean_2'] == '187 of 214 documents are kept'
  assert said['crawl'] == '214 pages, 6,120,332 bytes'
  assert record['missing'] == [
    'evaluate_2/evaluation.json: another evaluation of its task is shown '
    'already'
  ]
  text = page.markdown(record)
  assert '## Cleaning in clean\n' in text
  assert '## Cleaning in clean_2\n' in text


def test_evaluations_of_other_tasks_and_by_likelihood_are_shown(run_dir):
  shutil.copytree(run_dir / 'evaluate', run_dir / 'evaluate_talk')
  choice = {
    'task': 'quiz', 'mode': 'likelihood', 'n': 80, 'chance': 0.25,
    'checkpoint': 'base', 'accuracy': {'letter': 0.25, 'text_per_byte': 0.5},
    'interval': {'letter': [0.2, 0.3], 'text_per_byte': [0.4, 0.6]},
  }  # fmt: skip

  def other(record):
    record['rows'] = [row | {'task': 'other'} for row in record['rows']]
    record['choices'] = [choice, {'task': 'quiz'}]

  _edit(run_dir / 'evaluate_talk' / 'evaluation.json', other)
  record = artifacts.collect(run_dir)
  assert {row['task'] for row in record['evaluation']} == {'addition', 'other'}
  assert record['missing'] == [
    'evaluate_talk/evaluation.json: 1 rows of another form'
  ]
  text = page.markdown(record)
  assert '| base | 80 | 25.0 | 25.0 (20.0–30.0) | 50.0 (40.0–60.0) |' in (
    ' '.join(text.split())
  )
  assert 'By likelihood' in page.html(record)


def test_what_is_learnt_and_how_it_was_asked(run_dir):
  def kinds(record):
    rows = record['rows']
    for n, row in enumerate(rows):
      row['about'] = 'Sums of two numbers.'
      row['kinds'] = {
        '12+7': {'n': 9, 'greedy': n / 10, 'sampled': 0.1, 'interval': [0, 1]}
      }
    asked = {'n': 9, 'greedy': 0.25, 'sampled': 0.1, 'interval': [0.1, 0.5]}
    other = {'task': 'assistant', 'kinds': {'a sum, turn 2': asked}}
    rows.append(rows[0] | other)

  _edit(run_dir / 'evaluate' / 'evaluation.json', kinds)
  sizes = {
    'parameters': 529248, 'n_layers': 3, 'd_model': 96, 'vocab_size': 2048
  }  # fmt: skip
  devices = '[CpuDevice(id=0), CpuDevice(id=1)]'
  _edit(
    run_dir / 'pretrain' / 'run.json',
    lambda x: x.update(model=sizes, devices=devices),
  )
  record = artifacts.collect(run_dir)
  assert findings.learnt(record) == [
    'What is learnt: sums of two numbers.',
    'The model: a Transformer with 529,248 parameters in 3 layers of width 96, '
    'over 2,048 tokens, trained on 2 CPU devices (pretrain).',
  ]
  table = tables.kinds(record)
  # One column a recipe: the mean over seeds in place of each.
  assert table.header[1:] == ('base', 'sft', 'rl, mean of 3 seeds', 'rl_zero')
  assert [row[0] for row in table.rows] == ['12+7']
  assert tables.kinds(record, 'assistant').rows == [
    ('a sum, turn 2', ('25.0', '(10.0–50.0)'))
  ]
  text = page.markdown(record)
  assert text.index('529,248') < text.index('## How it was asked')
  assert '## In conversation' in text


def test_curves_that_are_level_are_named_and_not_drawn(run_dir):
  path = run_dir / 'sft' / 'metrics.jsonl'
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  for row in rows:
    row |= {'learning_rate': 0.001, 'grad_norm': 1 / (1 + row['step'])}
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  for name in synthetic_run.RL_SHIFTS:
    shutil.rmtree(run_dir / name)  # fewer to draw
  text = Page(page.html(artifacts.collect(run_dir))).text
  assert 'Gradient norm of sft' in text
  assert text.count('Learning rate of sft') == 1
  assert 'Level throughout, so not drawn: Learning rate of sft (0.001)' in text


def test_record_has_the_promised_keys(whole):
  report, _, _ = whole
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
  assert report['funnels']['clean']['steps'][0]['documents_in'] == 214
  assert report['provenance']['sft']['git_dirty'] is True
  # sha256 of {"seed":0}, by `printf '{"seed":0}' | sha256sum`.
  assert report['provenance']['sft']['config_fingerprint'].startswith(
    'bd0488843468'
  )
  assert report['missing'] == []
  json.dumps(report, allow_nan=False)


def test_numbers_reach_the_page(whole):
  _, text, markdown = whole
  shown = Page(text).text
  for number in ('rl, mean of 3 seeds', '84.1 (80.5–87.7)', '4,915,200',
                 '012345678', 'gzip -9', '97.5 (96.3–98.6)'):  # fmt: skip
    assert number in shown
    assert number in markdown
  assert 'Accuracy without thinking tokens' in shown
  assert 'pii: e mail 48' in shown
  assert 'quality: too many symbols — 3 documents, 9.0 kB' in shown
  assert 'language: not English — 1 document, 3.0 kB' in shown
  assert 'step 20, sampled' in shown
  assert shown.count('Missing from this run') == 0


def test_mean_of_seeds_by_hand(whole):
  line = findings.named(whole[0], 'free', (findings.RL_AFTER_SFT,))
  assert line is not None
  assert line.n_seeds == 3
  assert line.sampled.share == pytest.approx(0.841, abs=1e-12)
  # s = 0.0144222, t(0.975; 2) = 4.302653: ± 0.0358266.
  limits = (0.8051734, 0.8768266)
  assert line.sampled.limits == pytest.approx(limits, abs=1e-6)


def test_all_of_the_headline_is_of_means_where_each_has_seeds(run_dir):
  def with_seeds(evaluation):
    evaluation['rows'] = [
      row | {'checkpoint': name, 'sampled': 0.1 * i}
      for row in evaluation['rows']
      for i, name in enumerate(
        [f'{row["checkpoint"]}_seed{i}' for i in range(4)][1:], 1
      )
      if row['checkpoint'] in ('base', 'sft')
    ] + [row for row in evaluation['rows'] if 'rl' in row['checkpoint']]

  _edit(run_dir / 'evaluate' / 'evaluation.json', with_seeds)
  report = artifacts.collect(run_dir)
  shown = {what: number for what, number, _ in findings.headline(report)}
  assert (shown['Base model'], shown['After SFT']) == ('20.0%', '20.0%')
  assert shown['After RL'] == '84.1%'
  # What a stage achieved is its own.
  sentences = findings.achieved(report)
  assert sentences['rl_seed0'].startswith('82.5% of sampled')
  assert sentences['rl_seed2'].startswith('85.3% of sampled')


def test_pass_at_k_with_intervals(run_dir):
  """Of a checkpoint over problems, of a mean over seeds."""

  def with_limits(evaluation):
    for row in evaluation['rows']:
      passes = row['pass_at_k']
      if row['checkpoint'] == 'sft':
        limits = {k: [x - 0.05, x + 0.05] for k, x in passes.items()}
        row['interval']['pass_at_k'] = limits
      if row['checkpoint'] == 'rl_zero':
        del passes['8']  # fewer samples than the others

  _edit(run_dir / 'evaluate' / 'evaluation.json', with_limits)
  report = artifacts.collect(run_dir)
  table = tables.pass_at_k(report)
  by_name = {name: cells for name, *cells in table.rows}
  assert list(table.header[1:]) == ['k = 1', 'k = 2', 'k = 4', 'k = 8']
  assert by_name['base'][0] == '26.8'  # an evaluation of before
  assert by_name['sft'][0] == ('29.1', '(24.1–34.1)')
  # 1 - (1 - p)² is .969375, .975975, .978391; s = .0046496, ± .0115502.
  assert by_name['rl, mean of 3 seeds'][1] == ('97.5', '(96.3–98.6)')
  assert by_name['rl_zero'][3] == '–'


def test_what_is_missing_is_said_in_its_place(run_dir):
  lost = {
    'clean/funnel.json': 'the funnel, clean/funnel.json',
    'tokenizer/report.json': 'the tokenizer report, tokenizer/report.json',
    'evaluate/evaluation.json': 'the evaluation, evaluate/evaluation.json',
    'pretrain/done.json': 'pretrain/done.json: missing',
    'rl_zero/rollouts.jsonl': 'rl_zero/rollouts.jsonl: missing',
    'pretrain/metrics.jsonl': 'pretrain/metrics.jsonl: missing',
    'rl_seed0/run.json': '',
    'crawl/run.json': 'crawl/: no run of this stage',
  }
  for name in lost:
    (run_dir / name).unlink()
  report = artifacts.collect(run_dir)
  shown = Page(page.html(report)).text
  markdown = page.markdown(report)
  assert all(said in shown for said in lost.values())
  assert all(line in markdown for line in report['missing'])
  for said in ('direct answers', 'pass@k', 'held-out bits per byte', 'sample'):
    assert f'Missing from this run: {said}' in shown


_DEEP = '[' * 100_000
_EVALUATION = 'evaluate/evaluation.json'
_ROW = '{"rows": [{"checkpoint": "a", "mode": "free", "greedy": %s}]}'


@pytest.mark.parametrize(
  ('name', 'content', 'said'),
  [
    *(
      (name, content, said)
      for name in ('clean/funnel.json', 'tokenizer/report.json', _EVALUATION,
                   'sft/done.json', 'sft/run.json')
      for content, said in (
        ('{"steps": [', 'unreadable'), ('[]', 'no JSON object'),
        ('\xff', 'unreadable'), (_DEEP, 'recursion depth'),
      )
    ),
    (_EVALUATION, _ROW % 0.5, '1 rows of another form'),
    (_EVALUATION, _ROW % 'NaN', '1 rows of another form'),
    (_EVALUATION, '{"rows": 3}', 'of another form in rows'),
    (_EVALUATION, '{"held_out": {"models": 1}}', 'another form in held_out'),
    ('clean/funnel.json', '{"steps": [{"name": 1}]}', 'another form in steps'),
    ('sft/done.json', '{"seconds": "soon"}', 'of another form in seconds'),
    ('sft/run.json', '{"git_dirty": []}', 'of another form in git_dirty'),
    ('tokenizer/report.json', '{"vocab_size": true}', 'form in vocab_size'),
    ('tokenizer/report.json', '{"vocab_size": false}', 'form in vocab_size'),
  ],
)  # fmt: skip
def test_damaged_artifacts_stop_nothing(run_dir, name, content, said):
  (run_dir / name).write_text(content, encoding='latin-1')
  report = artifacts.collect(run_dir)
  json.dumps(report, allow_nan=False)
  found = [line for line in report['missing'] if line.startswith(f'{name}: ')]
  assert len(found) == 1
  assert said in found[0]
  assert found[0][:40] in page.markdown(report)


def test_artifacts_may_lack_what_they_need_not_have(run_dir):
  for path in run_dir.glob('*/*.json'):
    path.write_text('{}')
  removed = '{"steps": [{"name": "a", "removed": {"b": {"samples": [{}]}}}]}'
  (run_dir / 'clean' / 'run.json').write_text('{"stage": "clean"}')
  (run_dir / 'clean' / 'funnel.json').write_text(removed)
  report = artifacts.collect(run_dir)
  assert 'a: b — 0 documents, 0.0 kB' in Page(page.html(report)).text
  assert '| a ' in page.markdown(report)


def test_empty_run_is_all_missing(tmp_path):
  report = artifacts.collect(tmp_path)
  assert len(report['missing']) == len(artifacts.STAGES)
  assert Page(page.html(report)).text.count('Missing from this run') == 15
  assert '% ' not in page.markdown(report)


def test_no_folder_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere'):
    artifacts.collect(tmp_path / 'nowhere')


def test_torn_and_repeated_lines(run_dir):
  """After kill -9 and a resume the last line of a step counts."""
  (run_dir / 'sft' / 'metrics.jsonl').write_text(
    '{"step": 1, "loss": 4.0}\n{"step": 2, "loss": 3.0}\n'
    '{"step": 2, "loss": 2.5}\n{"step": 3, "loss": NaN}\n'
    '{"step": 4, "loss": 1e999}\n{"step": 5, "loss": %s}\n{"step": 6, "lo'
    % ('7' * 400)
  )
  report = artifacts.collect(run_dir)
  assert report['training']['sft']['series']['loss'] == [
    [1, 4.0], [2, 2.5], [3, None], [4, None], [5, None],
  ]  # fmt: skip
  assert 'sft/metrics.jsonl: 1 unreadable lines' in report['missing']
  shown = page.html(report)
  assert '3 values that are not finite are left out' in shown


def test_long_series_are_means_of_bins():
  rows = [{'step': step, 'loss': float(step % 2)} for step in range(10_000)]
  points = artifacts.series(rows)['loss']
  assert len(points) <= 220
  assert points[-1][0] == 9999
  # Every bin of an alternating series holds as many ones as zeros, or one
  # more; its mean is within 1/(2·45) of a half.
  assert all(abs(y - 0.5) < 0.012 for _, y in points[:-1])


def test_samples_show_first_and_last_step(whole):
  rows = [
    {'step': step, 'prompt': p, 'text': f'{p}{step}'}
    for step in range(0, 1000, 10)
    for p in 'abcde'
  ]
  steps = [row['step'] for row in artifacts.spread(rows)]
  assert (steps[0], steps[-1]) == (0, 990)
  assert steps == sorted(steps)
  assert len(steps) <= 18
  # One prompt may have two modes.
  samples = whole[0]['samples']['rl_zero']
  assert [row['mode'] for row in samples] == ['greedy', 'sampled'] * 3


def test_tokens_that_are_learnt_are_marked(whole):
  _, text, _ = whole
  shown = text[text.index('<pre class="tokens">') :].partition('</pre>')[0]
  assert '<span>&lt;|im_start|&gt;</span><span>user↵\n&lt;script' in shown
  assert shown.endswith('</span><mark> 1</mark><mark>7</mark>')
  assert 'sums: 4 tokens, 2 learnt' in text


def test_rollouts_of_steps_are_browsed_without_a_script(whole):
  report, text, _ = whole
  steps = report['rollouts']['rl_zero']
  assert [steps[0]['step'], steps[-1]['step']] == [1, 60]
  assert len(steps) == 24
  assert all(len(step['answers']) == 8 for step in steps)
  shown = Page(text).text
  for said in (
    'step 60: 8 of 256 answers, 4 of these right',
    '✓ right reward 1, 3 tokens',
    '✗ wrong reward 0, 3 tokens, cut off',
    'more characters)',
  ):
    assert said in shown
  section = text[text.index('<section id="rollouts"') :]
  section = section[: section.index('</section>')]
  assert section.count('<article class="good"') == 4 * 24 * 4
  assert section.count('type="radio" name="show-rl_zero"') == 3
  for kind, hidden in (('right', 'bad'), ('wrong', 'good')):
    rule = f'[value="{kind}"]:checked) .{hidden} {{ display: none; }}'
    assert rule in CSS.read_text()


def test_torn_and_foreign_rollouts_are_counted(run_dir):
  path = run_dir / 'rl_zero' / 'rollouts.jsonl'
  line = json.loads(path.read_text().split('\n')[0]) | {'reward': 'much'}
  path.write_text(f'{{"step": 1}}\n{json.dumps(line)}\n{{"step": 2, "te')
  report = artifacts.collect(run_dir)
  assert 'rl_zero' not in report['rollouts']
  assert report['missing'] == [
    'rl_zero/rollouts.jsonl: 3 unreadable lines',
  ]


def test_recipe_writes_three_forms(run_dir, tmp_path, capsys, whole):
  workdir = tmp_path / 'out' / 'report'
  report_recipe.run(report_recipe.Config(), str(workdir), str(run_dir))
  names = {path.name for path in workdir.glob('[!.]*')}
  assert names == {'report.html', 'report.md', 'report.json'}
  record = json.loads((workdir / 'report.json').read_text())
  # Another folder with the same artifacts gives the same bytes.
  assert record == json.loads(json.dumps(whole[0]))
  assert (workdir / 'report.html').read_text() == whole[1]
  assert '| pretrain' in capsys.readouterr().out


def test_charts_have_a_look_of_their_own(tmp_path):
  """A matplotlibrc of the user's is not read.

  The parts that other recipes use do not load the libraries of the report.
  """
  program = (
    'import sys\n'
    'from llm_jax.report import artifacts, findings, tables\n'
    'assert not {"jinja2", "matplotlib"} & set(sys.modules)\n'
    'from llm_jax.report import charts\n'
    'print(charts.bars("h", "MB", [("a", 0.5, 0.25, "1")]).svg)\n'
  )
  (tmp_path / 'matplotlibrc').write_text('font.size: 40\nhatch.linewidth: 5')
  environment = {k: v for k, v in os.environ.items() if 'MPL' not in k}
  environment['PYTHONPATH'] = os.getcwd()
  shown = subprocess.run(
    [sys.executable, '-c', program],
    cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
  )  # fmt: skip
  assert shown.stderr == ''
  chart = page.charts.bars('h', 'MB', [('a', 0.5, 0.25, '1')])
  assert shown.stdout.strip() == chart.svg.strip()


def test_markdown_cells_cannot_break_the_table():
  table = tables.Table('c', ('a', 'b'), [('x|y', '<b>\nz\x1b')])
  lines = tables.markdown(table).splitlines()
  assert len(lines) == 3
  assert len({len(line) for line in lines}) == 1
  assert r'x\|y' in lines[2]
  assert r'&lt;b> z\x1b' in lines[2]


def test_a_probe_has_a_section_and_others_have_none(tmp_path):
  share = [0.971, 0.941, 0.986]
  judged = {'n_known': 99, 'n_unknown': 356, 'precision': None}
  judged |= dict.fromkeys(('recall', 'known_refused', 'known_right'), share)
  folder = tmp_path / 'run' / 'probe_joint'
  folder.mkdir(parents=True)
  (folder / 'run.json').write_text('{"stage": "probe"}')
  (folder / 'done.json').write_text('{}')
  found = {'held_out': {'says so': judged}, 'kinds': {}}
  (folder / 'probe.json').write_text(json.dumps(found))
  report = artifacts.collect(tmp_path / 'run')
  for made in page.html(report), page.markdown(report):
    assert 'What it knows' in made
    assert 'probe_joint: says so' in made
    assert '97.1' in made
  (folder / 'probe.json').write_text('{"held_out": {"says so": {"recall": 1}}}')
  report = artifacts.collect(tmp_path / 'run')
  assert any('probe_joint/probe.json' in text for text in report['missing'])
  assert 'What it knows' not in page.html(report)


def test_where_gold_turned_from_its_proxy_is_said(tmp_path):
  """Three seeds of a run that climbs, and what else was measured."""
  run = tmp_path / 'run'
  for seed in range(3):
    folder = run / f'rl_seed{seed}'
    folder.mkdir(parents=True)
    (folder / 'run.json').write_text('{"stage": "rl"}')
    (folder / 'done.json').write_text('{}')
    lines = [
      {
        'step': step + 1,
        'kl_of_answers': 0.25 * step,
        'reward_mean': 0.1 * step,
        'gold_mean': -1 + 0.1 * min(step, 40 - 2 * step) + 0.01 * (seed - 1),
      }
      for step in range(37)
    ]
    (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  rows = [
    {'name': 'best of n', 'kl': kl, 'proxy': gain, 'gold': gain - 1}
    for kl, gain in ((0, 0.0), (1, 1.0), (4, 1.6))  # d (1.2 - 0.2 d)
  ]
  (run / 'optimised.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  report = artifacts.collect(run)
  for made in page.html(report), page.markdown(report):
    assert 'Reward model and gold' in made
    assert 'rl: gold rises from -1.00 to 0.' in made
    assert 'there it turned, and ends at -3.80' in made
    assert 'below its start at √KL 2.92' in made
    assert (
      'best of n: gold rises from -1.00 to 0.60 at √KL 2.00; it ends' in made
    )
    assert 'd (a - b d), a = 1.20, b = 0.20' in made
  (run / 'optimised.jsonl').unlink()
  for seed in range(3):
    (run / f'rl_seed{seed}' / 'metrics.jsonl').write_text('{"step": 1}')
  report = artifacts.collect(run)
  assert 'Reward model and gold' not in page.html(report)
  assert 'Reward model and gold' not in page.markdown(report)
