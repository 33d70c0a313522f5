"""Nothing leaves the sandbox, and nothing passes without the work.

All attacks are run by whoever runs the tests, by nobody, and by nobody where
the kernel grants no namespaces; the result of each is a test of its own.
"""

import contextlib
import functools
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

import pytest

from llm_jax.verify.sandbox import kernel, sandbox, values
from tests.verify import sandbox_attack_run, sandbox_attacks

ROOT = pathlib.Path(__file__).resolve().parents[2]
_NOBODY = kernel.NOBODY
_WHO = (
  'self',
  pytest.param('nobody', marks=pytest.mark.nightly),
  pytest.param('nobody without namespaces', marks=pytest.mark.nightly),
)

if sys.platform != 'linux':
  pytest.skip('the sandbox needs Linux', allow_module_level=True)


@functools.cache
def _python_of_nobody() -> str | None:
  """A Python that nobody may execute: root's own may lie in a closed folder."""
  for path in (sys.executable, '/usr/bin/python3', '/usr/local/bin/python3'):
    try:
      subprocess.run(
        [path, '-c', 'import sys; assert sys.version_info >= (3, 11)'],
        check=True,
        user=_NOBODY,
        capture_output=True,
      )
      return path
    except (OSError, subprocess.CalledProcessError):
      continue
  return None


def _attack(who: str, *blocked: str) -> subprocess.CompletedProcess:
  """Runs all attacks, or what of them the start of a sandbox allows."""
  user, python = {}, sys.executable
  if who != 'self':
    if os.geteuid() != 0:
      pytest.skip('only root can become nobody')
    python = _python_of_nobody()
    if python is None:
      pytest.skip('there is no Python 3.11 that nobody may execute')
    user = {'user': _NOBODY, 'group': _NOBODY, 'extra_groups': []}
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder)
    shutil.copytree(ROOT / 'llm_jax' / 'verify', copy / 'llm_jax' / 'verify')
    (copy / 'tests' / 'verify').mkdir(parents=True)
    for path in (ROOT / 'tests' / 'verify').glob('sandbox_attack*'):
      shutil.copy(path, copy / 'tests' / 'verify')
    for path in (copy, *copy.rglob('*')):
      path.chmod(0o755 if path.is_dir() else 0o644)
    return subprocess.run(
      [python, '-m', sandbox_attack_run.__name__, *blocked],
      cwd=folder,
      env={'PATH': os.environ['PATH'], 'PYTHONPATH': folder},
      capture_output=True,
      text=True,
      check=False,
      timeout=250,
      **user,
    )


@functools.cache
def _prey(who: str) -> dict:
  blocked = ['unshare'] if who.endswith('without namespaces') else []
  done = _attack(who, *blocked)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def box():
  with contextlib.closing(sandbox.Sandbox(20.0)) as box:
    yield box


@pytest.mark.parametrize('who', _WHO)
@pytest.mark.parametrize(
  'name', [*sandbox_attacks.ESCAPES, *sandbox_attacks.HANGS]
)
def test_escape_is_stopped(who, name):
  assert _prey(who)['escapes'][name] == []


@pytest.mark.parametrize('who', _WHO)
@pytest.mark.parametrize('name', ['honest', *sandbox_attacks.FAKES])
def test_only_work_passes(who, name):
  assert _prey(who)['fakes'][name] == []


@pytest.mark.parametrize('who', _WHO)
def test_layers_are_said(who):
  prey = _prey(who)
  assert prey['user'] == (os.geteuid() if who == 'self' else _NOBODY)
  assert prey['layers'][:3] == ['landlock', 'seccomp', 'rlimits']
  if who.endswith('without namespaces'):
    assert len(prey['layers']) == 3


