"""tpu_pod.sh and slurm.sh: what they would run, and what follows from failure.

No cloud and no cluster: dry runs are read, and loops are run with programs
that stand in for gcloud, srun and the like and write down how they are called.
"""

import os
import pathlib
import shlex
import shutil
import subprocess

import pytest

from tests import shell

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECIPE = (
  'experiments.pretrain', '--workdir', 'runs/8b', '--gin_bindings',
  "Config.sources = ('it''s',)",
)  # fmt: skip
POD = {
  'TPU_NAME': 'pod',
  'TPU_ZONE': 'z',
  'TPU_TYPE': 'v5litepod-256',
  'TPU_SHARE': '10.0.0.2:/share',
}


def call(folder, script, *words, **environment):
  return shell.call(folder, f'tools/{script}', *words, **environment)


def dry_run(script, *words, **environment):
  """The printed commands as lists of words."""
  done = call(ROOT, script, '--dry_run', *words, **environment)
  assert done.returncode == 0, done.stderr
  checked = subprocess.run(
    ['/bin/bash', '-n'], input=done.stdout, text=True, check=False
  )
  assert checked.returncode == 0
  # bash itself takes its quotes off again: $'...' is not known to shlex.
  printed = subprocess.run(
    ['/bin/bash', '-c', 'while read -r line; do eval "set -- $line"; '
     "printf '%s\\0' \"$@\"; printf '\\n\\0'; done"],
    input=done.stdout,
    capture_output=True,
    text=True,
    check=True,
  ).stdout  # fmt: skip
  return [
    line.split('\0')[:-1] for line in printed.split('\n\0') if line.strip('\0')
  ]


def verbs(commands):
  known = ('create', 'delete', 'scp', 'ssh', 'describe')
  return [next((w for w in words if w in known), '') for words in commands]


def option(words, name):
  return words[words.index(name) + 1]


def remote(commands):
  """The scripts that run on the hosts; each is one that bash can parse."""
  scripts = [
    option(words, '--command') for words in commands if '--command' in words
  ]
  for script in scripts:
    subprocess.run(['/bin/bash', '-n', '-c', script], check=True)
  return scripts


class TestTpuPod:
  def test_all(self):
    commands = dry_run('tpu_pod.sh', 'all', *RECIPE, **POD)
    assert [v for v in verbs(commands) if v] == [
      *('create', 'scp', 'ssh', 'ssh'),  # create, install, launch
      *('ssh', 'delete', 'create', 'scp', 'ssh', 'ssh'),  # watch
      *('scp', 'delete'),  # collect, delete
    ]
    create = commands[0]
    assert option(create, '--accelerator-type') == 'v5litepod-256'
    assert option(create, '--runtime-version') == 'v2-alpha-tpuv5-lite'
    assert option(create, '--node-id') == 'pod'
    assert '--spot' in create
    install, launch, is_done, *_ = remote(commands)
    assert 'mount -t nfs 10.0.0.2:/share runs' in install
    assert "--editable '.[tpu]'" in install
    assert is_done == 'test -e llm_jax/runs/8b/done.json'
    started = next(
      line for line in launch.splitlines() if line.startswith('setsid')
    )
    # What the host's shell makes of the line is what was asked for.
    words = shlex.split(started.split('>>')[0])
    assert words[3:] == ['-m', *RECIPE, '--distributed', 'auto']

  def test_slices(self):
    commands = dry_run('tpu_pod.sh', 'install', TPU_SLICES='2', **POD)
    assert sum('pod-0' in words for words in commands) == 1
    assert sum('pod-1:' in words for words in commands) == 1
    (create,) = dry_run('tpu_pod.sh', 'create', TPU_SLICES='2', **POD)
    assert option(create, '--node-count') == '2'
    assert option(create, '--node-prefix') == 'pod'

  @pytest.mark.parametrize('action', ['follow', 'stop', 'delete'])
  def test_one_command(self, action):
    (words,) = dry_run('tpu_pod.sh', action, **POD)
    assert words[:4] == ['gcloud', 'alpha', 'compute', 'tpus']

  @pytest.mark.parametrize(
    ('words', 'environment', 'message'),
    [
      (['all', 'experiments.sft'], POD, 'needs --workdir'),
      (['creat'], POD, 'It does one of'),
      ([], POD, 'It does one of'),
      (['create'], POD | {'TPU_TYPE': 'v99-8'}, 'set TPU_VERSION'),
      (['create'], POD | {'TPU_SHARE': ''}, 'TPU_SHARE: an NFS share'),
    ],
  )
  def test_mistakes(self, words, environment, message):
    done = call(ROOT, 'tpu_pod.sh', '--dry_run', *words, **environment)
    assert done.returncode
    assert message in done.stderr
    assert not done.stdout


def stand_in(folder, name, text):
  log = f'#!/bin/bash\necho "{name} $*" >>{folder}/log\n'
  shell.executable(folder / 'bin' / name, f'{log}{text}\n')


