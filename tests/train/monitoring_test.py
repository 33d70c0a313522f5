"""What is seen of a run: rates, lines, the bar, views and profiles."""

import contextlib
import gzip
import importlib
import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import termios
import time
import types

import pytest

from llm_jax import record
from llm_jax.train import hardware, monitoring, training_loop
from tests.train import tiny_run

ROOT = pathlib.Path(__file__).resolve().parents[2]


def watched(n_steps, **watch):
  return training_loop.LoopConfig(n_steps, watch=monitoring.Watch(**watch))


def test_rates_leave_out_compilation_evaluation_and_saving(monkeypatch):
  """Steps of 2 s; the first takes 60 s, an evaluation 7 s."""
  now = [1000.0]
  monkeypatch.setattr(time, 'monotonic', lambda: now[0])
  meter = monitoring.Meter(monitoring.Watch(log_every=4, peak_tflops=1e-9), 5.0)
  now[0] += 60
  assert meter.lap(100, 9, 2) == {}
  now[0] += 2
  # 100 tokens in 2 s, 5 operations each, two devices of 1000 a second.
  expected = {'tokens_per_s': 50.0, 'mfu': 0.125, 'eta_s': 16.0}
  assert meter.lap(100, 8, 2) == pytest.approx(expected)
  now[0] += 9
  meter.pause(7)
  expected |= {'eta_s': 11 / 2 * 7}
  assert meter.lap(100, 7, 2) == pytest.approx(expected)
  now[0] += 1
  assert meter.lap(100, 0, 2)['tokens_per_s'] == 200 / 3
  for _ in range(4):
    now[0] += 4
    values = meter.lap(100, 0, 2)
  assert values['tokens_per_s'] == 25.0  # the mean of log_every steps


def test_peaks():
  h100 = hardware.peak_flops('NVIDIA H100 80GB HBM3')
  assert h100 == 989.4e12
  # What JAX calls the v5e and the v5p.
  assert hardware.peak_flops('TPU v5 lite') == 197e12
  assert hardware.peak_flops('TPU v5') == 459e12
  assert hardware.peak_flops('cpu') is None


def test_cpu_has_no_mfu_unless_a_peak_is_given(tmp_path):
  for folder, peak in (('a', 0.0), ('b', 1e-6)):
    (tmp_path / folder).mkdir()
    cfg = watched(4, peak_tflops=peak)
    lines = tiny_run.finish(tmp_path / folder, cfg, flops_per_token=1e3)
    assert [line['step'] for line in lines] == [1, 2, 3, 4]
    assert 'tokens_per_s' not in lines[0]  # the one with the compilation
    last = lines[-1]
    assert last['tokens_per_s'] > 0
    assert last['eta_s'] == 0
    if peak:
      assert last['mfu'] == pytest.approx(last['tokens_per_s'] * 1e3 / 1e6)
    else:
      assert 'mfu' not in last


def test_line_of_all_numbers():
  values = {
    'data_wait_s': 0.0123, 'skipped': 0, 'eta_s': 3700.9, 'accuracy': 0.5,
    'bits_per_byte': 2.0664, 'loss': 3.5, 'grad_norm': 0.251, 'mfu': 0.4123,
    'tokens_per_s': 12345.6,
  }  # fmt: skip
  assert monitoring.line(7, 90, values) == (
    'step 7/90 | loss 3.5000 | 2.066 bits/byte | 12,346 tokens/s | MFU 41.2% '
    '| grad norm 0.251 | data wait 0.012 s | accuracy 0.5 | ETA 1:01:40'
  )
  assert 'skipped 2' in monitoring.line(7, 90, {'skipped': 2})
  assert 'wait' not in monitoring.line(7, 90, {'data_wait_s': 2e-5})


BAR = """
import time
from absl import logging
from experiments import process
from llm_jax.train import monitoring
process.set_up_logging(0)
with monitoring.progress_bar(monitoring.Watch(), 8) as draw:
  for step in range(1, 9):
    draw(step)
    time.sleep(0.11)
    if step == 4:
      logging.warning('a line')
"""


def test_bar_on_a_terminal_gives_way_to_lines():
  parent, child = pty.openpty()
  termios.tcsetwinsize(child, (24, 80))
  process = subprocess.Popen(
    [sys.executable, '-c', BAR], cwd=ROOT, stderr=child, close_fds=True
  )
  os.close(child)
  data = b''
  with contextlib.suppress(OSError):  # how Linux says that its end is closed
    while part := os.read(parent, 1000):
      data += part
  assert process.wait() == 0
  os.close(parent)
  text = data.decode()
  assert re.search('\r█+ 8/8\r +\r$', text)
  assert re.search(r' 4/8\r +\r\d\d:\d\d:\d\d a line\r\n\r█', text)