@pytest.mark.parametrize(
  ('blocked', 'reason'),
  [
    ('landlock', 'landlock: Function not implemented'),
    ('seccomp', 'seccomp: Function not implemented'),
  ],
)
def test_where_it_cannot_isolate_it_refuses(blocked, reason):
  done = _attack('self', blocked)
  assert done.returncode == 1
  last = done.stderr.strip().splitlines()[-1]
  assert 'no Python sandbox here: ' in last
  assert reason in last
  assert 'it needs Linux 5.13 or later on x86_64 or aarch64' in last


def test_what_holds_is_tried(monkeypatch):
  """A kernel that only says that it has a layer is refused too."""
  monkeypatch.setattr(sandbox, '_PROBE', 'def probe(): return ["landlock"]')
  with pytest.raises(OSError, match=r"\['landlock'\] did not hold; it needs"):
    sandbox.Sandbox()


def test_other_systems_are_refused(monkeypatch):
  monkeypatch.setattr(sys, 'platform', 'darwin')
  with pytest.raises(OSError, match='no Python sandbox on darwin; it needs'):
    sandbox.Sandbox()
  with pytest.raises(OSError, match='the calls of riscv64 are not known'):
    kernel.seccomp_program('riscv64')


def test_values_output_and_error(box):
  code = (
    'def f(x, y=0):\n'
    '  print("called", x)\n'
    '  if x == 3: raise KeyError(x)\n'
    '  return {x: (y, {1.5}, None)}\n'
  )
  done = box.run(code, 'f', [((1,), {}), (('é',), {'y': [True]})])
  assert done == sandbox.Execution(
    ({1: (0, {1.5}, None)}, {'é': ([True], {1.5}, None)}),
    'called 1\ncalled é\n',
    '',
  )
  done = box.run(code, 'f', [((1,), {}), ((3,), {}), ((1,), {})])
  assert done.values == ({1: (0, {1.5}, None)},)
  assert done.error == 'KeyError: 3'
  assert box.run('print(2 ** 10)').output == '1024\n'
  assert box.run('print(1', 'f').error.startswith('SyntaxError')
  assert box.run('\ud800', 'f').error.startswith('UnicodeEncodeError')
  with pytest.raises(ValueError, match='of type object, which is not plain'):
    box.run('', 'f', [((object(),), {})])


@pytest.mark.parametrize('kind', ['list', 'int', 'str', 'dict', 'float'])
def test_subclasses_are_refused(kind, box):
  code = f'class Own({kind}): pass\ndef f(): return [Own()]'
  done = box.run(code, 'f', [((), {})])
  assert done.values == ()
  assert done.error == (
    'ValueError: a value is of type Own, which is not plain'
  )


def test_the_same_program_does_the_same_again(box):
  code = (
    'import random\n'
    'def f(): return [random.random(), hash("a"), list({"a", "b", "c"})]'
  )
  first = box.run(code, 'f', [((), {})])
  assert first.error == ''
  assert box.run(code, 'f', [((), {})]) == first
  with contextlib.closing(sandbox.Sandbox()) as other:
    assert other.run(code, 'f', [((), {})]) == first


def test_library_is_there(box):
  """Also what was not loaded before, below packages that were."""
  code = (
    'import dataclasses, hashlib, json.tool, xml.etree.ElementTree, zoneinfo\n'
    'b"a".decode("utf-16-le", "replace"); "a".encode("cp037")\n'
    'def f(): return hashlib.sha256(b"abc").hexdigest()[:8]'
  )
  assert box.run(code, 'f', [((), {})]).values == ('ba7816bf',)


def test_many_threads_share_one_sandbox(box):
  def add(x):
    return box.run('def f(x): return x + 1', 'f', [((x,), {})]).values

  with futures.ThreadPoolExecutor(8) as threads:
    assert [*threads.map(add, range(40))] == [(x + 1,) for x in range(40)]