@pytest.fixture
def copy(tmp_path):
  shutil.copytree(ROOT / 'tools', tmp_path / 'tools')
  stand_in(tmp_path, 'sleep', '')
  stand_in(tmp_path, 'git', '')
  return tmp_path


def call_there(copy, script, *words, **environment):
  path = f'{copy / "bin"}:{os.environ["PATH"]}'
  done = call(copy, script, *words, PATH=path, **environment)
  return done, (copy / 'log').read_text()


# $1.. of gcloud; a file holds what the cloud looks like.
_GCLOUD = """
cd {folder}
case "$*" in
  *describe*) cat state ;;
  *"resources delete"*) echo NONE >state ;;
  *"resources create"*) echo ACTIVE >state ;;
  *test\\ -e*) [ -e done ] ;;
  *setsid*) echo start >>starts; touch {after_start} ;;
  *kill\\ -0*) [ -e running ] ;;
esac
"""


def watch(copy, state, after_start):
  """Watches a pod in a state, where a start leaves these files."""
  text = _GCLOUD.format(folder=copy, after_start=after_start)
  stand_in(copy, 'gcloud', text)
  (copy / 'state').write_text(state)
  return call_there(copy, 'tpu_pod.sh', 'watch', *RECIPE, **POD)


@pytest.mark.parametrize('state', ['SUSPENDED', 'ACTIVE'])
def test_watch_starts_again_what_was_taken_away_or_died(copy, state):
  done, log = watch(copy, state, after_start='running done')
  assert done.returncode == 0, done.stderr
  assert (copy / 'starts').read_text() == 'start\n'
  for step in ('resources delete', 'resources create', '.[tpu]'):
    assert (step in log) == (state == 'SUSPENDED'), step


def test_watch_leaves_a_running_recipe_alone(copy):
  slept = f'[ -e {copy}/slept ] && touch {copy}/done\ntouch {copy}/slept'
  stand_in(copy, 'sleep', slept)
  (copy / 'running').touch()
  done, log = watch(copy, 'ACTIVE', after_start='running')
  assert done.returncode == 0, done.stderr
  assert 'setsid' not in log


def test_watch_gives_up_on_a_recipe_that_always_dies(copy):
  done, _ = watch(copy, 'ACTIVE', after_start='nothing')
  assert done.returncode == 1
  assert 'started 20 times and not done' in done.stderr
  assert len((copy / 'starts').read_text().splitlines()) == 20


class TestSlurm:
  def test_launch(self):
    _, queue, run, again = dry_run(
      'slurm.sh', 'launch', *RECIPE, SLURM_NODES='2', SLURM_OPTIONS='-p gpu'
    )
    assert queue[0] == 'sbatch'
    assert option(queue, '--nodes') == '2'
    assert option(queue, '--ntasks-per-node') == '8'
    assert option(queue, '--gpus-per-node') == '8'
    assert option(queue, '-p') == 'gpu'
    assert '--requeue' in queue
    assert queue[-len(RECIPE) - 2 :] == ['tools/slurm.sh', 'inside', *RECIPE]
    assert run[:2] == ['srun', '--kill-on-bad-exit=1']
    assert run[-len(RECIPE) - 3 :] == ['-m', *RECIPE, '--distributed', 'auto']
    assert again == ['scontrol', 'requeue', 'JOB']

  @pytest.mark.parametrize(
    ('code', 'is_done', 'is_queued_again'),
    [(0, False, True), (0, True, False), (1, False, False)],
  )
  def test_requeue(self, copy, code, is_done, is_queued_again):
    """Only a recipe that saved and is not done is queued again."""
    stand_in(copy, 'srun', f'exit {code}')
    stand_in(copy, 'scontrol', '')
    if is_done:
      (copy / 'runs/8b').mkdir(parents=True)
      (copy / 'runs/8b/done.json').touch()
    done, log = call_there(
      copy, 'slurm.sh', 'inside', *RECIPE, SLURM_JOB_ID='7'
    )
    assert done.returncode == code
    assert ('scontrol requeue 7' in log) == is_queued_again

  def test_others(self):
    assert dry_run('slurm.sh', 'install')[1][-1] == '.[cuda]'
    assert dry_run('slurm.sh', 'follow', 'runs/x')[0][-1] == 'runs/x/slurm.log'
    keep, stop = dry_run('slurm.sh', 'stop', '7')
    assert keep[-1] == 'requeue=0'
    assert stop == ['scancel', '--signal', 'TERM', '7']
    (copied,) = dry_run('slurm.sh', 'collect', 'a', 'b', SLURM_HOST='h')
    assert copied[-2:] == ['h:a/', 'b/']

  def test_mistakes(self):
    for words in ([], ['launc'], ['stop']):
      done = call(ROOT, 'slurm.sh', *words)
      assert done.returncode == 2
      assert 'It does one of' in done.stderr
    assert call(ROOT, 'slurm.sh', '--dry_run', 'launch', 'x').returncode == 2