def test_no_bar_elsewhere(capsys):
  with monitoring.progress_bar(monitoring.Watch(), 8) as draw:
    draw(1)
  assert capsys.readouterr().err == ''


def test_profile_holds_the_steps_that_were_asked_for(tmp_path):
  tiny_run.finish(tmp_path, watched(9, profile_first=4, profile_steps=3))
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))
  (trace,) = (tmp_path / 'profile').rglob('perfetto_trace.json.gz')
  events = json.loads(gzip.decompress(trace.read_bytes()))
  events = events['traceEvents'] if isinstance(events, dict) else events
  numbers = {
    int(event['args']['step_num'])
    for event in events
    if event.get('name') == 'train'
  }
  assert numbers == {4, 5, 6}


def test_profile_is_written_where_the_run_ends_first(tmp_path):
  tiny_run.finish(tmp_path, watched(3, profile_first=3))
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_tensorboard(tmp_path):
  pytest.importorskip('tensorboardX')
  proto = importlib.import_module('tensorboardX.proto.event_pb2')
  cfg = watched(3, views=('tensorboard',))
  views = monitoring.open_views(cfg.watch, str(tmp_path), 4)
  lines = tiny_run.finish(tmp_path, cfg, views=views)
  (path,) = (tmp_path / 'tensorboard').iterdir()
  content, shown, purged = path.read_bytes(), [], []
  while content:  # length, its checksum, the event, its checksum
    n = int.from_bytes(content[:8], 'little')
    event = proto.Event.FromString(content[12 : 12 + n])
    content = content[16 + n :]
    if event.session_log.status:
      purged.append(event.step)  # what is shown from this step on goes
    shown += [
      (event.step, value.tag, value.simple_value)
      for value in event.summary.value
    ]
  expected = [
    (line['step'], tag, pytest.approx(value, rel=1e-6))
    for line in lines
    for tag, value in line.items()
    if tag != 'step'
  ]
  assert shown == expected
  assert purged == [5]


def test_wandb_goes_on_with_the_same_run(tmp_path, monkeypatch):
  """The package is replaced: it wants an account, or a folder of its own."""
  begun, logged = [], []
  log = lambda values, step: logged.append((step, values))  # noqa: E731

  def init(**arguments):
    begun.append(arguments)
    return types.SimpleNamespace(log=log)

  monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=init))
  cfg = watched(300, views=('wandb',))
  for n in range(2):
    record.begin(tmp_path, 'test', cfg)
    (view,) = monitoring.open_views(cfg.watch, str(tmp_path), n)
    view.write(n, {'loss': 1.5, 'grad_norm': None})
  assert logged == [(0, {'loss': 1.5}), (1, {'loss': 1.5})]
  assert begun[0] == begun[1]
  assert begun[0]['config']['n_steps'] == 300
  assert begun[0]['resume'] == 'allow'


@pytest.mark.parametrize(
  ('view', 'package'), [('tensorboard', 'tensorboardX'), ('wandb', 'wandb')]
)
def test_missing_package_is_named(view, package, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, package, None)
  cfg = watched(3, views=(view,))
  record.begin(tmp_path, 'test', cfg)
  with pytest.raises(ValueError, match=rf"{package}; .*'\.\[{view}\]'"):
    monitoring.open_views(cfg.watch, str(tmp_path), -1)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'log_every': 0}, 'log_every = 0; use 1 or more'),
    ({'views': ('tensorbord',)}, "names 'tensorbord'; use tensorboard or wa"),
    ({'profile_first': -1}, 'profile_first = -1; use 0'),
    ({'hang_s': 0.0}, r'hang_s = 0\.0 seconds'),
  ],
)
def test_wrong_values(fields, message):
  with pytest.raises(ValueError, match=message):
    monitoring.Watch(**fields)


def test_a_resume_may_watch_otherwise(tmp_path):
  record.begin(tmp_path, 'test', watched(300))
  record.begin(tmp_path, 'test', watched(300, log_every=1, views=('wandb',)))
  with pytest.raises(ValueError, match='n_steps: 300 -> 2'):
    record.begin(tmp_path, 'test', watched(2))