def test_close_leaves_nothing(monkeypatch):
  before = sandbox_attack_run.descendants()
  box = sandbox.Sandbox(20.0)
  caught = []

  def run():
    try:
      box.run('import time; print(1); time.sleep(600)')
      caught.append('done')
    except OSError as error:
      caught.append(error)

  thread = threading.Thread(target=run)
  thread.start()
  while len(sandbox_attack_run.descendants() - before) < 2:
    time.sleep(0.01)
  time.sleep(0.1)
  box.close()
  thread.join(10)
  assert not thread.is_alive()
  assert sandbox_attack_run.descendants() == before
  with pytest.raises(OSError, match='Bad file descriptor'):
    box.run('')


def test_server_ends_with_the_one_who_started_it():
  assert not sandbox_attack_run.outlives_its_parent(
    'from llm_jax.verify.sandbox import sandbox\nbox = sandbox.Sandbox()',
    pid='box._server.pid',
  )


VALUES = [
  None, True, 0, 10**30, -1.5, float('inf'), 1j, 'é\n', [], (), set(), {},
  frozenset({1}), [(1, {2: {3.5}}), {'a': [None]}], {(1, 2): 'x'},
  {'set': [1]},
]  # fmt: skip


@pytest.mark.parametrize('value', VALUES)
def test_values_come_back(value):
  line = values.dumps(values.encode(value))
  back = values.decode(values.loads(line))
  assert back == value
  assert type(back) is type(value)


HOSTILE = [
  b'', b'[', b'NaN', b'-Infinity', b'[' * 100_000, b'9' * 5000,
  b'{"set": [[]]}', b'{"set": 1}', b'{}', b'{"a": 1, "b": 2}',
  b'{"other": []}', b'{"dict": [[1]]}', b'{"dict": [[[], 1]]}',
  b'{"float": "x"}', b'{"float": []}', b'{"complex": [1]}',
  b'{"tuple": [{"tuple"', b'\xff', b'[' * 50 + b']' * 50,
  b'{"float": 1%s}' % (b'0' * 400), b'{"complex": [1%s, 0]}' % (b'0' * 400),
  b'{"float": 1, "float": [], "x": 1}', b'{"float": null}', b'{"list": [1]}',
]  # fmt: skip


@pytest.mark.parametrize('line', HOSTILE)
def test_hostile_lines_are_refused(line):
  with pytest.raises(ValueError, match='.'):
    values.decode(values.loads(line))


def test_nothing_that_is_written_as_a_result_raises(box):
  """What a prisoner can write to its judge: parts of messages, and noise."""
  draw = random.Random(0)
  parts = [
    b'{"value": ', b'{"error": ', b'{"done": true}', b'}', b'{"set": [', b']}',
    b'{"float": ', b'{"complex": [', b'{"dict": [[', b'{"tuple": ', b'[', b']',
    b'1' * 400, b'1' * 4999, b'1e999', b'-1.5', b'NaN', b'"inf"', b'null', b'"',
    b'"\\ud800"', b'\xff', b'\x00', b',', b':', b'[' * 600, b']' * 600, b'"1"',
    b'{"value": 1, "value": ', b'"e": ', b'[]', b'true', b'\n',
  ]  # fmt: skip
  lines = [
    b'{"value": {"float": 1%s}}' % (b'0' * 400),
    b'{"error": %s}' % (b'[' * 900 + b']' * 900),
    b'{"error": {"a": "\\ud800"}}',
    b'{"error": "\\ud800"}',
    b'{"value": "\\ud800"}\n{"done": 1}',
    b'{"value": {"set": "ab"}}\n' * 9,
  ]
  for _ in range(3000):
    lines.append(b''.join(draw.choices(parts, k=draw.randrange(1, 9))))
  for line in lines:
    found, error = sandbox._read(line + b'\n', 1)
    assert (len(found) == 1) or error
    error.encode()
  for line in lines[:9]:
    done = box.run(f'import os\nos.write(3, {line!r})\nos._exit(0)', 'f')
    assert done.output == ''
